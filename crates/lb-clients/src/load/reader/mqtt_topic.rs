//! A topic on which a job publishes its host's load as a number or as JSON.

use std::time::Instant;

use lb_model::settings::FieldError;

use super::{
    kind::{LoadReader, Reader, SourceTarget, Transport},
    shared::{
        json,
        peer::validate_text,
        topics::{Received, TopicReader},
    },
};
use crate::load::{pointer::Pointer, reading::Answer, values::Values};
use crate::peer::mqtt::Message;

lb_model::settings! {
    /// A topic with numbers.
    pub(super) struct Settings {
        /// Topic, without wildcards; may contain `{address}` and `{real}`.
        topic: String;
        /// A JSON pointer for each quantity, with a factor if need be; `.` is the whole payload, for one that is a number.
        values: Values<Pointer>;
    }
    validate(settings) {
        validate_text("topic", &settings.topic)?;
        if settings.topic.contains(['+', '#']) {
            return Err(FieldError::new(
                "topic",
                &settings.topic,
                "give one topic, without the wildcards + and #",
            ));
        }
        settings.values.validate("utilisation = \"/cpu * 0.01\"")
    }
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<MqttTopic>();

/// Keeps the last answer.
#[derive(Debug)]
pub(super) struct MqttTopic {
    topic: String,
    values: Values<Pointer>,
    last: Option<Answer>,
}

impl MqttTopic {
    /// Creates the reader of a topic for one real.
    fn new(settings: Settings, target: &SourceTarget<'_>) -> Self {
        MqttTopic {
            topic: target.fill(&settings.topic),
            values: settings.values,
            last: None,
        }
    }
}

impl LoadReader for MqttTopic {
    const NAME: &'static str = "mqtt-topic";
    const HELP: &'static str = "Subscribes to a topic on which a job publishes its host's load as a number or as JSON, at \
                                least once an interval. Retained messages are ignored.";
    const TRANSPORT: Transport = Transport::Mqtt;
    const PORT: Option<u16> = Some(1883);
    const TLS_PORT: Option<u16> = Some(8883);

    type Settings = Settings;

    fn open(settings: Settings, target: &SourceTarget<'_>) -> Reader {
        Reader::Subscribe(Box::new(MqttTopic::new(settings, target)))
    }
}

impl TopicReader for MqttTopic {
    fn filter(&self) -> &str {
        &self.topic
    }

    fn receive(&mut self, message: &Message) -> Received {
        // The job that published a retained message may have ended long ago.
        if message.topic != self.topic || message.retained {
            return Received::Stored;
        }
        match json::read(&message.payload, &self.values) {
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
    use crate::load::{reader::normalize, reading::Quantity};

    #[test]
    fn live_messages_are_read_and_retained_ones_are_not() {
        let source = normalize(
            &toml::from_str(
                "kind = 'mqtt-topic'\ntopic = 'hosts/{real}/load'\nvalues = { utilisation = '/cpu * 0.01' }",
            )
            .unwrap(),
        )
        .unwrap();
        let target = SourceTarget {
            source: &source,
            real: "10.0.0.7".parse().unwrap(),
            address: "10.0.0.7:1883".parse().unwrap(),
        };
        let mut reader = MqttTopic::new(source.reader.read().unwrap(), &target);
        assert_eq!(reader.filter(), "hosts/10.0.0.7/load");
        let take = |reader: &mut MqttTopic, topic: &str, payload: &str, retained| {
            reader.receive(&Message {
                topic: topic.to_owned(),
                payload: payload.to_owned().into(),
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
