//! Metrics in the formats that Prometheus reads.
//!
//! A program declares each metric once, as a [`Family`], and writes the samples of a snapshot with a [`Writer`]. The
//! text has the series of the snapshot and no others, so series of a deleted object end with the next scrape. [`rules`]
//! has the allowed names and labels; [`reference`](reference::table) generates the table for the documentation.

mod exposition;
mod family;
mod histogram;
pub mod reference;
pub mod rules;

pub use exposition::{Format, Samples, Snapshot, Value, Writer, render};
pub use family::{Family, Kind, Labels, Unit};
pub use histogram::Histogram;
