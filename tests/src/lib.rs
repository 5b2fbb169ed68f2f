//! The laboratory: networks made of namespaces, real servers and real clients, and the project's own
//! programs in the places they are made for.
//!
//! Everything is owned by a value and goes with it: dropping a [`Namespace`] ends what runs in it, dropping
//! an [`Agent`] detaches its programs. Namespaces have no name on the machine, so even a laboratory that is
//! killed with signal 9 leaves no network behind.

mod agent;
mod binaries;
mod cgroup;
pub mod client;
pub mod model;
mod namespace;
mod pass;
mod process;
mod real;
pub mod server;
mod site;
mod switch;
mod wait;

pub use agent::{Agent, AgentOptions, XdpMode};
pub use binaries::binary;
pub use cgroup::{Cgroup, Limits};
pub use namespace::Namespace;
pub use process::Process;
pub use real::Real;
pub use site::{Host, RoutedSite, Site};
pub use switch::{Switch, cable};
pub use wait::wait_for;
