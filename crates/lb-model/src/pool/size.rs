//! Sizes of memory, in bytes or with a unit.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde_json::Value;

use crate::settings::{FieldError, SettingType, Type, plain};

/// Units, the largest first.
const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// A number of bytes, written with a unit such as `64MiB` or as a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ADVICE: &str =
            "give a whole number of bytes, or of KiB, MiB, GiB or TiB, such as 64MiB";
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
            .unwrap_or((text, 1));
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ADVICE);
        }
        let number: u64 = number.parse().map_err(|_| ADVICE)?;
        number.checked_mul(unit).map(Size).ok_or(ADVICE)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = UNITS
            .iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match fitting {
            Some((unit, bytes)) => f.pad(&format!("{}{unit}", self.0 / bytes)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl SettingType for Size {
    type Bound = Self;

    fn describe() -> Type {
        Type::Text("size, such as `64MiB`")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let text = match value {
            Value::Number(_) => u64::from_json(value)?.to_string(),
            value => plain(value),
        };
        text.parse()
            .map_err(|advice| FieldError::new("", &text, advice))
    }

    fn to_json(&self) -> Value {
        Value::String(self.to_string())
    }

    fn is_within(&self, range: &RangeInclusive<Self>) -> bool {
        range.contains(self)
    }

    fn bound_text(bound: &Self) -> String {
        bound.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes, written) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1024MiB", 1 << 30, "1GiB"),
            ("1536", 1536, "1536"),
            ("2KiB", 2048, "2KiB"),
            ("0", 0, "0"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written));
        }
        assert_eq!(Size::from_json(&json!(4096)).unwrap(), Size(4096));
        for bad in ["", "MiB", "64 MiB", "64mb", "-1", "1.5GiB", "99999999TiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
