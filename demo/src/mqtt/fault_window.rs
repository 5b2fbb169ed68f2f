//! One fault of a broker and its consequences. All times are since the clients started.

use std::time::Duration;

use super::schedule::Fault;
use crate::log::seconds;

/// A share that has fallen to this fraction of what it was has followed the load.
const REDUCED: f64 = 0.85;
/// A share that has grown back to this fraction has recovered; the other shares have changed meanwhile, too.
const RESTORED: f64 = 0.8;
/// A dead broker must be out of rotation within this time: the 3.4 s of its health check, and time to see it.
const DETECTION_LIMIT: Duration = Duration::from_secs(5);
/// A repaired broker must be back in rotation within this time.
const RETURN_LIMIT: Duration = Duration::from_secs(10);
/// A client must be connected again within this time: it waits up to 3 s for a broker that is not known to be dead.
const RECONNECT_LIMIT: Duration = Duration::from_secs(8);
/// An outage that begins this long after the end of a fault is still a consequence of it.
const AFTERMATH: Duration = Duration::from_secs(5);
/// If no further client was disconnected for this long, all of them are counted.
const QUIET: Duration = Duration::from_secs(2);

/// What the agent says about a broker, over all its VIPs.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSnapshot {
    /// When the agent was asked.
    pub at: Duration,
    /// Since when it is down for every VIP; `None` if it is up for one of them.
    pub down_since: Option<Duration>,
    /// Since when it is active for every VIP; `None` if it is not for one of them.
    pub active_since: Option<Duration>,
    /// Mean of its shares of new connections, 0 to 1.
    pub share: f64,
    /// What its last probe found.
    pub reason: String,
}

/// A time in which a client was disconnected against its will.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// The broker that the client was connected to, counted from 0; `None` if the client could not connect in the
    /// first place.
    pub broker: Option<usize>,
    /// When it began.
    pub began: Duration,
    /// When it was over; `None` if it lasts.
    pub ended: Option<Duration>,
    /// The client's error.
    pub why: String,
}

/// A fault of a broker, from its begin until every consequence is over.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultWindow {
    /// The broker, counted from 0.
    pub broker: usize,
    /// What is wrong with it.
    pub fault: Fault,
    /// When the fault began.
    pub began: Duration,
    /// When the fault was repaired.
    pub ended: Option<Duration>,
    /// The broker's share of new connections before, 0 to 1.
    pub share_before: f64,
    /// The least share during the fault.
    pub share_least: f64,
    /// When the share had fallen; for a broker that is loaded.
    pub share_reduced: Option<Duration>,
    /// When the broker was out of rotation for every VIP.
    pub out: Option<Duration>,
    /// When the repaired broker was back in rotation for every VIP.
    pub returned: Option<Duration>,
    /// When the repaired broker had most of its share again.
    pub restored: Option<Duration>,
    /// Clients whose connection broke.
    pub disconnected: usize,
    /// New clients that could not connect at the first attempt.
    pub refused: usize,
    /// When the last of the disconnected clients was connected again.
    pub reconnected: Option<Duration>,
    /// The longest time that a new client had to wait.
    pub longest_wait: Duration,
    last_outage: Duration,
    /// Clients that are disconnected now.
    missing: usize,
    clients_reported: bool,
}

impl FaultWindow {
    /// Creates the window of a fault that begins now; `share` is the broker's share of new connections.
    pub fn new(broker: usize, fault: Fault, began: Duration, share: f64) -> Self {
        Self {
            broker,
            fault,
            began,
            ended: None,
            share_before: share,
            share_least: share,
            share_reduced: None,
            out: None,
            returned: None,
            restored: None,
            disconnected: 0,
            refused: 0,
            reconnected: None,
            longest_wait: Duration::ZERO,
            last_outage: began,
            missing: 0,
            clients_reported: false,
        }
    }

    /// Returns whether the broker may be out of rotation at this time because of the fault.
    pub fn explains_death(&self, at: Duration) -> bool {
        let over = self
            .returned
            .or(self.ended.map(|ended| ended + RETURN_LIMIT));
        self.fault != Fault::CpuLoad && self.began <= at && over.is_none_or(|over| at <= over)
    }

    /// Returns whether the outage is a consequence of the fault.
    pub fn explains(&self, outage: &Outage) -> bool {
        self.fault != Fault::CpuLoad
            && outage.broker.is_none_or(|broker| broker == self.broker)
            && self.began <= outage.began
            && self
                .ended
                .is_none_or(|ended| outage.began <= ended + AFTERMATH)
    }

    /// Forgets how many clients are disconnected, before [`count`](Self::count) is called for each of them.
    pub fn recount(&mut self) {
        self.missing = 0;
    }

    /// Counts an outage that the fault explains; `first` is whether it was not counted before.
    pub fn count(&mut self, outage: &Outage, first: bool) {
        if first {
            match outage.broker {
                Some(_) => self.disconnected += 1,
                None => self.refused += 1,
            }
            self.last_outage = self.last_outage.max(outage.began);
        }
        match (outage.ended, outage.broker) {
            (None, _) => self.missing += 1,
            (Some(ended), Some(_)) => self.reconnected = self.reconnected.max(Some(ended)),
            (Some(ended), None) => {
                let waited = ended.saturating_sub(outage.began);
                self.longest_wait = self.longest_wait.max(waited);
            }
        }
    }

    /// Takes a new snapshot of the broker into account and returns the news, one text each.
    pub fn observe(&mut self, snapshot: &BrokerSnapshot) -> Vec<String> {
        let mut news = Vec::new();
        match self.fault {
            Fault::CpuLoad => self.observe_share(snapshot, &mut news),
            Fault::Freeze | Fault::Kill => self.observe_death(snapshot, &mut news),
        }
        if let Some(ended) = self.ended
            && self.restored.is_none()
            && snapshot.active_since.is_some()
            && snapshot.share >= self.share_before * RESTORED
            && (self.fault != Fault::CpuLoad || self.share_reduced.is_some())
        {
            self.restored = Some(snapshot.at);
            news.push(format!(
                "gets {} of new connections again after {}",
                percent(snapshot.share),
                seconds(snapshot.at.saturating_sub(ended))
            ));
        }
        news
    }

    fn observe_share(&mut self, snapshot: &BrokerSnapshot, news: &mut Vec<String>) {
        if self.restored.is_some() {
            return;
        }
        self.share_least = self.share_least.min(snapshot.share);
        if self.share_reduced.is_none() && self.share_least <= self.share_before * REDUCED {
            self.share_reduced = Some(snapshot.at);
            news.push(format!(
                "gets {} of new connections after {}, down from {}",
                percent(snapshot.share),
                seconds(snapshot.at.saturating_sub(self.began)),
                percent(self.share_before)
            ));
        }
    }

    fn observe_death(&mut self, snapshot: &BrokerSnapshot, news: &mut Vec<String>) {
        if self.out.is_none()
            && let Some(out) = snapshot.down_since
        {
            self.out = Some(out);
            self.share_least = 0.0;
            news.push(format!(
                "out of rotation after {}: {}",
                seconds(out.saturating_sub(self.began)),
                snapshot.reason
            ));
        }
        if let Some(out) = self.out
            && !self.clients_reported
            && self.missing == 0
            && snapshot.at >= out.max(self.last_outage) + QUIET
        {
            self.clients_reported = true;
            news.push(self.clients());
        }
        if let Some(ended) = self.ended
            && self.returned.is_none()
            && let Some(active) = snapshot.active_since
        {
            self.returned = Some(active.max(ended));
            let after = seconds(active.saturating_sub(ended));
            news.push(match self.out {
                Some(_) => format!("back in rotation after {after}, in slow start"),
                None => "was never out of rotation".to_owned(),
            });
        }
    }

    /// Describes what became of the clients.
    fn clients(&self) -> String {
        let mut text = match self.reconnected {
            Some(last) => format!(
                "{} reconnected within {}",
                plural(self.disconnected, "client"),
                seconds(last.saturating_sub(self.began))
            ),
            None => format!("{} disconnected", plural(self.disconnected, "client")),
        };
        if self.refused > 0 {
            text += &format!(
                ", {} waited up to {}",
                plural(self.refused, "new client"),
                seconds(self.longest_wait)
            );
        }
        text
    }

    /// Describes the whole window in one line.
    pub fn summary(&self) -> String {
        let after = |event: Option<Duration>, since: Duration| {
            event.map_or("not before the end".to_owned(), |event| {
                format!("after {}", seconds(event.saturating_sub(since)))
            })
        };
        let mut text = format!(
            "broker {} {} at {}",
            self.broker + 1,
            self.fault.adjective(),
            seconds(self.began)
        );
        if let Some(ended) = self.ended {
            text += &format!(" for {}", seconds(ended.saturating_sub(self.began)));
        }
        match self.fault {
            Fault::CpuLoad => {
                text += &format!(
                    ": its share of new connections fell from {} to {}",
                    percent(self.share_before),
                    percent(self.share_least)
                );
            }
            Fault::Freeze | Fault::Kill => {
                text += &format!(
                    ": out of rotation {}, {}",
                    after(self.out, self.began),
                    self.clients()
                );
            }
        }
        if let Some(ended) = self.ended {
            text += "; then";
            if self.fault != Fault::CpuLoad {
                text += &format!(" back in rotation {},", after(self.returned, ended));
            }
            text += &format!(" most of its share back {}", after(self.restored, ended));
        }
        text
    }

    /// Returns what did not go as it should, as far as can be said at `now`.
    pub fn violations(&self, now: Duration) -> Vec<String> {
        let mut violations = Vec::new();
        let until = self.ended.unwrap_or(now);
        match self.fault {
            Fault::CpuLoad => {
                if self.ended.is_some() && self.share_reduced.is_none() {
                    violations.push(format!(
                        "its share of new connections did not fall with its load: {} before, {} at the lowest",
                        percent(self.share_before),
                        percent(self.share_least)
                    ));
                }
            }
            Fault::Freeze | Fault::Kill => {
                let out = self.out.unwrap_or(until);
                if out.saturating_sub(self.began) > DETECTION_LIMIT {
                    violations.push(format!(
                        "it was not out of rotation within {}",
                        seconds(DETECTION_LIMIT)
                    ));
                }
                if let Some(ended) = self.ended
                    && self.returned.unwrap_or(now).saturating_sub(ended) > RETURN_LIMIT
                {
                    violations.push(format!(
                        "it was not back in rotation within {}",
                        seconds(RETURN_LIMIT)
                    ));
                }
            }
        }
        violations
            .into_iter()
            .map(|violation| {
                format!(
                    "broker {}, {} at {}: {violation}",
                    self.broker + 1,
                    self.fault.adjective(),
                    seconds(self.began)
                )
            })
            .collect()
    }
}

impl Outage {
    /// Returns whether the outage lasts, or has lasted, longer than a fault may cause.
    pub fn too_long(&self, now: Duration) -> bool {
        self.ended.unwrap_or(now).saturating_sub(self.began) > RECONNECT_LIMIT
    }
}

/// Formats a fraction of 1 in whole percent.
pub fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

fn plural(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
