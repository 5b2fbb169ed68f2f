//! Measures the load of a host, a container or a process.
//!
//! [`cgroup`], [`cpu`], [`network`] and [`descriptors`] parse the kernel's text files and compare counters.
//! [`Sampler`] reads the files and takes one sample. [`Samples`] takes one once an interval.

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
