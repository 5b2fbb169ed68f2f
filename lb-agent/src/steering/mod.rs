//! Health, load and what the operator wants → weights. Pure: state, readings and a clock in, weights out.

pub mod spec;
