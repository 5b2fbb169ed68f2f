//! Load of reals, read from brokers, web servers and hosts.
//!
//! [`lb_model::load::LoadSource`] describes a source of load, [`reader`] reads it, [`plausibility`] drops values that
//! cannot be true, and [`combine`] makes one load of several sources.

pub mod combine;
pub mod counter;
pub mod exposition;
pub mod expression;
pub mod plausibility;
pub mod pointer;
pub mod reader;
pub mod reading;
pub mod values;
