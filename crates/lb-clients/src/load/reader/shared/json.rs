//! Numbers in JSON, for the readers `http-json` and `mqtt-topic`.

use crate::load::{
    pointer::Pointer,
    reading::{Answer, Missing, Sample},
    values::Values,
};

/// Reads the configured numbers.
///
/// # Errors
/// The body is not JSON, or it has none of the numbers.
pub fn read(body: &[u8], values: &Values<Pointer>) -> Result<Answer, String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let mut answer = Answer::default();
    for (&quantity, pointer) in &values.0 {
        match pointer.read(&json) {
            Ok(value) => answer.samples.push(Sample::new(quantity, value)),
            Err(reason) => answer.missing.push(Missing { quantity, reason }),
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
