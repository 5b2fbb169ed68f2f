//! Durations: text, `std` and the API.

use std::time::Duration;

pub use lb_model::duration::format as write;
use lb_model::duration::parse;

/// Reads a duration. Space around it is ignored.
///
/// # Errors
/// Returns the form of a duration.
pub fn read(text: &str) -> Result<Duration, String> {
    parse(text.trim())
}

/// Converts a duration to a message.
#[must_use]
pub fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Converts a message to a duration. A negative one, which no agent sends, becomes zero.
#[must_use]
pub fn from_proto(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_a_duration() {
        let duration = Duration::from_millis(1_500);
        let message = to_proto(duration);
        assert_eq!((message.seconds, message.nanos), (1, 500_000_000));
        assert_eq!(from_proto(message), duration);
        let negative = prost_types::Duration {
            seconds: -1,
            nanos: 0,
        };
        assert_eq!(from_proto(negative), Duration::ZERO);
        assert_eq!(read(" 1h30m "), Ok(Duration::from_secs(5_400)));
    }
}
