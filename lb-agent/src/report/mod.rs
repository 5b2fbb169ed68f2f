//! `lb-agent report`: a host, a container or a process tells how loaded it is, over gRPC, HTTP and MQTT.
//!
//! [`cgroup`], [`cpu`], [`network`] and [`descriptors`] read texts and compare numbers; [`sampler`] does the
//! reading of files.

pub mod cgroup;
pub mod cpu;
pub mod descriptors;
mod file;
mod host;
pub mod network;
mod sample;
mod sampler;
mod subject;

pub use sample::{Sample, Source};
pub use sampler::Sampler;
pub use subject::Subject;
