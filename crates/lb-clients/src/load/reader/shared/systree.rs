//! Mosquitto's `$SYS` topics, over MQTT or over the HTTP API of version 2.1. No version reports processor time, so
//! there is no utilisation: memory and connections act as guards, and another source should report the processor.

use std::{collections::BTreeMap, time::Instant};

use super::{
    deltas::Deltas,
    topics::{Received, TopicReader, not_a_number, number},
};
use crate::{
    json,
    load::reading::{Answer, Missing, Quantity, Sample},
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
    /// Topics whose last payload is no number, in words.
    unreadable: BTreeMap<&'static str, String>,
    deltas: Deltas,
}

impl Systree {
    /// Reads the answer of the HTTP API: a JSON object of texts or numbers, keyed by topic.
    ///
    /// # Errors
    /// The body is not such an object.
    pub fn read(&mut self, body: &[u8], at: Instant) -> Result<Answer, String> {
        let no_topics = |reason| format!("not a JSON object of Mosquitto's topics: {reason}");
        let topics = match json::parse(body) {
            Ok(serde_json::Value::Object(topics)) => topics,
            Ok(_) => return Err(no_topics("it is of another kind".to_owned())),
            Err(error) => return Err(no_topics(error.to_string())),
        };
        self.values.clear();
        self.unreadable.clear();
        for (topic, value) in &topics {
            let Some(topic) = known_topic(topic) else {
                continue;
            };
            match value {
                serde_json::Value::String(text) => self.store(topic, text.as_bytes()),
                other => self.store(topic, other.to_string().as_bytes()),
            }
        }
        self.answer(at)
    }

    /// Stores the value of a topic. One that is no number replaces the last value all the same, which is old by now.
    fn store(&mut self, topic: &'static str, payload: &[u8]) {
        match number(payload) {
            Some(value) => {
                self.values.insert(topic, value);
                self.unreadable.remove(topic);
            }
            None => {
                self.values.remove(topic);
                self.unreadable
                    .insert(topic, not_a_number(&format!("{ROOT}{topic}"), payload));
            }
        }
    }

    fn rate(&mut self, topic: &'static str, at: Instant) -> Option<f64> {
        let Some(value) = self.values.get(topic) else {
            self.deltas.forget(topic);
            return None;
        };
        self.deltas.rate(topic, *value, at)
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
        self.store(topic, &message.payload);
        // Mosquitto publishes a topic only when its value changes; the uptime always changes.
        if topic == UPTIME && !message.retained {
            Received::Heartbeat
        } else {
            Received::Stored
        }
    }

    fn answer(&mut self, at: Instant) -> Result<Answer, String> {
        let uptime = self.values.get(UPTIME).copied();
        if uptime.is_none() && !self.unreadable.contains_key(UPTIME) {
            return Err("the broker publishes no $SYS/broker/uptime".to_owned());
        }
        let mut answer = Answer {
            progress: uptime,
            ..Answer::default()
        };
        for (topic, reason) in &self.unreadable {
            answer.unreadable.add(|| reason.clone());
            let quantity = match *topic {
                CONNECTED => Quantity::Connections,
                HEAP => Quantity::MemoryBytes,
                CONNECTING => Quantity::Rate,
                RECEIVED | SENT => Quantity::Messages,
                DROPPED => Quantity::Dropped,
                _ => continue,
            };
            answer.missing.push(Missing {
                quantity,
                reason: reason.clone(),
            });
        }
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
    }

    #[test]
    fn a_topic_that_cannot_be_read_is_lost_alone() {
        let mut systree = Systree::default();
        for (topic, payload) in [
            ("clients/connected", "\u{feff}4"),
            ("heap/current", "51200\0"),
            ("publish/messages/dropped", "NaN"),
            ("uptime", "33 seconds"),
        ] {
            take(
                &mut systree,
                &format!("$SYS/broker/{topic}"),
                payload,
                false,
            );
        }
        let answer = systree.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Connections), Some(4.0));
        assert_eq!(answer.get(Quantity::MemoryBytes), Some(51_200.0));
        assert_eq!(answer.unreadable.count, 0);
        take(
            &mut systree,
            "$SYS/broker/clients/connected",
            "undefined",
            false,
        );
        // It is a sign of life whatever it says.
        assert_eq!(
            take(&mut systree, "$SYS/broker/uptime", "soon", false),
            Received::Heartbeat
        );
        let answer = systree.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::MemoryBytes), Some(51_200.0));
        // The last number is old.
        assert_eq!(answer.get(Quantity::Connections), None);
        assert_eq!(answer.progress, None);
        assert_eq!(answer.unreadable.count, 2);
        assert_eq!(
            answer.missing[0].reason,
            "$SYS/broker/clients/connected cannot be read: \"undefined\""
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
        let body = b"\xef\xbb\xbf{\"$SYS/broker/uptime\": \"?\", \"$SYS/broker/clients/connected\": undefined, \
            \"$SYS/broker/heap/current\": 51200}";
        let answer = systree.read(body, Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::MemoryBytes), Some(51_200.0));
        assert_eq!(answer.missing[0].quantity, Quantity::Connections);
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
