//! One-time tokens: what makes a machine a host.
//!
//! A token holds a secret, of which the controller stores the digest, and the digest of the certificate of the controller's
//! authority: the host knows by it that it talks to the controller that the operator means.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;

/// What a token begins with, so that it is recognised where it should not be.
const PREFIX: &str = "lbhost1-";
const SECRET: usize = 24;
const DIGEST: usize = 32;

/// A SHA-256 digest.
pub type Digest = [u8; DIGEST];

/// The SHA-256 digest of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    let mut sum = [0; DIGEST];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: [u8; SECRET],
    authority: Digest,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token; give what `lbctl host token` prints, the whole line")]
pub struct TokenError;

impl Token {
    /// A token that nobody has, for the controller whose authority has this certificate (DER).
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(authority: &[u8]) -> std::io::Result<Self> {
        let mut secret = [0; SECRET];
        getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
        Ok(Token {
            secret,
            authority: digest(authority),
        })
    }

    /// What the controller stores of it, in hexadecimal digits.
    #[must_use]
    pub fn key(&self) -> String {
        hex::encode(digest(&self.secret))
    }

    /// Whether it is for the controller whose authority has this certificate (DER).
    #[must_use]
    pub fn is_for(&self, authority: &[u8]) -> bool {
        digest(authority) == self.authority
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(SECRET + DIGEST);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.authority);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(TokenError)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError)?;
        let (secret, authority) = bytes.split_at_checked(SECRET).ok_or(TokenError)?;
        Ok(Token {
            secret: secret.try_into().map_err(|_| TokenError)?,
            authority: authority.try_into().map_err(|_| TokenError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_known() {
        let token = Token::new(b"one").unwrap();
        let text = token.to_string();
        assert!(text.starts_with("lbhost1-"));
        let read: Token = format!(" {text}\n").parse().unwrap();
        assert_eq!(read, token);
        assert_eq!(read.key(), token.key());
        assert!(read.is_for(b"one") && !read.is_for(b"two"));
        assert_ne!(Token::new(b"one").unwrap().key(), token.key());
        for bad in [
            "",
            "lbhost1-",
            &text[1..],
            &text[..text.len() - 4],
            "lbhost1-?",
        ] {
            bad.parse::<Token>().expect_err(bad);
        }
        // It does not get into logs by mistake.
        assert_eq!(format!("{token:?}"), "Token");
    }
}
