//! Connections to what probes and readers ask: bounded in time and size, over TCP or TLS.
//!
//! A [`Deadline`] covers a whole exchange, from the first packet to the last byte. [`connect`] gives a plain
//! connection, [`TlsClient`] wraps one, [`http`] asks over either, an
//! [`HttpEndpoint`](http_endpoint::HttpEndpoint) is a server that is asked again and again, and [`mqtt`] holds sessions
//! with brokers. Errors are texts for operators.

mod deadline;
pub mod descriptors;
mod error;
pub mod fields;
mod file;
pub mod grpc;
pub mod http;
pub mod http_endpoint;
pub mod mqtt;
pub mod proxy;
pub mod secret;
mod stream;
mod target;
pub mod tls;

pub use deadline::Deadline;
pub use error::PeerError;
pub use stream::Stream;
pub use target::{Closing, Target, connect};
pub use tls::TlsClient;

pub use lb_model::peer::{Secret, Tls};
