//! Bytes that are sent or expected, as text or in hexadecimal.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use lb_model::settings::{FieldError, SettingType, Type, Value, plain};

/// Bytes of a payload at most, so that it fits one packet on any network.
const MAX_PAYLOAD: usize = 1_200;

const HEX: &str = "hex:";
const TEXT: &str = "text:";

/// Bytes, written as text or as `hex:` and digits. A text that begins with `hex:` has `text:` before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Octets(pub Vec<u8>);

impl fmt::Display for Octets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => {
                if text.starts_with(HEX) || text.starts_with(TEXT) {
                    formatter.write_str(TEXT)?;
                }
                formatter.write_str(text)
            }
            _ => write!(formatter, "{HEX}{}", hex::encode(&self.0)),
        }
    }
}

impl FromStr for Octets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(digits) = text.strip_prefix(HEX) {
            return hex::decode(digits).map(Octets).map_err(|error| {
                format!("no bytes in hexadecimal ({error}); write pairs of digits, as in hex:0d0a")
            });
        }
        let text = text.strip_prefix(TEXT).unwrap_or(text);
        Ok(Octets(text.as_bytes().to_vec()))
    }
}

impl SettingType for Octets {
    type Bound = ();

    fn describe() -> Type {
        Type::Text("text, or `hex:` and digits")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        // Two digits a byte: the text may be longer than other texts.
        let text = value
            .as_str()
            .ok_or_else(|| FieldError::new("", plain(value), "give a text, in quotation marks"))?;
        let octets: Self = text
            .parse()
            .map_err(|advice: String| FieldError::new("", text, advice))?;
        if octets.0.len() > MAX_PAYLOAD {
            return Err(FieldError::new(
                "",
                format!("{} bytes", octets.0.len()),
                format!("too long, give {MAX_PAYLOAD} bytes at most"),
            ));
        }
        Ok(octets)
    }

    fn to_json(&self) -> Value {
        Value::String(self.to_string())
    }

    fn is_within(&self, _: &RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (bytes, text) in [
            (&b"ping"[..], "ping"),
            (b"", ""),
            (b"\r\n", "hex:0d0a"),
            (&[0xff, 0x00], "hex:ff00"),
            (b"hex:00", "text:hex:00"),
            (b"text:a", "text:text:a"),
        ] {
            let octets = Octets(bytes.to_vec());
            assert_eq!(octets.to_string(), text);
            assert_eq!(text.parse(), Ok(octets));
        }
        assert!("hex:0".parse::<Octets>().is_err());
        assert!("hex:zz".parse::<Octets>().is_err());
    }
}
