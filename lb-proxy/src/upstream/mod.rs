//! Connections to instances.

mod connect;
mod pool;

pub use connect::{ConnectError, Connection, Connector};
pub use pool::{Pool, Stream as SharedStream, number_thread};
