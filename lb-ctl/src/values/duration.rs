//! Durations as people write them: `90s`, `15m`, `1h30m`.

use std::time::Duration;

use lb_model::duration::{UNITS, Wrong, read as parse};

/// Reads a duration: numbers with units, the sum of which it is.
///
/// # Errors
/// Says what a duration looks like, in words for the operator.
pub fn read(text: &str) -> Result<Duration, String> {
    parse(text.trim()).map_err(|wrong| match wrong {
        Wrong::Form => format!(
            "`{text}` is no duration; write a number with a unit (ms, s, m, h, d), for example 90s, 15m or 1h30m"
        ),
        Wrong::TooLong => format!("`{text}` is too long a duration"),
    })
}

/// Writes a duration so that [`read`] gives it back; what is below a millisecond is left out.
#[must_use]
pub fn write(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, length) in UNITS {
        if millis >= length {
            text.push_str(&format!("{}{name}", millis / length));
            millis %= length;
        }
    }
    text
}

/// For the wire.
#[must_use]
pub fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// From the wire; negative durations, which no agent sends, are zero.
#[must_use]
pub fn from_proto(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_with_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1s500ms", 1_500),
            (" 1s ", 1_000),
            ("0s", 0),
        ] {
            assert_eq!(read(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "",
            " ",
            "90",
            "s",
            "-1s",
            "1.5h",
            "1w",
            "1h 30m",
            "1hm",
            "1é",
            "99999999999999999999s",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("is no duration"), "{text}: {error}");
        }
        assert_eq!(
            read("9999999999999999999d").unwrap_err(),
            "`9999999999999999999d` is too long a duration"
        );
    }

    #[test]
    fn writes_what_it_reads() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (90_000, "1m30s"),
            (120_000, "2m"),
            (3_600_000, "1h"),
            (2_592_000_000, "30d"),
            (1_500, "1s500ms"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(write(duration), text);
            assert_eq!(read(text), Ok(duration));
        }
    }

    #[test]
    fn goes_over_the_wire_and_back() {
        let duration = Duration::from_millis(1_500);
        assert_eq!(
            to_proto(duration),
            prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000
            }
        );
        assert_eq!(from_proto(to_proto(duration)), duration);
        assert_eq!(
            from_proto(prost_types::Duration {
                seconds: -1,
                nanos: 0
            }),
            Duration::ZERO
        );
    }
}
