//! What every server of this project shares: where it listens, and how it ends.

mod listen;
mod shutdown;

pub use listen::{Endpoint, ListenError, Listener, Socket, SocketFile};
pub use shutdown::stopped;
