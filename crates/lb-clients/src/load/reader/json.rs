//! Numbers in JSON, for the readers `http-json` and `mqtt-topic`.

use std::{collections::BTreeMap, net::IpAddr};

use futures::future::BoxFuture;

use super::{Poll, fetch::Fetch};
use crate::load::{
    config::{Pointer, Source},
    reading::{Answer, Missing, Quantity, Sample},
};
use crate::peer::Deadline;

/// Reads the configured numbers.
///
/// # Errors
/// The body is not JSON, or it has none of the numbers.
pub fn read(body: &[u8], values: &BTreeMap<Quantity, Pointer>) -> Result<Answer, String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let mut answer = Answer::default();
    for (&quantity, pointer) in values {
        match pointer.read(&json) {
            Ok(value) => answer.samples.push(Sample::new(quantity, value)),
            Err(reason) => answer.missing.push(Missing { quantity, reason }),
        }
    }
    answer.error_if_empty()
}

/// Polls `http-json`.
#[derive(Debug)]
pub(super) struct HttpJson {
    fetch: Fetch,
    values: BTreeMap<Quantity, Pointer>,
}

impl HttpJson {
    pub(super) fn new(
        source: &Source,
        real: IpAddr,
        path: &str,
        values: &BTreeMap<Quantity, Pointer>,
    ) -> Self {
        HttpJson {
            fetch: Fetch::new(source, real, path),
            values: values.clone(),
        }
    }
}

impl Poll for HttpJson {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async { read(&self.fetch.get(deadline).await?, &self.values) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(pairs: &[(Quantity, &str)]) -> BTreeMap<Quantity, Pointer> {
        pairs
            .iter()
            .map(|(quantity, pointer)| (*quantity, pointer.parse().unwrap()))
            .collect()
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
