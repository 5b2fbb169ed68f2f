//! Commands and environments, purely: no clock, no thread, no store.
//!
//! - [`queue`]: the queue of commands. Each function is a step: it takes the time as an argument, changes the queue, and notes the
//!   records that have changed. Whoever calls it stores them before anything is done about them.
//! - [`environment`]: groups of pools and load balancers. What follows from an order about one is a tree of commands, which the
//!   handlers of its members shape.

#![forbid(unsafe_code)]

pub mod command;
pub mod environment;
pub mod queue;
