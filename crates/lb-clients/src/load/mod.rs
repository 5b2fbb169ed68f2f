//! How loaded is a real? Readers ask brokers, web servers and hosts. [`spec`] says what is read where.

pub mod combine;
pub mod exposition;
pub mod expression;
pub mod plausible;
pub mod reader;
pub mod reading;
pub mod spec;
