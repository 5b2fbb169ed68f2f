//! Real clients, the balancer, real servers: what an operator sees.
//!
//! Each test has a network of its own and needs root, nginx, Mosquitto, ip and ethtool; `cargo xtask setup`
//! installs them.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod attach;
mod balance;
mod beside;
mod changes;
mod counters;
mod fixture;
mod forwarding;
mod kernel_log;
mod long_lived;
mod migration;
mod numbered;
mod ondown;
mod refusals;
mod restart;
mod routed;
mod simulate;
