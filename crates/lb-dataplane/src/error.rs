//! Making [`DataplaneError`]s.

use super::DataplaneError;

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
