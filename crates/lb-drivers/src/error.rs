//! Why a call of a driver failed.

use std::time::Duration;

use lb_model::pool::InstanceName;

/// Why a call of a driver failed. The text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// There is no such instance.
    #[error("there is no instance {0}")]
    NotFound(InstanceName),
    /// Something of this name exists that is not ours. It is never touched.
    #[error(
        "{what} is named {name} and does not belong to this controller; rename it, or rename the pool"
    )]
    Foreign {
        /// The name.
        name: InstanceName,
        /// What has the name: `a container`.
        what: &'static str,
    },
    /// The machine or the engine has no room for another instance.
    #[error("no room for {name}: {why}")]
    NoRoom {
        /// The instance.
        name: InstanceName,
        /// What is missing.
        why: String,
    },
    /// What was asked for cannot be made, however often it is asked for: an image or a program does not exist.
    #[error("{name} cannot be made: {why}")]
    Invalid {
        /// The instance.
        name: InstanceName,
        /// What is wrong.
        why: String,
    },
    /// The driver cannot do that.
    #[error("the driver {driver} cannot {call}")]
    Unsupported {
        /// The driver.
        driver: &'static str,
        /// The call.
        call: &'static str,
    },
    /// The engine cannot be reached.
    #[error("{engine} cannot be reached: {why}")]
    Unreachable {
        /// The engine and its address.
        engine: String,
        /// The cause.
        why: String,
    },
    /// The call took too long. It is not known whether it was done; asking again finds out.
    #[error("{call} took longer than {after:?}")]
    TimedOut {
        /// The call.
        call: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The engine or the system failed.
    #[error("{doing}: {why}")]
    Failed {
        /// What was being done, with its object.
        doing: String,
        /// The cause.
        why: String,
    },
}

/// What kind of error it is, for programs and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// [`DriverError::NotFound`].
    NotFound,
    /// [`DriverError::Foreign`].
    Foreign,
    /// [`DriverError::NoRoom`].
    NoRoom,
    /// [`DriverError::Invalid`].
    Invalid,
    /// [`DriverError::Unsupported`].
    Unsupported,
    /// [`DriverError::Unreachable`].
    Unreachable,
    /// [`DriverError::TimedOut`].
    TimedOut,
    /// [`DriverError::Failed`].
    Failed,
}

impl DriverError {
    /// The system failed at something.
    pub(crate) fn failed(doing: impl Into<String>, why: impl ToString) -> Self {
        DriverError::Failed {
            doing: doing.into(),
            why: why.to_string(),
        }
    }

    /// What kind of error it is.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            DriverError::NotFound(_) => ErrorCode::NotFound,
            DriverError::Foreign { .. } => ErrorCode::Foreign,
            DriverError::NoRoom { .. } => ErrorCode::NoRoom,
            DriverError::Invalid { .. } => ErrorCode::Invalid,
            DriverError::Unsupported { .. } => ErrorCode::Unsupported,
            DriverError::Unreachable { .. } => ErrorCode::Unreachable,
            DriverError::TimedOut { .. } => ErrorCode::TimedOut,
            DriverError::Failed { .. } => ErrorCode::Failed,
        }
    }
}
