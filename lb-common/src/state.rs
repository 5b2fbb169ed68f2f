//! What a program has for itself, beside the tables that it shares with others.

use crate::{error_limits::ErrorLimits, station::Station};

/// Name of the kernel's map of it: the program's section of zeroed data, one entry. It is not pinned, because each
/// agent loads programs of its own.
pub const MAP: &str = ".bss";

/// The state of a program. All zero, it takes frames for any station and has sent no error.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct State {
    /// Written by the agent.
    pub station: Station,
    /// Written by the program.
    pub error_limits: ErrorLimits,
}

impl State {
    /// All zero.
    #[must_use]
    pub const fn new() -> State {
        State {
            station: Station::new(),
            error_limits: ErrorLimits::new(),
        }
    }
}
