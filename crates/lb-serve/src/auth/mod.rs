//! How a caller proves who it is: HTTP Digest (RFC 7616) and bearer tokens (RFC 6750). Who that is, and what it may do, is
//! decided elsewhere.
//!
//! All of this is pure but for random numbers; times are handed in.

pub mod digest;
mod header;
mod nonces;
mod token;

pub use header::{Credentials, HeaderError, credentials};
pub use nonces::{NONCE_LIFE, Nonces, Verdict};
pub use token::{Token, TokenError};

/// So many random bytes.
///
/// # Panics
/// If the system has no random numbers: nothing may be made without them.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    bytes
}
