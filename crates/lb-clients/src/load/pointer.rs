//! Pointers to numbers in JSON.

use std::{fmt, str::FromStr};

use serde_json::Value;

/// A JSON pointer (RFC 6901) with a factor for the number at it: `/load/cpu`, or `/load/percent * 0.01`. The pointer to
/// the whole document, which is empty in the RFC, is written `.`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointer {
    pointer: String,
    scale: f64,
}

const WHOLE: &str = ".";
/// Characters of a text that an error repeats.
const MAX_QUOTED: usize = 40;

impl Pointer {
    /// Reads the number at the pointer, multiplied by the factor.
    ///
    /// # Errors
    /// There is no value at the pointer, or the value is not a number.
    pub fn read(&self, json: &Value) -> Result<f64, String> {
        let pointer = || {
            if self.pointer.is_empty() {
                WHOLE
            } else {
                &self.pointer
            }
        };
        match json.pointer(&self.pointer) {
            None => Err(format!("there is nothing at {}", pointer())),
            Some(Value::Number(number)) => number
                .as_f64()
                .map(|number| number * self.scale)
                .ok_or_else(|| format!("the number at {} is too large", pointer())),
            // Some programs write numbers as text.
            Some(Value::String(text)) => text
                .trim()
                .parse::<f64>()
                .map(|number| number * self.scale)
                .map_err(|_| {
                    let text: String = text.chars().take(MAX_QUOTED).collect();
                    format!("the text at {} is not a number: {text:?}", pointer())
                }),
            Some(Value::Null) => Err(format!("the value at {} is null", pointer())),
            Some(_) => Err(format!("the value at {} is not a number", pointer())),
        }
    }
}

impl Pointer {
    /// Whether something stands at the pointer, be it a number or not.
    #[must_use]
    pub fn is_present(&self, json: &Value) -> bool {
        json.pointer(&self.pointer).is_some()
    }
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pointer, scale) = match text.rsplit_once(" * ") {
            None => (text, 1.0),
            Some((pointer, scale)) => {
                let scale: f64 = scale
                    .trim()
                    .parse()
                    .map_err(|_| format!("`{scale}` is not a number to multiply by"))?;
                if !scale.is_finite() || scale <= 0.0 {
                    return Err("the number to multiply by must be more than 0".to_owned());
                }
                (pointer.trim_end(), scale)
            }
        };
        let pointer = if pointer == WHOLE { "" } else { pointer };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(
                "give a JSON pointer such as /load/cpu or /load/percent * 0.01, or . for the whole document"
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

lb_model::text_setting!(Pointer, "JSON pointer");

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
            ("/load/no", "is null"),
            ("/load", "is not a number"),
            (".", "at . is not a number"),
        ] {
            let error = text.parse::<Pointer>().unwrap().read(&json).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn invalid_pointers_are_rejected() {
        for text in [
            "load", "load/cpu", "/a * b", "/a * 0", "/a * inf", "/a * -1",
        ] {
            assert!(text.parse::<Pointer>().is_err(), "{text}");
        }
    }
}
