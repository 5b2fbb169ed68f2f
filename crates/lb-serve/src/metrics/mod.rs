//! Metrics in the formats that Prometheus reads.
//!
//! A program declares each metric once, as a [`Family`], and writes the samples of a snapshot with a [`Writer`]. What
//! is not in the snapshot is not in the text: series of a deleted object end with the next scrape. [`rules`] says
//! which names and labels are allowed; [`reference`](reference::table) makes the table for the documentation.

mod exposition;
mod family;
mod histogram;
pub mod reference;
pub mod rules;

pub use exposition::{Format, Samples, Snapshot, Value, Writer, render};
pub use family::{Family, Kind, Labels, Unit};
pub use histogram::Histogram;
