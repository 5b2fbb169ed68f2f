//! Operates the instances of pools behind one trait, [`Driver`].
//!
//! What a driver *lists* is the truth, by the label of its owner; every other call is idempotent by the instance's name, so
//! that a controller that was killed asks again. A driver is a file or folder, and a line in [`DRIVERS`].
//!
//! - `process`: programs of this machine, each in a session and a control group of its own;
//! - `docker`: containers of a Docker engine or of Podman;
//! - `qemu`: virtual machines;
//! - `exec`: whatever a program operates that speaks JSON.
//!
//! Instances with an address of their own are connected to a bridge from outside (`network`), containers and processes
//! alike, so that an unmodified program can be a real of a VIP.

#![deny(unsafe_code)]

mod bounded;
pub mod docker;
mod driver;
mod error;
pub mod exec;
mod first;
mod folder;
mod group;
mod instances;
mod network;
pub mod process;
pub mod qemu;
mod registry;
mod spawn;

pub use bounded::Bounded;
pub use driver::{Capabilities, Command, Driver, Hint, Listed, MAX_OUTPUT, Output, Phase};
pub use error::{DriverError, ErrorCode};
pub use network::{bridge, host_interface};
pub use registry::{DRIVERS, OpenError, Owned, open};
