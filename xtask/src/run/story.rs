//! What happened to the brokers, what followed, and what should not have happened.

use std::{collections::VecDeque, time::Duration};

use super::{
    episode::{Episode, Outage, Seen, Trouble, seconds},
    script::Deed,
};

/// Lines that are kept for the screen.
const LINES: usize = 7;
/// Faults whose words are kept.
const KEPT_FAULTS: usize = 20;
/// Episodes that are kept; in a run without an end the oldest are forgotten.
const KEPT_EPISODES: usize = 300;

/// Follows a run. All times are since the clients began.
#[derive(Debug)]
pub struct Story {
    episodes: VecDeque<Episode>,
    brokers: Vec<Broker>,
    /// Outages under way when they were told last.
    open: Vec<Outage>,
    lines: VecDeque<String>,
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Broker {
    share: f64,
    /// It is dead to the balancer though nothing was done to it, and that was said.
    wronged: bool,
}

/// What is no part of the demonstration: then the run has failed.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The first of them, in words.
    pub words: Vec<String>,
    /// All.
    pub count: u64,
    /// Those that are requests of a client which failed.
    pub requests: u64,
}

impl Faults {
    fn add(&mut self, fault: String) {
        self.count += 1;
        if self.words.len() < KEPT_FAULTS {
            self.words.push(fault);
        }
    }
}

impl Story {
    /// Of so many brokers, to which nothing was done.
    pub fn new(brokers: usize) -> Self {
        Self {
            episodes: VecDeque::new(),
            brokers: vec![Broker::default(); brokers],
            open: Vec::new(),
            lines: VecDeque::new(),
            faults: Faults::default(),
        }
    }

    /// Something was done to a broker.
    pub fn done(&mut self, deed: Deed, broker: usize, at: Duration) {
        let (trouble, words) = match deed {
            Deed::Load => (
                Some(Trouble::Loaded),
                "something else wants all of its host's CPU",
            ),
            Deed::Freeze => (Some(Trouble::Frozen), "frozen (SIGSTOP)"),
            Deed::Kill => (Some(Trouble::Killed), "killed (SIGKILL)"),
            Deed::Relieve => (None, "alone on its host again"),
            Deed::Thaw => (None, "goes on (SIGCONT)"),
            Deed::Revive => (None, "started again"),
        };
        if let Some(trouble) = trouble {
            if self.episodes.len() == KEPT_EPISODES {
                self.episodes.pop_front();
            }
            let share = self.brokers[broker].share;
            self.episodes
                .push_back(Episode::new(broker, trouble, at, share));
        } else if let Some(episode) = self.latest(broker) {
            episode.ended = Some(at);
        }
        self.tell(at, broker, words);
    }

    /// How the balancer sees a broker.
    pub fn see(&mut self, broker: usize, seen: &Seen) {
        self.brokers[broker].share = seen.share;
        if let Some(episode) = self.latest(broker) {
            for news in episode.see(seen) {
                self.tell(seen.at, broker, &news);
            }
        }
        let wronged = seen.out.is_some()
            && !self
                .episodes
                .iter()
                .any(|episode| episode.broker == broker && episode.explains_death(seen.at));
        if wronged && !self.brokers[broker].wronged {
            let fault = format!("out though nothing was done to it: {}", seen.reason);
            self.tell(seen.at, broker, &fault);
            self.faults.add(format!(
                "broker {} at {}: {fault}",
                broker + 1,
                seconds(seen.at)
            ));
        }
        self.brokers[broker].wronged = wronged;
    }

    /// What happened to clients: outages that are over, each told once, and all that are under way.
    pub fn hear(&mut self, outages: Vec<Outage>) {
        for episode in &mut self.episodes {
            episode.recount();
        }
        let open = outages
            .iter()
            .filter(|outage| outage.ended.is_none())
            .cloned()
            .collect();
        let before = std::mem::replace(&mut self.open, open);
        for outage in outages {
            let first = !before
                .iter()
                .any(|known| known.began == outage.began && known.broker == outage.broker);
            let reason = self
                .episodes
                .iter_mut()
                .rev()
                .find(|episode| episode.explains(&outage));
            match reason {
                Some(episode) => {
                    episode.count(&outage, first);
                    if let Some(ended) = outage.ended
                        && outage.too_long(ended)
                    {
                        self.fail(late(&outage, ended));
                    }
                }
                None if first => {
                    let what = match outage.broker {
                        Some(broker) => format!("broker {} lost a client", broker + 1),
                        None => "a client could not connect".to_owned(),
                    };
                    self.fail(format!(
                        "{what} at {} though nothing was done: {}",
                        seconds(outage.began),
                        outage.why
                    ));
                }
                None => {}
            }
        }
    }

    fn fail(&mut self, fault: String) {
        self.push(fault.clone());
        self.faults.requests += 1;
        self.faults.add(fault);
    }

    /// What is being done to a broker.
    pub fn trouble(&self, broker: usize) -> Option<Trouble> {
        self.episodes
            .iter()
            .rev()
            .find(|episode| episode.broker == broker)
            .filter(|episode| episode.ended.is_none())
            .map(|episode| episode.trouble)
    }

    /// The last lines of what happened.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The end: what was done, and what should not have happened.
    pub fn finish(mut self, now: Duration) -> (Vec<Episode>, Faults) {
        for outage in std::mem::take(&mut self.open) {
            if outage.too_long(now) {
                self.fail(late(&outage, now));
            }
        }
        for episode in &self.episodes {
            for fault in episode.faults(now) {
                self.faults.add(fault);
            }
        }
        (self.episodes.into(), self.faults)
    }

    fn latest(&mut self, broker: usize) -> Option<&mut Episode> {
        self.episodes
            .iter_mut()
            .rev()
            .find(|episode| episode.broker == broker)
    }

    fn tell(&mut self, at: Duration, broker: usize, words: &str) {
        self.push(format!(
            "{:>7}  broker {}: {words}",
            seconds(at),
            broker + 1
        ));
    }

    fn push(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

fn late(outage: &Outage, now: Duration) -> String {
    format!(
        "a client was not connected for {} from {} on: {}",
        seconds(now.saturating_sub(outage.began)),
        seconds(outage.began),
        outage.why
    )
}

#[cfg(test)]
mod tests;
