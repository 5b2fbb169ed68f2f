//! Mosquitto: its `$SYS` topics, or the same over the HTTP API of version 2.1. It tells no processor time in any
//! version, so there is no score: memory and connections guard, and another source is to tell the processor's.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use futures::future::BoxFuture;

use super::{
    Poll,
    deltas::Deltas,
    fetch::Fetch,
    topics::{Taken, Topics, number},
};
use crate::load::{
    reading::{Answer, Quantity, Sample},
    spec::Source,
};
use crate::peer::{Deadline, mqtt::Message};

const SYSTREE: &str = "/api/v1/systree";
const ROOT: &str = "$SYS/broker/";
const UPTIME: &str = "uptime";
const HEAP: &str = "heap/current";
const CONNECTED: &str = "clients/connected";
/// New connections a minute, averaged over a minute; no counter tells them.
const CONNECTING: &str = "load/connections/1min";
const RECEIVED: &str = "messages/received";
const SENT: &str = "messages/sent";
const DROPPED: &str = "publish/messages/dropped";
/// What is read, below `$SYS/broker/`.
const WANTED: [&str; 7] = [UPTIME, HEAP, CONNECTED, CONNECTING, RECEIVED, SENT, DROPPED];
const MINUTE: f64 = 60.0;

/// The last value of each topic that is read.
#[derive(Debug, Default)]
pub struct Systree {
    values: BTreeMap<&'static str, f64>,
    deltas: Deltas,
}

impl Systree {
    /// Reads the HTTP API's answer: JSON keyed by topic, with texts or numbers.
    ///
    /// # Errors
    /// What came instead.
    pub fn read(&mut self, body: &[u8], at: Instant) -> Result<Answer, String> {
        let topics: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
            .map_err(|error| format!("no JSON of Mosquitto's topics: {error}"))?;
        self.values.clear();
        for (topic, value) in &topics {
            let value = match value {
                serde_json::Value::String(text) => number(text.as_bytes()),
                other => other.as_f64(),
            };
            if let (Some(topic), Some(value)) = (wanted(topic), value) {
                self.values.insert(topic, value);
            }
        }
        self.answer(at)
    }

    fn rate(&mut self, topic: &'static str, at: Instant) -> Option<f64> {
        let value = *self.values.get(topic)?;
        self.deltas.rate(topic, value, at)
    }
}

fn wanted(topic: &str) -> Option<&'static str> {
    let below = topic.strip_prefix(ROOT)?;
    WANTED.into_iter().find(|wanted| *wanted == below)
}

impl Topics for Systree {
    fn filter(&self) -> &str {
        // A plain `#` does not match what begins with `$`.
        "$SYS/broker/#"
    }

    fn take(&mut self, message: &Message) -> Taken {
        let Some(topic) = wanted(&message.topic) else {
            return Taken::Kept;
        };
        let Some(value) = number(&message.payload) else {
            return Taken::Kept;
        };
        self.values.insert(topic, value);
        // Topics are published when they change only; the uptime always does.
        if topic == UPTIME && !message.retained {
            Taken::Heartbeat
        } else {
            Taken::Kept
        }
    }

    fn answer(&mut self, at: Instant) -> Result<Answer, String> {
        let Some(&uptime) = self.values.get(UPTIME) else {
            return Err("there is no $SYS/broker/uptime".to_owned());
        };
        let mut answer = Answer {
            pulse: Some(uptime),
            ..Answer::default()
        };
        let mut say = |quantity, value: Option<f64>| {
            answer
                .samples
                .extend(value.map(|value| Sample::new(quantity, value)));
        };
        say(Quantity::Connections, self.values.get(CONNECTED).copied());
        // Absent where the broker was built without memory tracking.
        say(Quantity::MemoryBytes, self.values.get(HEAP).copied());
        say(
            Quantity::Rate,
            self.values.get(CONNECTING).map(|rate| rate / MINUTE),
        );
        let (received, sent) = (self.rate(RECEIVED, at), self.rate(SENT, at));
        say(
            Quantity::Messages,
            received.zip(sent).map(|(received, sent)| received + sent),
        );
        say(Quantity::Dropped, self.rate(DROPPED, at));
        Ok(answer)
    }

    fn advice(&self) -> &'static str {
        "the broker is frozen, its sys_interval is 0 or longer than the source's interval, or the user may not read $SYS"
    }
}

/// Polls the HTTP API.
#[derive(Debug)]
pub(super) struct MosquittoHttp {
    fetch: Fetch,
    systree: Systree,
}

impl MosquittoHttp {
    pub(super) fn new(source: &Source, real: IpAddr) -> Self {
        MosquittoHttp {
            fetch: Fetch::new(source, real, SYSTREE),
            systree: Systree::default(),
        }
    }
}

impl Poll for MosquittoHttp {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let body = self.fetch.get(deadline).await?;
            self.systree.read(&body, Instant::now())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn take(systree: &mut Systree, topic: &str, payload: &str, retained: bool) -> Taken {
        systree.take(&Message {
            topic: topic.to_owned(),
            payload: payload.to_owned().into(),
            retained,
        })
    }

    #[test]
    fn only_a_live_uptime_is_a_heartbeat() {
        let mut systree = Systree::default();
        let start = Instant::now();
        assert!(systree.answer(start).is_err());
        for (topic, payload, retained, taken) in [
            ("$SYS/broker/uptime", "22 seconds", true, Taken::Kept),
            ("$SYS/broker/clients/connected", "3", true, Taken::Kept),
            ("$SYS/broker/clients/connected", "4", false, Taken::Kept),
            ("$SYS/broker/messages/received", "100", true, Taken::Kept),
            ("$SYS/broker/messages/sent", "200", true, Taken::Kept),
            (
                "$SYS/broker/load/connections/1min",
                "30.00",
                true,
                Taken::Kept,
            ),
            (
                "$SYS/broker/retained messages/count",
                "52",
                false,
                Taken::Kept,
            ),
            (
                "$SYS/broker/version",
                "mosquitto version 2.0.11",
                true,
                Taken::Kept,
            ),
            ("somewhere/uptime", "1", false, Taken::Kept),
            ("$SYS/broker/uptime", "33 seconds", false, Taken::Heartbeat),
        ] {
            assert_eq!(
                take(&mut systree, topic, payload, retained),
                taken,
                "{topic}"
            );
        }
        let answer = systree.answer(start).unwrap();
        assert_eq!(answer.pulse, Some(33.0));
        assert_eq!(answer.get(Quantity::Connections), Some(4.0));
        assert_eq!(answer.get(Quantity::Rate), Some(0.5));
        for absent in [
            Quantity::Utilisation,
            Quantity::MemoryBytes,
            Quantity::Messages,
            Quantity::Dropped,
        ] {
            assert_eq!(answer.get(absent), None, "{absent}");
        }
        take(&mut systree, "$SYS/broker/messages/received", "210", false);
        take(&mut systree, "$SYS/broker/heap/current", "51200", false);
        take(&mut systree, "$SYS/broker/uptime", "44 seconds", false);
        let answer = systree.answer(start + Duration::from_secs(11)).unwrap();
        // What was not published again has not changed.
        assert_eq!(answer.get(Quantity::Messages), Some(10.0));
        assert_eq!(answer.get(Quantity::MemoryBytes), Some(51_200.0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut systree = Systree::default();
        for number in 0..10_000 {
            take(&mut systree, &format!("$SYS/broker/x{number}"), "1", false);
        }
        assert!(systree.values.is_empty());
        assert_eq!(
            take(&mut systree, "$SYS/broker/uptime", "soon", false),
            Taken::Kept
        );
    }

    #[test]
    fn the_http_api_is_read() {
        let mut systree = Systree::default();
        let body = br#"{"$SYS/broker/uptime": "33 seconds", "$SYS/broker/clients/connected": 7,
            "$SYS/broker/heap/current": "51200", "$SYS/broker/version": "mosquitto version 2.1.0"}"#;
        let answer = systree.read(body, Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Connections), Some(7.0));
        assert_eq!(answer.get(Quantity::MemoryBytes), Some(51_200.0));
        for body in [&b"[]"[..], b"{}", b"<html>", b""] {
            assert!(systree.read(body, Instant::now()).is_err());
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut systree = Systree::default();
            systree.take(&Message {
                topic: "$SYS/broker/uptime".to_owned(),
                payload: payload.clone().into(),
                retained: false,
            });
            let _ = systree.answer(Instant::now());
            let _ = systree.read(&payload, Instant::now());
        }
    }
}
