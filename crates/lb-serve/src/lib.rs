//! Code that all servers of this project share: listeners, TLS, proofs of who calls, HTTP, metrics, the log, shutdown, and the
//! watch over their vital parts.

pub mod auth;
pub mod calls;
mod connections;
pub mod http;
mod listen;
mod log;
mod message;
pub mod metrics;
pub mod panics;
mod peer;
mod shutdown;
pub mod tls;
pub mod vital;
pub mod watchdog;

pub use connections::{Accept, Counted, MAX_CONNECTIONS, incoming};
pub use listen::{Endpoint, ListenError, Listener, Socket, UnixSocket};
pub use log::log_to_stderr;
pub use message::message;
pub use peer::{HasPeer, Peer};
pub use shutdown::{stopped, watch_servers};
