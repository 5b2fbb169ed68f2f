//! A topic on which a job publishes its host's load as a number or as JSON.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use super::{
    json,
    topics::{Message, Received, TopicReader},
};
use crate::load::{
    config::{Pointer, Source},
    reading::{Answer, Quantity},
};

/// Keeps the last answer.
#[derive(Debug)]
pub struct MqttTopic {
    topic: String,
    values: BTreeMap<Quantity, Pointer>,
    last: Option<Answer>,
}

impl MqttTopic {
    /// Creates the reader of a topic for one real.
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

impl TopicReader for MqttTopic {
    fn filter(&self) -> &str {
        &self.topic
    }

    fn receive(&mut self, message: &Message<'_>) -> Received {
        // The job that published a retained message may have ended long ago.
        if message.topic != self.topic || message.retained {
            return Received::Stored;
        }
        match json::read(message.payload, &self.values) {
            Ok(answer) => {
                self.last = Some(answer);
                Received::Heartbeat
            }
            Err(reason) => Received::Unreadable(format!("topic {}: {reason}", self.topic)),
        }
    }

    fn answer(&mut self, _: Instant) -> Result<Answer, String> {
        self.last
            .take()
            .ok_or_else(|| format!("nothing was published on {}", self.topic))
    }

    fn advice(&self) -> &'static str {
        "the topic is published less often than once in the source's interval, or the user may not read it"
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
        let crate::load::config::Reader::MqttTopic { topic, values } = &source.reader else {
            panic!("another kind");
        };
        let mut reader = MqttTopic::new(&source, "10.0.0.7".parse().unwrap(), topic, values);
        assert_eq!(reader.filter(), "hosts/10.0.0.7/load");
        let take = |reader: &mut MqttTopic, topic: &str, payload: &str, retained| {
            reader.receive(&Message {
                topic,
                payload: payload.as_bytes(),
                retained,
            })
        };
        let topic = "hosts/10.0.0.7/load";
        assert_eq!(
            take(&mut reader, topic, r#"{"cpu": 1}"#, true),
            Received::Stored
        );
        assert_eq!(
            take(&mut reader, "other", r#"{"cpu": 1}"#, false),
            Received::Stored
        );
        assert!(matches!(
            take(&mut reader, topic, "soon", false),
            Received::Unreadable(reason) if reason.contains("not JSON")
        ));
        assert!(reader.answer(Instant::now()).is_err());
        assert_eq!(
            take(&mut reader, topic, r#"{"cpu": 50}"#, false),
            Received::Heartbeat
        );
        let answer = reader.answer(Instant::now()).unwrap();
        assert_eq!(answer.get(Quantity::Utilisation), Some(0.5));
    }
}
