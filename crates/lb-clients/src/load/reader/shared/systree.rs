//! Mosquitto's `$SYS` topics, over MQTT or over the HTTP API of version 2.1. No version reports processor time, so
//! there is no utilisation: memory and connections act as guards, and another source should report the processor.

use std::{collections::BTreeMap, time::Instant};

use super::{
    deltas::Deltas,
    topics::{Received, TopicReader, number},
};
use crate::{
    load::reading::{Answer, Quantity, Sample},
    peer::mqtt::Message,
};

const ROOT: &str = "$SYS/broker/";
const UPTIME: &str = "uptime";
const HEAP: &str = "heap/current";
const CONNECTED: &str = "clients/connected";
/// New connections a minute, averaged over a minute; there is no counter of them.
const CONNECTING: &str = "load/connections/1min";
const RECEIVED: &str = "messages/received";
const SENT: &str = "messages/sent";
const DROPPED: &str = "publish/messages/dropped";
/// The topics that are read, below `$SYS/broker/`.
const TOPICS: [&str; 7] = [UPTIME, HEAP, CONNECTED, CONNECTING, RECEIVED, SENT, DROPPED];
const MINUTE: f64 = 60.0;

/// The last value of each topic that is read.
#[derive(Debug, Default)]
pub struct Systree {
    values: BTreeMap<&'static str, f64>,
    deltas: Deltas,
}

impl Systree {
    /// Reads the answer of the HTTP API: a JSON object of texts or numbers, keyed by topic.
    ///
    /// # Errors
    /// The body is not such an object.
    pub fn read(&mut self, body: &[u8], at: Instant) -> Result<Answer, String> {
        let topics: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
            .map_err(|error| format!("not a JSON object of Mosquitto's topics: {error}"))?;
        self.values.clear();
        for (topic, value) in &topics {
            let value = match value {
                serde_json::Value::String(text) => number(text.as_bytes()),
                other => other.as_f64(),
            };
            if let (Some(topic), Some(value)) = (known_topic(topic), value) {
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

fn known_topic(topic: &str) -> Option<&'static str> {
    let below = topic.strip_prefix(ROOT)?;
    TOPICS.into_iter().find(|topic| *topic == below)
}

impl TopicReader for Systree {
    fn filter(&self) -> &str {
        // The filter `#` does not match topics that begin with `$` (MQTT 3.1.1, 4.7.2).
        "$SYS/broker/#"
    }

    fn receive(&mut self, message: &Message) -> Received {
        let Some(topic) = known_topic(&message.topic) else {
            return Received::Stored;
        };
        let Some(value) = number(&message.payload) else {
            return Received::Stored;
        };
        self.values.insert(topic, value);
        // Mosquitto publishes a topic only when its value changes; the uptime always changes.
        if topic == UPTIME && !message.retained {
            Received::Heartbeat
        } else {
            Received::Stored
        }
    }

    fn answer(&mut self, at: Instant) -> Result<Answer, String> {
        let Some(&uptime) = self.values.get(UPTIME) else {
            return Err("the broker publishes no $SYS/broker/uptime".to_owned());
        };
        let mut answer = Answer {
            progress: Some(uptime),
            ..Answer::default()
        };
        let mut push = |quantity, value: Option<f64>| {
            answer
                .samples
                .extend(value.map(|value| Sample::new(quantity, value)));
        };
        push(Quantity::Connections, self.values.get(CONNECTED).copied());
        // Absent if the broker was built without memory tracking.
        push(Quantity::MemoryBytes, self.values.get(HEAP).copied());
        push(
            Quantity::Rate,
            self.values.get(CONNECTING).map(|rate| rate / MINUTE),
        );
        let (received, sent) = (self.rate(RECEIVED, at), self.rate(SENT, at));
        push(
            Quantity::Messages,
            received.zip(sent).map(|(received, sent)| received + sent),
        );
        push(Quantity::Dropped, self.rate(DROPPED, at));
        Ok(answer)
    }

    fn advice(&self) -> &'static str {
        "the broker is frozen, its sys_interval is 0 or longer than the source's interval, or the user may not read $SYS"
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn take(systree: &mut Systree, topic: &str, payload: &str, retained: bool) -> Received {
        systree.receive(&Message {
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
            ("$SYS/broker/uptime", "22 seconds", true, Received::Stored),
            ("$SYS/broker/clients/connected", "3", true, Received::Stored),
            (
                "$SYS/broker/clients/connected",
                "4",
                false,
                Received::Stored,
            ),
            (
                "$SYS/broker/messages/received",
                "100",
                true,
                Received::Stored,
            ),
            ("$SYS/broker/messages/sent", "200", true, Received::Stored),
            (
                "$SYS/broker/load/connections/1min",
                "30.00",
                true,
                Received::Stored,
            ),
            (
                "$SYS/broker/retained messages/count",
                "52",
                false,
                Received::Stored,
            ),
            (
                "$SYS/broker/version",
                "mosquitto version 2.0.11",
                true,
                Received::Stored,
            ),
            ("somewhere/uptime", "1", false, Received::Stored),
            (
                "$SYS/broker/uptime",
                "33 seconds",
                false,
                Received::Heartbeat,
            ),
        ] {
            assert_eq!(
                take(&mut systree, topic, payload, retained),
                taken,
                "{topic}"
            );
        }
        let answer = systree.answer(start).unwrap();
        assert_eq!(answer.progress, Some(33.0));
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
        // A topic that was not published again has not changed.
        assert_eq!(answer.get(Quantity::Messages), Some(10.0));
        assert_eq!(answer.get(Quantity::MemoryBytes), Some(51_200.0));
    }

    #[test]
    fn stored_topics_are_bounded() {
        let mut systree = Systree::default();
        for number in 0..10_000 {
            take(&mut systree, &format!("$SYS/broker/x{number}"), "1", false);
        }
        assert!(systree.values.is_empty());
        assert_eq!(
            take(&mut systree, "$SYS/broker/uptime", "soon", false),
            Received::Stored
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
            systree.receive(&Message {
                topic: "$SYS/broker/uptime".to_owned(),
                payload: payload.clone().into(),
                retained: false,
            });
            let _ = systree.answer(Instant::now());
            let _ = systree.read(&payload, Instant::now());
        }
    }
}
