//! `lb-agent report`: a host, a container or a process tells how loaded it is, over gRPC, HTTP and MQTT.
//!
//! [`cgroup`], [`cpu`], [`network`] and [`descriptors`] read texts and compare numbers; [`Sampler`] reads the
//! files; [`run`] serves and publishes what it finds.

pub mod cgroup;
mod connections;
pub mod cpu;
pub mod descriptors;
mod file;
mod grpc;
mod host;
mod http;
mod metrics;
pub mod network;
mod publisher;
mod run;
mod sample;
mod sampler;
mod samples;
mod subject;

pub use publisher::{Broker, Publication, Topic};
pub use run::{Options, run};
pub use sample::{Sample, Source};
pub use sampler::Sampler;
pub use samples::{MAX_INTERVAL, MIN_INTERVAL, Newest};
pub use subject::Subject;
