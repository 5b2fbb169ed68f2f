//! Numbers in JSON: `http-json` and `mqtt-topic`.

use std::{collections::BTreeMap, net::IpAddr};

use futures::future::BoxFuture;

use super::{Poll, fetch::Fetch};
use crate::load::{
    reading::{Answer, Missing, Quantity, Sample},
    spec::{Pointer, Source},
};
use crate::peer::Deadline;

/// Reads the numbers that are wanted.
///
/// # Errors
/// What came instead of JSON; or why none of the numbers is there.
pub fn read(body: &[u8], values: &BTreeMap<Quantity, Pointer>) -> Result<Answer, String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let mut answer = Answer::default();
    for (&quantity, pointer) in values {
        match pointer.read(&json) {
            Ok(value) => answer.samples.push(Sample::new(quantity, value)),
            Err(reason) => answer.missing.push(Missing { quantity, reason }),
        }
    }
    answer.or_missing()
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
    fn what_is_there_is_read_and_what_is_not_is_missing() {
        let wanted = values(&[
            (Quantity::Utilisation, "/cpu * 0.01"),
            (Quantity::Memory, "/memory"),
        ]);
        let answer = read(b"{\"cpu\": 42}", &wanted).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.42));
        assert_eq!(answer.get(Quantity::Memory), None);
        assert_eq!(answer.missing[0].reason, "there is nothing at /memory");
        let error = read(b"{}", &wanted).unwrap_err();
        assert!(error.contains("utilisation: there is nothing"), "{error}");
        let whole = values(&[(Quantity::Utilisation, ".")]);
        assert_eq!(
            read(b"0.25", &whole).unwrap().get(Quantity::Utilisation),
            Some(0.25)
        );
        for garbage in [&b""[..], b"<html>", b"\xff\xfe", b"{\"cpu\": 42"] {
            assert!(read(garbage, &whole).unwrap_err().contains("no JSON"));
        }
        // Nested deeper than the parser goes.
        assert!(read("[".repeat(100_000).as_bytes(), &whole).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body, &values(&[(Quantity::Utilisation, "/a/0")]));
        }
    }
}
