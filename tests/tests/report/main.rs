//! `lb-agent report` beside real things: control groups of this machine's kernel, a Mosquitto broker, and
//! containers of a Docker engine of the test's own.
//!
//! Needs root, control groups with the CPU and memory controllers, Mosquitto and a Docker engine; `cargo xtask setup`
//! installs them.

mod docker;
mod limits;
mod mqtt;
mod reporter;
