//! Load of reals, read from brokers, web servers and hosts.
//!
//! [`config`] describes the sources of load, [`reader`] reads them, [`plausibility`] drops values that cannot be true,
//! and [`combine`] makes one load of several sources.

pub mod combine;
pub mod config;
pub mod exposition;
pub mod expression;
pub mod plausibility;
pub mod reader;
pub mod reading;
