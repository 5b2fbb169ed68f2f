//! One thing that is done to a broker, and what follows from it.

use std::time::Duration;

use serde::Serialize;

/// A share that came down to this part of what it was has followed the load, ...
const SHRUNK: f64 = 0.85;
/// ... and one that has come back to this part is as before: the others' have changed, too.
const RESTORED: f64 = 0.8;
/// A dead broker must be out within this time: what its check allows, 3.4 s, and time to see it.
const FOUND: Duration = Duration::from_secs(5);
/// One that is there again must be in again within this time.
const RETURNED: Duration = Duration::from_secs(10);
/// A client must be connected again within this time: it tries for 3 s to reach a broker that is not found yet.
const BACK: Duration = Duration::from_secs(8);
/// What happens so long after the end still follows from it.
const AFTERMATH: Duration = Duration::from_secs(5);
/// When for so long nobody else was cut off, all are counted.
const QUIET: Duration = Duration::from_secs(2);

/// What is wrong with a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trouble {
    /// Something else takes its host's CPU.
    Loaded,
    /// It is stopped where it is.
    Frozen,
    /// It is not there.
    Killed,
}

impl Trouble {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Frozen => "frozen",
            Self::Killed => "killed",
        }
    }
}

/// How the balancer sees a broker, over all its VIPs. Times are since the clients began.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// When.
    pub at: Duration,
    /// Since when it is dead to every VIP; `None`: not to all.
    pub out: Option<Duration>,
    /// Since when it is alive to every VIP; `None`: not to all.
    pub up: Option<Duration>,
    /// Mean of its shares of new connections, 0 to 1.
    pub share: f64,
    /// What its last probe says.
    pub reason: String,
}

/// A client that was not connected though it wanted to be. Times are since the clients began.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// The broker that it was connected to, from 0; `None`: it could not connect when it came.
    pub broker: Option<usize>,
    /// When it began.
    pub began: Duration,
    /// When it was over; `None`: it is not yet.
    pub ended: Option<Duration>,
    /// In words.
    pub why: String,
}

/// A trouble of a broker, from its begin until everything is as before. Times are since the clients began.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// Which broker, from 0.
    pub broker: usize,
    /// What is wrong.
    pub trouble: Trouble,
    /// Since when.
    pub began: Duration,
    /// Until when.
    pub ended: Option<Duration>,
    /// Its share of new connections before.
    pub before: f64,
    /// The least share it had while it was in trouble.
    pub least: f64,
    /// When its share had shrunk.
    pub shrunk: Option<Duration>,
    /// When it was dead to every VIP.
    pub out: Option<Duration>,
    /// When it was alive to every VIP after the end.
    pub returned: Option<Duration>,
    /// When it had most of its share after the end.
    pub restored: Option<Duration>,
    /// Clients that were cut off.
    pub cut: usize,
    /// Clients that came meanwhile and could not connect at once.
    pub refused: usize,
    /// When the last that was cut off was connected again.
    pub back: Option<Duration>,
    /// The longest that one that came had to wait.
    pub waited: Duration,
    /// When the last outage began.
    last: Duration,
    /// Those that are not connected now.
    missing: usize,
    told_back: bool,
}

impl Episode {
    /// Begins; `share` is what the broker has.
    pub fn new(broker: usize, trouble: Trouble, began: Duration, share: f64) -> Self {
        Self {
            broker,
            trouble,
            began,
            ended: None,
            before: share,
            least: share,
            shrunk: None,
            out: None,
            returned: None,
            restored: None,
            cut: 0,
            refused: 0,
            back: None,
            waited: Duration::ZERO,
            last: began,
            missing: 0,
            told_back: false,
        }
    }

    /// Whether the broker may be dead to the balancer then.
    pub fn explains_death(&self, at: Duration) -> bool {
        let over = self.returned.or(self.ended.map(|ended| ended + RETURNED));
        self.trouble != Trouble::Loaded && self.began <= at && over.is_none_or(|over| at <= over)
    }

    /// Whether it is the reason of an outage.
    pub fn explains(&self, outage: &Outage) -> bool {
        self.trouble != Trouble::Loaded
            && outage.broker.is_none_or(|broker| broker == self.broker)
            && self.began <= outage.began
            && self
                .ended
                .is_none_or(|ended| outage.began <= ended + AFTERMATH)
    }

    /// Those that are not connected are told anew.
    pub fn recount(&mut self) {
        self.missing = 0;
    }

    /// Counts an outage that follows from it; `first`: it was not counted before.
    pub fn count(&mut self, outage: &Outage, first: bool) {
        if first {
            match outage.broker {
                Some(_) => self.cut += 1,
                None => self.refused += 1,
            }
            self.last = self.last.max(outage.began);
        }
        match (outage.ended, outage.broker) {
            (None, _) => self.missing += 1,
            (Some(ended), Some(_)) => self.back = self.back.max(Some(ended)),
            (Some(ended), None) => {
                let waited = ended.saturating_sub(outage.began);
                self.waited = self.waited.max(waited);
            }
        }
    }

    /// Notes how the balancer sees the broker; gives what is new, in words.
    pub fn see(&mut self, seen: &Seen) -> Vec<String> {
        let mut news = Vec::new();
        match self.trouble {
            Trouble::Loaded => self.see_share(seen, &mut news),
            Trouble::Frozen | Trouble::Killed => self.see_death(seen, &mut news),
        }
        if let Some(ended) = self.ended
            && self.restored.is_none()
            && seen.up.is_some()
            && seen.share >= self.before * RESTORED
            && (self.trouble != Trouble::Loaded || self.shrunk.is_some())
        {
            self.restored = Some(seen.at);
            news.push(format!(
                "has {} of new connections again after {}",
                percent(seen.share),
                seconds(seen.at.saturating_sub(ended))
            ));
        }
        news
    }

    fn see_share(&mut self, seen: &Seen, news: &mut Vec<String>) {
        if self.restored.is_some() {
            return;
        }
        self.least = self.least.min(seen.share);
        if self.shrunk.is_none() && self.least <= self.before * SHRUNK {
            self.shrunk = Some(seen.at);
            news.push(format!(
                "gets {} of new connections after {}, {} before",
                percent(seen.share),
                seconds(seen.at.saturating_sub(self.began)),
                percent(self.before)
            ));
        }
    }

    fn see_death(&mut self, seen: &Seen, news: &mut Vec<String>) {
        if self.out.is_none()
            && let Some(out) = seen.out
        {
            self.out = Some(out);
            self.least = 0.0;
            news.push(format!(
                "out after {}: {}",
                seconds(out.saturating_sub(self.began)),
                seen.reason
            ));
        }
        if let Some(out) = self.out
            && !self.told_back
            && self.missing == 0
            && seen.at >= out.max(self.last) + QUIET
        {
            self.told_back = true;
            news.push(self.clients());
        }
        if let Some(ended) = self.ended
            && self.returned.is_none()
            && let Some(up) = seen.up
        {
            self.returned = Some(up.max(ended));
            let after = seconds(up.saturating_sub(ended));
            news.push(match self.out {
                Some(_) => format!("in again after {after}, eased in"),
                None => "was never out".to_owned(),
            });
        }
    }

    /// What became of its clients.
    fn clients(&self) -> String {
        let mut text = format!("its {} clients", self.cut);
        if let Some(back) = self.back {
            text += &format!(" back after {}", seconds(back.saturating_sub(self.began)));
        }
        if self.refused > 0 {
            text += &format!(
                ", {} that came waited {} at most",
                self.refused,
                seconds(self.waited)
            );
        }
        text
    }

    /// All of it in a line.
    pub fn summary(&self) -> String {
        let after = |event: Option<Duration>, since: Duration| {
            event.map_or("not before the end".to_owned(), |event| {
                format!("after {}", seconds(event.saturating_sub(since)))
            })
        };
        let mut text = format!(
            "broker {} {} at {}",
            self.broker + 1,
            self.trouble.word(),
            seconds(self.began)
        );
        if let Some(ended) = self.ended {
            text += &format!(" for {}", seconds(ended.saturating_sub(self.began)));
        }
        match self.trouble {
            Trouble::Loaded => {
                text += &format!(
                    ": its share of new connections went from {} to {}",
                    percent(self.before),
                    percent(self.least)
                );
            }
            Trouble::Frozen | Trouble::Killed => {
                text += &format!(": out {}, {}", after(self.out, self.began), self.clients());
            }
        }
        if let Some(ended) = self.ended {
            text += "; then";
            if self.trouble != Trouble::Loaded {
                text += &format!(" in again {},", after(self.returned, ended));
            }
            text += &format!(" most of its share {}", after(self.restored, ended));
        }
        text
    }

    /// What went wrong that is no part of the demonstration, as far as can be said by `now`.
    pub fn faults(&self, now: Duration) -> Vec<String> {
        let mut faults = Vec::new();
        let until = self.ended.unwrap_or(now);
        match self.trouble {
            Trouble::Loaded => {
                if self.ended.is_some() && self.shrunk.is_none() {
                    faults.push(format!(
                        "its share of new connections did not follow its load: {} before, {} at least",
                        percent(self.before),
                        percent(self.least)
                    ));
                }
            }
            Trouble::Frozen | Trouble::Killed => {
                let found = self.out.unwrap_or(until);
                if found.saturating_sub(self.began) > FOUND {
                    faults.push(format!("it was not out within {}", seconds(FOUND)));
                }
                if let Some(ended) = self.ended
                    && self.returned.unwrap_or(now).saturating_sub(ended) > RETURNED
                {
                    faults.push(format!("it was not in again within {}", seconds(RETURNED)));
                }
            }
        }
        faults
            .into_iter()
            .map(|fault| {
                format!(
                    "broker {}, {} at {}: {fault}",
                    self.broker + 1,
                    self.trouble.word(),
                    seconds(self.began)
                )
            })
            .collect()
    }
}

impl Outage {
    /// Whether it lasts, or has lasted, longer than the worst that an expected one may.
    pub fn too_long(&self, now: Duration) -> bool {
        self.ended.unwrap_or(now).saturating_sub(self.began) > BACK
    }
}

/// A time, to tenths.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A part of 1, to whole percents.
pub fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}
