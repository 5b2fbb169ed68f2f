//! Health and load steer: real brokers and web servers behind a VIP fall silent, are loaded, die and come back.
//!
//! Each test has a network of its own and needs root, nginx and Mosquitto; `cargo xtask setup` installs them.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod drain;
mod empty;
mod failover;
mod fixture;
mod frozen;
mod loaded;
mod moving;
mod shedding;
mod tunnel;
