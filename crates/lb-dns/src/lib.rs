//! Names of load balancers in DNS: `LB.PROJECT.ZONE`.
//!
//! - [`Zone`] says which addresses each name has. It is pure: what is set is what [`Zone::lookup`] answers, and each change
//!   has a later [`Serial`].
//! - [`Server`] answers for a zone by UDP and TCP, from a snapshot that is swapped as a whole ([`SharedZone`]).
//! - [`Push`] brings the names to a server that exists already, by signed updates (RFC 2136, RFC 8945).
//!
//! The form of messages is hickory-proto's. The sockets are this crate's own: hickory-server's loops bound neither
//! connections nor queries, spin when the process has no file descriptor left, count no malformed query, and log the
//! address of each client.

#![forbid(unsafe_code)]

mod answer;
mod counters;
mod limiter;
mod push;
mod serial;
mod server;
mod zone;

pub use counters::{Counters, Counts};
pub use lb_model::dns::{Addresses, DnsPush, DnsSpec, DomainName, Label, RecordName};
pub use push::{Key, KeyError, Outcome, Push, PushError, Report};
pub use serial::Serial;
pub use server::{ServeError, Server, SharedZone};
pub use zone::{Lookup, Zone};
