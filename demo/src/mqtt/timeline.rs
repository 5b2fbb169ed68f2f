//! The course of a run: the faults, their consequences, and what should not have happened.

use std::{collections::VecDeque, time::Duration};

use super::{
    fault_window::{BrokerSnapshot, FaultWindow, Outage},
    schedule::{Edge, Fault},
};
use crate::{
    log::{Log, seconds},
    violations::Violations,
};

/// Fault windows that are kept; an endless run forgets the oldest.
const KEPT_WINDOWS: usize = 300;

/// Follows a run. All times are since the clients started.
#[derive(Debug)]
pub struct Timeline {
    windows: VecDeque<FaultWindow>,
    brokers: Vec<Broker>,
    /// Outages under way at the last report.
    open: Vec<Outage>,
    log: Log,
    violations: Violations,
}

#[derive(Clone, Debug, Default)]
struct Broker {
    share: f64,
    /// It is out of rotation without a fault, and that was reported.
    wrongly_out: bool,
}

impl Timeline {
    /// Creates the timeline of this many brokers, all of them without a fault.
    pub fn new(brokers: usize) -> Self {
        Self {
            windows: VecDeque::new(),
            brokers: vec![Broker::default(); brokers],
            open: Vec::new(),
            log: Log::default(),
            violations: Violations::default(),
        }
    }

    /// Records that a fault of a broker has begun or ended.
    pub fn record(&mut self, fault: Fault, edge: Edge, broker: usize, at: Duration) {
        match edge {
            Edge::Begin => {
                if self.windows.len() == KEPT_WINDOWS {
                    self.windows.pop_front();
                }
                let share = self.brokers[broker].share;
                self.windows
                    .push_back(FaultWindow::new(broker, fault, at, share));
            }
            Edge::End => {
                if let Some(window) = self.latest(broker) {
                    window.ended = Some(at);
                }
            }
        }
        let words = match (fault, edge) {
            (Fault::CpuLoad, Edge::Begin) => "another program takes all of its host's CPU",
            (Fault::CpuLoad, Edge::End) => "the other program has ended",
            (Fault::Freeze, Edge::Begin) => "frozen (SIGSTOP)",
            (Fault::Freeze, Edge::End) => "resumed (SIGCONT)",
            (Fault::Kill, Edge::Begin) => "killed (SIGKILL)",
            (Fault::Kill, Edge::End) => "restarted",
        };
        self.report(at, broker, words);
    }

    /// Takes a new snapshot of a broker into account.
    pub fn observe(&mut self, broker: usize, snapshot: &BrokerSnapshot) {
        self.brokers[broker].share = snapshot.share;
        if let Some(window) = self.latest(broker) {
            for news in window.observe(snapshot) {
                self.report(snapshot.at, broker, &news);
            }
        }
        let wrongly_out = snapshot.down_since.is_some()
            && !self
                .windows
                .iter()
                .any(|window| window.broker == broker && window.explains_death(snapshot.at));
        if wrongly_out && !self.brokers[broker].wrongly_out {
            let violation = format!("out of rotation without a fault: {}", snapshot.reason);
            self.report(snapshot.at, broker, &violation);
            self.violations.add(format!(
                "broker {} at {}: {violation}",
                broker + 1,
                seconds(snapshot.at)
            ));
        }
        self.brokers[broker].wrongly_out = wrongly_out;
    }

    /// Takes the clients' outages into account: those that have ended since the last call, and all that last.
    pub fn add_outages(&mut self, outages: Vec<Outage>) {
        for window in &mut self.windows {
            window.recount();
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
            let cause = self
                .windows
                .iter_mut()
                .rev()
                .find(|window| window.explains(&outage));
            match cause {
                Some(window) => {
                    window.count(&outage, first);
                    if let Some(ended) = outage.ended
                        && outage.too_long(ended)
                    {
                        self.fail(too_long(&outage, ended));
                    }
                }
                None if first => {
                    let what = match outage.broker {
                        Some(broker) => format!("broker {} lost a client", broker + 1),
                        None => "a client could not connect".to_owned(),
                    };
                    self.fail(format!(
                        "{what} at {} without a fault: {}",
                        seconds(outage.began),
                        outage.why
                    ));
                }
                None => {}
            }
        }
    }

    fn fail(&mut self, violation: String) {
        self.log.push(violation.clone());
        self.violations.add_request(violation);
    }

    /// Returns the fault that a broker suffers now.
    pub fn current_fault(&self, broker: usize) -> Option<Fault> {
        self.windows
            .iter()
            .rev()
            .find(|window| window.broker == broker)
            .filter(|window| window.ended.is_none())
            .map(|window| window.fault)
    }

    /// Returns the last lines of the log.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.log.lines()
    }

    /// Ends the run and returns the faults with their consequences, and what should not have happened.
    pub fn finish(mut self, now: Duration) -> (Vec<FaultWindow>, Violations) {
        for outage in std::mem::take(&mut self.open) {
            if outage.too_long(now) {
                self.fail(too_long(&outage, now));
            }
        }
        for window in &self.windows {
            for violation in window.violations(now) {
                self.violations.add(violation);
            }
        }
        (self.windows.into(), self.violations)
    }

    fn latest(&mut self, broker: usize) -> Option<&mut FaultWindow> {
        self.windows
            .iter_mut()
            .rev()
            .find(|window| window.broker == broker)
    }

    fn report(&mut self, at: Duration, broker: usize, words: &str) {
        self.log
            .report(at, &format!("broker {}", broker + 1), words);
    }
}

fn too_long(outage: &Outage, now: Duration) -> String {
    format!(
        "a client was disconnected for {} from {} on: {}",
        seconds(now.saturating_sub(outage.began)),
        seconds(outage.began),
        outage.why
    )
}

#[cfg(test)]
mod tests;
