//! Where a number stands in JSON.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use crate::peer::fields::MAX_TEXT;

/// A JSON pointer (RFC 6901) and what the number there is multiplied with: `/load/cpu`, or
/// `/load/percent * 0.01`. The pointer to the whole is empty; alone it is written `.`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointer {
    pointer: String,
    scale: f64,
}

const WHOLE: &str = ".";

impl Pointer {
    /// The number there, scaled.
    ///
    /// # Errors
    /// What is there instead.
    pub fn read(&self, json: &Value) -> Result<f64, String> {
        let here = || {
            if self.pointer.is_empty() {
                WHOLE
            } else {
                &self.pointer
            }
        };
        match json.pointer(&self.pointer) {
            None => Err(format!("there is nothing at {}", here())),
            Some(Value::Number(number)) => number
                .as_f64()
                .map(|number| number * self.scale)
                .ok_or_else(|| format!("the number at {} is too large", here())),
            // Some write numbers as text.
            Some(Value::String(text)) => text
                .trim()
                .parse::<f64>()
                .map(|number| number * self.scale)
                .map_err(|_| format!("the text at {} is no number", here())),
            Some(Value::Null) => Err(format!("null is at {}", here())),
            Some(_) => Err(format!("what is at {} is no number", here())),
        }
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("longer than {MAX_TEXT} bytes"));
        }
        let (pointer, scale) = match text.rsplit_once(" * ") {
            None => (text, 1.0),
            Some((pointer, scale)) => {
                let scale: f64 = scale
                    .trim()
                    .parse()
                    .map_err(|_| format!("`{scale}` is no number to multiply with"))?;
                if !scale.is_finite() || scale <= 0.0 {
                    return Err("the number to multiply with must be more than 0".to_owned());
                }
                (pointer.trim_end(), scale)
            }
        };
        let pointer = if pointer == WHOLE { "" } else { pointer };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(
                "write a JSON pointer, as in /load/cpu or /load/percent * 0.01, or . for the whole"
                    .to_owned(),
            );
        }
        Ok(Pointer {
            pointer: pointer.to_owned(),
            scale,
        })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.pointer.is_empty() {
            WHOLE
        } else {
            &self.pointer
        })?;
        if self.scale != 1.0 || self.pointer.contains(" * ") {
            write!(f, " * {}", self.scale)?;
        }
        Ok(())
    }
}

impl Serialize for Pointer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_and_scaled() {
        let json = serde_json::json!({"load": {"cpu": 42, "text": " 0.5 ", "a": [1, 2], "no": null, "b * 2": 7}});
        for (text, value) in [
            ("/load/cpu", 42.0),
            ("/load/cpu * 0.01", 0.42),
            ("/load/text", 0.5),
            ("/load/a/1", 2.0),
            ("/load/b * 2 * 1", 7.0),
        ] {
            let pointer: Pointer = text.parse().unwrap();
            assert_eq!(pointer.read(&json), Ok(value), "{text}");
            assert_eq!(pointer.to_string().parse(), Ok(pointer), "{text}");
        }
        let whole: Pointer = ".".parse().unwrap();
        assert_eq!(whole.read(&serde_json::json!(3)), Ok(3.0));
        assert_eq!(whole.to_string(), ".");
        for (text, part) in [
            ("/load/gpu", "nothing at /load/gpu"),
            ("/load/no", "null is at"),
            ("/load", "is no number"),
            (".", "at . is no number"),
        ] {
            let error = text.parse::<Pointer>().unwrap().read(&json).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for text in [
            "load", "load/cpu", "/a * b", "/a * 0", "/a * inf", "/a * -1",
        ] {
            assert!(text.parse::<Pointer>().is_err(), "{text}");
        }
    }
}
