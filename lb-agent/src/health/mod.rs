//! Is a real alive? Probes ask it, and what they find makes its state. [`spec`] says what is asked.

pub mod spec;
