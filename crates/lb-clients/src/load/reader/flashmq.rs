//! FlashMQ: its `$SYS` topics. The score is how late the event loops are. That the topics stand below
//! `$SYS/broker/` is from memory and was not seen on a live broker.

use std::{collections::BTreeMap, time::Instant};

use super::topics::{Taken, Topics, number};
use crate::load::reading::{Answer, Quantity, Sample};
use crate::peer::mqtt::Message;

const ROOT: &str = "$SYS/broker/";
const TOTAL: &str = "clients/total";
const CONNECTING: &str = "clients/mqttconnects/persecond";
/// Around the number of the thread.
const DRIFT: (&str, &str) = ("threads/", "/drift/moving_avg__ms");
/// Threads whose drift is kept.
const MAX_THREADS: usize = 1_024;
/// A loop that is so late counts as wholly used. A loop with nothing to do is late by less than 1 ms.
const FULL_DRIFT_MS: f64 = 50.0;

/// The last values.
#[derive(Debug, Default)]
pub struct FlashMq {
    total: Option<f64>,
    connecting: Option<f64>,
    drift: BTreeMap<u32, f64>,
}

/// How used the latest loop is: 0 at no drift, 1 at [`FULL_DRIFT_MS`] and above, a straight line between.
fn score(drift: f64) -> f64 {
    (drift / FULL_DRIFT_MS).clamp(0.0, 1.0)
}

fn thread(below: &str) -> Option<u32> {
    below
        .strip_prefix(DRIFT.0)?
        .strip_suffix(DRIFT.1)?
        .parse()
        .ok()
}

impl Topics for FlashMq {
    fn filter(&self) -> &str {
        "$SYS/broker/#"
    }

    fn take(&mut self, message: &Message) -> Taken {
        let (Some(below), Some(value)) =
            (message.topic.strip_prefix(ROOT), number(&message.payload))
        else {
            return Taken::Kept;
        };
        match (below, thread(below)) {
            (TOTAL, _) => self.total = Some(value),
            (CONNECTING, _) => self.connecting = Some(value),
            (_, Some(thread))
                if self.drift.len() < MAX_THREADS || self.drift.contains_key(&thread) =>
            {
                self.drift.insert(thread, value);
            }
            _ => {}
        }
        // Everything is told each 10 s, changed or not.
        if message.retained {
            Taken::Kept
        } else {
            Taken::Heartbeat
        }
    }

    fn answer(&mut self, _: Instant) -> Result<Answer, String> {
        let mut answer = Answer::default();
        let mut say = |quantity, value: Option<f64>| {
            answer
                .samples
                .extend(value.map(|value| Sample::new(quantity, value)));
        };
        // NaN and negative ones go on, so that they are marked.
        let latest = self.drift.values().copied().reduce(f64::max);
        say(Quantity::Connections, self.total);
        say(Quantity::Rate, self.connecting);
        say(Quantity::Drift, latest.map(|drift| drift / 1_000.0));
        say(
            Quantity::Utilisation,
            latest.filter(|drift| *drift >= 0.0).map(score),
        );
        if answer.samples.is_empty() {
            return Err("the broker tells none of FlashMQ's topics".to_owned());
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

    fn take(reader: &mut FlashMq, topic: &str, payload: &[u8]) -> Taken {
        reader.take(&Message {
            topic: topic.to_owned(),
            payload: payload.to_owned().into(),
            retained: false,
        })
    }

    #[test]
    fn the_latest_loop_makes_the_score() {
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
                Taken::Heartbeat
            );
        }
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Connections), Some(120.0));
        assert_eq!(answer.get(Quantity::Rate), Some(2.5));
        assert_eq!(answer.get(Quantity::Drift), Some(0.02));
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.4));
        assert_eq!(score(500.0), 1.0);
    }

    #[test]
    fn without_drift_there_is_no_score() {
        let mut reader = FlashMq::default();
        take(&mut reader, "$SYS/broker/clients/total", b"1");
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
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
