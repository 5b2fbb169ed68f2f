//! A topic on which a job publishes its host's load, as a number or as JSON.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use super::{
    json,
    topics::{Taken, Topics},
};
use crate::load::{
    reading::{Answer, Quantity},
    spec::{Pointer, Source},
};
use crate::peer::mqtt::Message;

/// The last answer.
#[derive(Debug)]
pub struct MqttTopic {
    topic: String,
    values: BTreeMap<Quantity, Pointer>,
    last: Option<Answer>,
}

impl MqttTopic {
    /// Reads this topic of the source for one real.
    #[must_use]
    pub fn new(
        source: &Source,
        real: IpAddr,
        topic: &str,
        values: &BTreeMap<Quantity, Pointer>,
    ) -> Self {
        MqttTopic {
            topic: source.fill(topic, real),
            values: values.clone(),
            last: None,
        }
    }
}

impl Topics for MqttTopic {
    fn filter(&self) -> &str {
        &self.topic
    }

    fn take(&mut self, message: &Message) -> Taken {
        // A retained one may be of a job that is dead for years.
        if message.topic != self.topic || message.retained {
            return Taken::Kept;
        }
        match json::read(&message.payload, &self.values) {
            Ok(answer) => {
                self.last = Some(answer);
                Taken::Heartbeat
            }
            Err(reason) => Taken::Unreadable(format!("topic {}: {reason}", self.topic)),
        }
    }

    fn answer(&mut self, _: Instant) -> Result<Answer, String> {
        self.last
            .take()
            .ok_or_else(|| format!("nothing was published on {}", self.topic))
    }

    fn advice(&self) -> &'static str {
        "nobody publishes on the topic as often as the source's interval says, or the user may not read it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_messages_are_read_and_retained_ones_are_not() {
        let source: Source = toml::from_str(
            "kind = 'mqtt-topic'\ntopic = 'hosts/{real}/load'\nvalues = { utilisation = '/cpu * 0.01' }",
        )
        .unwrap();
        let crate::load::spec::Reader::MqttTopic { topic, values } = &source.reader else {
            panic!("another kind");
        };
        let mut reader = MqttTopic::new(&source, "10.0.0.7".parse().unwrap(), topic, values);
        assert_eq!(reader.filter(), "hosts/10.0.0.7/load");
        let take = |reader: &mut MqttTopic, topic: &str, payload: &str, retained| {
            reader.take(&Message {
                topic: topic.to_owned(),
                payload: payload.to_owned().into(),
                retained,
            })
        };
        let topic = "hosts/10.0.0.7/load";
        assert_eq!(take(&mut reader, topic, r#"{"cpu": 1}"#, true), Taken::Kept);
        assert_eq!(
            take(&mut reader, "other", r#"{"cpu": 1}"#, false),
            Taken::Kept
        );
        assert!(matches!(
            take(&mut reader, topic, "soon", false),
            Taken::Unreadable(reason) if reason.contains("no JSON")
        ));
        assert!(reader.answer(Instant::now()).is_err());
        assert_eq!(
            take(&mut reader, topic, r#"{"cpu": 50}"#, false),
            Taken::Heartbeat
        );
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.5));
    }
}
