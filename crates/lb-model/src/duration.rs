//! Durations as text (`500ms`, `2s`, `1h`) in configuration files and in stored records.

use std::{fmt, time::Duration};

use serde::{
    Deserializer, Serializer,
    de::{self, Visitor},
};

/// Units with their lengths in milliseconds, the longest first.
pub const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not a sequence of numbers with units.
    Form,
    /// It is too long for the type.
    TooLong,
}

/// Reads a duration: the sum of one or more numbers with units (see [`UNITS`]).
///
/// # Errors
/// Returns [`Wrong`]; the caller adds advice.
pub fn read(text: &str) -> Result<Duration, Wrong> {
    let mut rest = text;
    let mut milliseconds = 0_u64;
    loop {
        let behind = rest.trim_start_matches(|character: char| character.is_ascii_digit());
        let next = behind.trim_start_matches(|character: char| character.is_ascii_alphabetic());
        let (number, _) = rest.split_at(rest.len() - behind.len());
        let (unit, _) = behind.split_at(behind.len() - next.len());
        let (_, length) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(Wrong::Form)?;
        let number: u64 = number.parse().map_err(|_| Wrong::Form)?;
        milliseconds = number
            .checked_mul(*length)
            .and_then(|more| milliseconds.checked_add(more))
            .ok_or(Wrong::TooLong)?;
        if next.is_empty() {
            return Ok(Duration::from_millis(milliseconds));
        }
        rest = next;
    }
}

/// Reads a duration: the sum of numbers with units (`ms`, `s`, `m`, `h` or `d`).
///
/// # Errors
/// Returns the valid form.
pub fn parse(text: &str) -> Result<Duration, String> {
    read(text).map_err(|_| {
        format!("{text:?} is no time; write a number with a unit, as 500ms, 90s, 2m, 1h or 30d")
    })
}

/// Writes a duration in the form that [`parse`] reads, for example 90 s as `1m30s`. Parts of a millisecond are dropped.
#[must_use]
pub fn format(time: Duration) -> String {
    let mut rest = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    text
}

/// Serializes for `#[serde(with = "crate::duration")]`.
///
/// # Errors
/// Fails as the serializer does.
pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*time))
}

/// Deserializes for `#[serde(with = "crate::duration")]`.
///
/// # Errors
/// Fails as the deserializer or [`parse`] does.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

/// A duration as text. A number without a unit is rejected as ambiguous.
struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .write_str("a time with its unit, as \"500ms\", \"90s\", \"2m\", \"1h\" or \"30d\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

/// Optional durations, for `#[serde(default, with = "crate::duration::optional")]`.
pub mod optional {
    use serde::{Deserialize, Serialize};

    use super::{Deserializer, Duration, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Time(#[serde(with = "crate::duration")] Duration);

    /// # Errors
    /// Fails as the serializer does.
    pub fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(serializer)
    }

    /// # Errors
    /// See [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|Time(time)| time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("1ms", 1),
            ("1s500ms", 1_500),
            ("1h30m", 5_400_000),
            ("1s", 1_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(parse(text), Ok(time), "{text}");
            assert_eq!(format(time), text);
        }
    }

    #[test]
    fn parts_are_added() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("1s500ms"), Ok(Duration::from_millis(1_500)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "s",
            "1",
            "1w",
            "-1s",
            "1.5h",
            "99999999999999999999d",
            "18446744073709551615d",
            "1h30",
            "1h-3m",
            "h1m",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("write a number with a unit"), "{error}");
        }
    }
}
