//! Testbeds: networks made of namespaces, real servers and real clients, and the project's own programs running
//! where an operator would run them.
//!
//! A value owns everything it sets up and removes it when it is dropped: dropping a [`Namespace`] ends the processes
//! in it, dropping an [`Agent`] detaches its programs. Namespaces have no name on the machine, so the kernel removes
//! them even if the test process is killed with SIGKILL.

mod agent;
mod authority;
mod binaries;
mod cgroup;
pub mod client;
mod command_tree;
mod controller;
mod freeze;
mod guest;
pub mod harness;
pub mod model;
mod namespace;
mod network;
mod owner;
mod packet_socket;
mod pass;
mod process;
mod real;
pub mod server;
mod small_disk;
mod switch;
mod testbed;
mod wait;

pub use agent::{Agent, AgentOptions, XdpMode};
pub use authority::Authority;
pub use binaries::binary;
pub use cgroup::{Cgroup, Limits};
pub use command_tree::command_tree;
pub use controller::{Controller, processes_of, remove_groups, running_of};
pub use freeze::freeze_threads;
pub use guest::guest;
pub use namespace::Namespace;
pub use network::{Host, Network, RoutedNetwork};
pub use owner::owner;
pub use packet_socket::PacketSocket;
pub use process::Process;
pub use real::Real;
pub use small_disk::SmallDisk;
pub use switch::{Switch, cable, cable_without_xdp};
pub use testbed::{Backend, Testbed, vip_target};
pub use wait::wait_for;
