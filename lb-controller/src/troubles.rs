//! What is wrong: each trouble is an event when it begins and when it ends.

use std::collections::BTreeMap;

use crate::pool::Event;

/// The kind of the event with which a trouble begins.
pub const BEGINS: &str = "trouble";
/// The kind of the event with which it ends.
pub const ENDS: &str = "trouble_over";

/// What is wrong now, in words, by a key that stays while the words change: `agent unix:/run/lb-agent/api.sock`.
pub type Now = BTreeMap<String, String>;

/// What was wrong when it was looked at last.
#[derive(Debug, Default)]
pub struct Troubles(Now);

impl Troubles {
    /// Takes what is wrong now, and returns the news.
    pub fn update(&mut self, now: Now) -> Vec<Event> {
        let event = |kind, text: &String| Event {
            instance: None,
            kind,
            text: text.clone(),
            is_alarm: false,
        };
        let ended = self.0.iter().filter(|(key, _)| !now.contains_key(*key));
        let mut events: Vec<Event> = ended.map(|(_, text)| event(ENDS, text)).collect();
        let begun = now.iter().filter(|(key, _)| !self.0.contains_key(*key));
        events.extend(begun.map(|(_, text)| event(BEGINS, text)));
        self.0 = now;
        events
    }

    /// What is wrong, in words.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_when_it_begins_and_when_it_ends() {
        let now = |entries: &[(&str, &str)]| -> Now {
            let entries = entries.iter();
            entries
                .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
                .collect()
        };
        let mut troubles = Troubles::default();
        let mut update = |entries: &[(&str, &str)]| -> Vec<(&str, String)> {
            let events = troubles.update(now(entries)).into_iter();
            events.map(|event| (event.kind, event.text)).collect()
        };
        let begins = |text: &str| (BEGINS, text.to_owned());
        let ends = |text: &str| (ENDS, text.to_owned());
        assert_eq!(update(&[]), []);
        assert_eq!(
            update(&[("store", "silent for 2s"), ("agent", "away")]),
            [begins("away"), begins("silent for 2s")]
        );
        // Other words are no news.
        assert_eq!(update(&[("store", "silent for 3s")]), [ends("away")]);
        assert_eq!(update(&[]), [ends("silent for 3s")]);
    }
}
