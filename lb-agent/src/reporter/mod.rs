//! `lb-agent report`: a host, a container or a process tells how loaded it is, over gRPC, HTTP and MQTT.
//!
//! `lb_report` measures; [`run`] serves and publishes what it measured.

mod grpc;
mod http;
mod metrics;
mod publisher;
mod run;

pub use publisher::{Broker, Publication, Topic};
pub use run::{Options, run};
