//! The kernel's data plane, in namespaces of its own.

#![expect(
    clippy::unwrap_used,
    reason = "test helpers; what fails here fails the test"
)]

mod bench;
mod foreign;
mod kernel;
mod killed;
mod migration;
mod traffic;
