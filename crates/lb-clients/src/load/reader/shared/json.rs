//! Numbers in JSON, for the readers `http-json` and `mqtt-topic`.

use serde::{Deserialize as _, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::json;
use crate::load::{
    pointer::Pointer,
    reading::{Answer, Missing, Sample},
    values::Values,
};

/// Characters of a value that an error repeats.
const MAX_QUOTED: usize = 40;

/// A field of an answer that is lost alone if it cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Field<T> {
    /// Its value.
    pub value: Option<T>,
    /// What stands there instead of a value.
    pub wrong: Option<String>,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Field {
            value: None,
            wrong: None,
        }
    }
}

/// Reads a field; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The document is damaged.
pub fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Field<T>, D::Error> {
    let json = Value::deserialize(deserializer)?;
    if json.is_null() {
        return Ok(Field::default());
    }
    let shown = json.to_string();
    Ok(match serde_json::from_value(json) {
        Ok(value) => Field {
            value: Some(value),
            wrong: None,
        },
        Err(_) => Field {
            value: None,
            wrong: Some(shown.chars().take(MAX_QUOTED).collect()),
        },
    })
}

/// Reads the configured numbers.
///
/// # Errors
/// The body is not JSON, or it has none of the numbers.
pub fn read(body: &[u8], values: &Values<Pointer>) -> Result<Answer, String> {
    let json = json::parse(body).map_err(|error| format!("not JSON: {error}"))?;
    let mut answer = Answer::default();
    for (&quantity, pointer) in &values.0 {
        match pointer.read(&json) {
            Ok(value) => answer.samples.push(Sample::new(quantity, value)),
            Err(reason) => {
                if pointer.is_present(&json) {
                    answer.unreadable.add(|| reason.clone());
                }
                answer.missing.push(Missing { quantity, reason });
            }
        }
    }
    answer.error_if_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::reading::Quantity;

    fn values(pairs: &[(Quantity, &str)]) -> Values<Pointer> {
        let parse = |(quantity, pointer): &(Quantity, &str)| (*quantity, pointer.parse().unwrap());
        Values(pairs.iter().map(parse).collect())
    }

    #[test]
    fn present_values_are_read_and_absent_ones_are_missing() {
        let configured = values(&[
            (Quantity::Utilisation, "/cpu * 0.01"),
            (Quantity::Memory, "/memory"),
        ]);
        let answer = read(b"{\"cpu\": 42}", &configured).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.42));
        assert_eq!(answer.get(Quantity::Memory), None);
        assert_eq!(answer.missing[0].reason, "there is nothing at /memory");
        // One value that is none costs the others nothing.
        let answer = read(
            b"\xef\xbb\xbf{\"cpu\": undefined, \"memory\": 0.5}",
            &configured,
        )
        .unwrap();
        assert_eq!(answer.get(Quantity::Memory), Some(0.5));
        assert_eq!(
            answer.missing[0].reason,
            "the text at /cpu is not a number: \"undefined\""
        );
        assert_eq!(answer.unreadable.count, 1);
        let answer = read(b"{\"cpu\": NaN, \"memory\": -Infinity}", &configured).unwrap();
        assert!(answer.get(Quantity::Utilisation).unwrap().is_nan());
        assert_eq!(answer.get(Quantity::Memory), Some(f64::NEG_INFINITY));
        let error = read(b"{}", &configured).unwrap_err();
        assert!(error.contains("utilisation: there is nothing"), "{error}");
        let whole = values(&[(Quantity::Utilisation, ".")]);
        assert_eq!(
            read(b"0.25", &whole).unwrap().get(Quantity::Utilisation),
            Some(0.25)
        );
        for garbage in [&b""[..], b"<html>", b"\xff\xfe", b"{\"cpu\": 42"] {
            assert!(read(garbage, &whole).unwrap_err().contains("not JSON"));
        }
        // The nesting exceeds the parser's limit.
        assert!(read("[".repeat(100_000).as_bytes(), &whole).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body, &values(&[(Quantity::Utilisation, "/a/0")]));
        }
    }
}
