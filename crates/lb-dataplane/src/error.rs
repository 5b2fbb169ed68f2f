//! What can fail.

use lb_model::vip::{RealId, VipKey};

/// What can fail. The messages are for operators: what failed, on what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// A table has no room; nothing was changed.
    #[error("the {table} table is full ({capacity} entries); {advice}")]
    Full {
        /// Its name.
        table: &'static str,
        /// Entries there is room for.
        capacity: u64,
        /// What to do.
        advice: &'static str,
    },
    /// The named interface is not attached.
    #[error("the interface {name} is not attached; attached are {attached}")]
    NoInterface {
        /// The name.
        name: String,
        /// The names of the attached interfaces.
        attached: String,
    },
    /// No packet of this interface meets the program.
    #[error("packets of {name} are not forwarded: {reason}")]
    NotAttached {
        /// The name.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The frame cannot be simulated.
    #[error("a frame of {length} bytes cannot be simulated; give one of {min} to {max} bytes")]
    FrameLength {
        /// Its length.
        length: usize,
        /// Length of the shortest frame that can.
        min: usize,
        /// Length of the longest frame that can.
        max: usize,
    },
    /// A capture runs already.
    #[error("a capture runs already, and there is one at a time; wait for its end, or end it")]
    CaptureRuns,
    /// A real that is an address of this host.
    #[error(
        "the real {real} of {vip} is an address of this host, so packets for it would not leave it; give the VIP another \
         real, or let the server run with an address of its own: on another host, in a container or in a network namespace"
    )]
    OwnAddress {
        /// Its service.
        vip: VipKey,
        /// Its address.
        real: RealId,
    },
    /// Flows of this real cannot be reset.
    #[error("flows of the real {real} of {vip} cannot be shed: {reason}")]
    CannotShed {
        /// Its service.
        vip: VipKey,
        /// Its address.
        real: RealId,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// An operation failed, most often a system call.
    #[error("{operation}: {source}")]
    System {
        /// What was tried, on what.
        operation: String,
        /// Why it failed, and what to do if that is known.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// For `map_err`: names the operation and keeps the cause.
pub(crate) fn system<E>(operation: impl Into<String>) -> impl FnOnce(E) -> DataplaneError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let operation = operation.into();
    move |error| DataplaneError::System {
        operation,
        source: error.into(),
    }
}
