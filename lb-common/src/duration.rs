//! Times as people write them: `500ms`, `90s`, `1h30m`.

use core::time::Duration;

/// Units with their length in milliseconds, the longest first.
pub const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not made of numbers with units.
    Form,
    /// It is longer than can be counted.
    TooLong,
}

/// Reads numbers with units (see [`UNITS`]), the sum of which it is; at least one.
///
/// # Errors
/// [`Wrong`]; whoever asks says what would be right.
pub fn parse(text: &str) -> Result<Duration, Wrong> {
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
