//! FlashMQ: its `$SYS` topics. The utilisation is derived from the delay of the event loops. Experimental: that the
//! topics are below `$SYS/broker/` has not been verified on a live broker.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    kind::{LoadReader, NoSettings, Reader, SourceTarget, Transport},
    shared::topics::{Received, TopicReader, not_a_number, number},
};
use crate::load::reading::{Answer, Missing, Quantity, Sample, Unreadable};
use crate::peer::mqtt::Message;

const ROOT: &str = "$SYS/broker/";
const TOTAL: &str = "clients/total";
const CONNECTING: &str = "clients/mqttconnects/persecond";
/// The parts of the topic before and after the number of the thread.
const DRIFT: (&str, &str) = ("threads/", "/drift/moving_avg__ms");
/// Threads whose drift is stored at most.
const MAX_THREADS: usize = 1_024;
/// The delay of a loop, in milliseconds, that counts as a utilisation of 1. An idle loop is less than 1 ms late.
const FULL_DRIFT_MS: f64 = 50.0;

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<FlashMq>();

/// Keeps the last value of each topic.
#[derive(Debug, Default)]
pub struct FlashMq {
    total: Option<f64>,
    connecting: Option<f64>,
    drift: BTreeMap<u32, f64>,
    /// Topics that could not be read since the last answer.
    unreadable: Unreadable,
    missing: BTreeMap<Quantity, String>,
}

impl LoadReader for FlashMq {
    const NAME: &'static str = "flashmq";
    const HELP: &'static str = "Experimental, not verified on a live broker. Subscribes to FlashMQ's `$SYS` topics; the \
                                utilisation is derived from the delay of the event loops.";
    const TRANSPORT: Transport = Transport::Mqtt;
    const PORT: Option<u16> = Some(1883);
    const TLS_PORT: Option<u16> = Some(8883);
    /// FlashMQ publishes at this interval.
    const INTERVAL: Duration = Duration::from_secs(10);

    type Settings = NoSettings;

    fn open(_: NoSettings, _: &SourceTarget<'_>) -> Reader {
        Reader::Subscribe(Box::new(FlashMq::default()))
    }
}

/// Converts a drift in milliseconds to a utilisation: linear from 0 without drift to 1 at [`FULL_DRIFT_MS`] and above.
fn utilisation(drift: f64) -> f64 {
    (drift / FULL_DRIFT_MS).clamp(0.0, 1.0)
}

fn thread(below: &str) -> Option<u32> {
    below
        .strip_prefix(DRIFT.0)?
        .strip_suffix(DRIFT.1)?
        .parse()
        .ok()
}

/// FlashMQ publishes every topic each 10 s, changed or not.
fn heartbeat(message: &Message) -> Received {
    if message.retained {
        Received::Stored
    } else {
        Received::Heartbeat
    }
}

impl TopicReader for FlashMq {
    fn filter(&self) -> &str {
        "$SYS/broker/#"
    }

    fn receive(&mut self, message: &Message) -> Received {
        let Some(below) = message.topic.strip_prefix(ROOT) else {
            return Received::Stored;
        };
        let value = number(&message.payload);
        let quantity = match (below, thread(below)) {
            (TOTAL, _) => {
                self.total = value;
                Quantity::Connections
            }
            (CONNECTING, _) => {
                self.connecting = value;
                Quantity::Rate
            }
            (_, Some(thread))
                if self.drift.len() < MAX_THREADS || self.drift.contains_key(&thread) =>
            {
                // The last value is old if the new one is none.
                match value {
                    Some(value) => self.drift.insert(thread, value),
                    None => self.drift.remove(&thread),
                };
                Quantity::Drift
            }
            // Texts such as the version have topics of their own.
            _ if value.is_none() => return Received::Stored,
            _ => return heartbeat(message),
        };
        if value.is_none() {
            let reason = not_a_number(&message.topic, &message.payload);
            self.unreadable.add(|| reason.clone());
            self.missing.insert(quantity, reason);
        }
        heartbeat(message)
    }

    fn answer(&mut self, _: Instant) -> Result<Answer, String> {
        let missing = std::mem::take(&mut self.missing).into_iter();
        let mut answer = Answer {
            unreadable: std::mem::take(&mut self.unreadable),
            missing: missing
                .map(|(quantity, reason)| Missing { quantity, reason })
                .collect(),
            ..Answer::default()
        };
        let mut push = |quantity, value: Option<f64>| {
            answer
                .samples
                .extend(value.map(|value| Sample::new(quantity, value)));
        };
        // NaN and negative values are passed on, so that they are reported as implausible.
        let greatest = self.drift.values().copied().reduce(f64::max);
        push(Quantity::Connections, self.total);
        push(Quantity::Rate, self.connecting);
        push(Quantity::Drift, greatest.map(|drift| drift / 1_000.0));
        push(
            Quantity::Utilisation,
            greatest.filter(|drift| *drift >= 0.0).map(utilisation),
        );
        if answer.samples.is_empty() {
            return Err("the broker publishes none of FlashMQ's topics".to_owned());
        }
        Ok(answer)
    }

    fn advice(&self) -> &'static str {
        "the broker is frozen, or the user may not read $SYS"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(reader: &mut FlashMq, topic: &str, payload: &[u8]) -> Received {
        reader.receive(&Message {
            topic: topic.to_owned(),
            payload: payload.to_owned().into(),
            retained: false,
        })
    }

    #[test]
    fn the_greatest_drift_makes_the_utilisation() {
        let mut reader = FlashMq::default();
        assert!(reader.answer(Instant::now()).is_err());
        for (topic, payload) in [
            ("$SYS/broker/clients/total", "120"),
            ("$SYS/broker/clients/mqttconnects/persecond", "2.5"),
            ("$SYS/broker/threads/0/drift/moving_avg__ms", "1"),
            ("$SYS/broker/threads/1/drift/moving_avg__ms", "20"),
            ("$SYS/broker/threads/x/drift/moving_avg__ms", "90"),
        ] {
            assert_eq!(
                take(&mut reader, topic, payload.as_bytes()),
                Received::Heartbeat
            );
        }
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Connections), Some(120.0));
        assert_eq!(answer.get(Quantity::Rate), Some(2.5));
        assert_eq!(answer.get(Quantity::Drift), Some(0.02));
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.4));
        assert_eq!(utilisation(500.0), 1.0);
    }

    #[test]
    fn a_topic_that_cannot_be_read_is_lost_alone() {
        let mut reader = FlashMq::default();
        let threads = "$SYS/broker/threads/0/drift/moving_avg__ms";
        take(&mut reader, "$SYS/broker/clients/total", b"120");
        take(&mut reader, threads, b"5");
        assert_eq!(
            take(&mut reader, "$SYS/broker/clients/total", b"undefined"),
            Received::Heartbeat
        );
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Connections), None);
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.1));
        assert_eq!(answer.missing[0].quantity, Quantity::Connections);
        assert_eq!(answer.unreadable.count, 1);
        take(&mut reader, "$SYS/broker/clients/total", b"121");
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!((answer.unreadable.count, answer.missing), (0, vec![]));
    }

    #[test]
    fn without_drift_there_is_no_utilisation() {
        let mut reader = FlashMq::default();
        take(&mut reader, "$SYS/broker/clients/total", b"1");
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), None);
    }

    #[test]
    fn stored_threads_are_bounded() {
        let mut reader = FlashMq::default();
        for thread in 0..10_000 {
            take(
                &mut reader,
                &format!("$SYS/broker/threads/{thread}/drift/moving_avg__ms"),
                b"1",
            );
        }
        assert_eq!(reader.drift.len(), MAX_THREADS);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(topic in "\\$SYS/broker/(threads/)?\\PC{0,20}(/drift/moving_avg__ms)?", payload in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut reader = FlashMq::default();
            take(&mut reader, &topic, &payload);
            let _ = reader.answer(Instant::now());
        }
    }
}
