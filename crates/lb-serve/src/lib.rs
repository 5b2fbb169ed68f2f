//! What every server of this project shares: where it listens, how it serves HTTP and metrics, and how it ends.

mod connections;
pub mod http;
mod listen;
pub mod metrics;
mod shutdown;

pub use connections::{Accept, Counted, MAX_CONNECTIONS, incoming};
pub use listen::{Endpoint, ListenError, Listener, Socket, SocketFile};
pub use shutdown::stopped;
