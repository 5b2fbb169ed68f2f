//! Measures how loaded a host, a container or a process is.
//!
//! [`cgroup`], [`cpu`], [`network`] and [`descriptors`] read texts and compare numbers; [`Sampler`] reads the
//! files; [`Samples`] takes a sample once an interval.

pub mod cgroup;
pub mod cpu;
pub mod descriptors;
mod file;
mod host;
pub mod network;
mod sample;
mod sampler;
mod samples;
mod subject;

#[doc(hidden)]
pub use sample::example;
pub use sample::{Sample, Source};
pub use sampler::Sampler;
pub use samples::{MAX_INTERVAL, MIN_INTERVAL, Newest, Samples};
pub use subject::Subject;
