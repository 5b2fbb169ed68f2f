//! Whether hosts are there, purely. A host that is *silent* has no connection: that is what one observer sees, and nothing
//! is done about it. It is *lost* when others have proved it: the controller cannot reach its instances either, and most of
//! the other hosts say the same. Only what is lost is replaced elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lb_model::host::HostName;

/// How old a proof may be.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// Whether a host is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is connected.
    Up,
    /// It is not connected, since this moment.
    Silent(Duration),
    /// Its instances are gone, as several observers see it.
    Lost,
}

/// Who looks at a host's instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observer {
    /// The controller.
    Controller,
    /// Another host.
    Host(HostName),
}

/// What an observer saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    at: Duration,
    /// Whether anything answered.
    is_reached: bool,
}

#[derive(Clone, Debug)]
struct One {
    standing: Standing,
    sights: BTreeMap<Observer, Sight>,
}

/// All hosts.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    hosts: BTreeMap<HostName, One>,
}

/// Why a silent host is not taken for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It has not been silent for long enough.
    Young,
    /// Most hosts are silent: the controller may be cut off.
    Most,
    /// Somebody reaches its instances.
    Reached,
    /// Too few others have looked.
    Witnesses,
}

impl Doubt {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Doubt::Young => "it is not connected; its instances are left alone",
            Doubt::Most => {
                "most hosts are not connected, so this controller may be cut off; their instances are left alone"
            }
            Doubt::Reached => "it is not connected, but its instances answer; they are left alone",
            Doubt::Witnesses => {
                "it is not connected, and too few other hosts say whether its instances answer; they are left alone"
            }
        }
    }
}

impl Presence {
    /// A host that joined earlier or now; it is not connected yet.
    pub fn add(&mut self, host: HostName, is_lost: bool, now: Duration) {
        self.hosts.entry(host).or_insert_with(|| One {
            standing: if is_lost {
                Standing::Lost
            } else {
                Standing::Silent(now)
            },
            sights: BTreeMap::new(),
        });
    }

    /// It is no host any more.
    pub fn remove(&mut self, host: &HostName) {
        self.hosts.remove(host);
        for one in self.hosts.values_mut() {
            one.sights.remove(&Observer::Host(host.clone()));
        }
    }

    /// It is connected.
    pub fn connect(&mut self, host: &HostName) {
        if let Some(one) = self.hosts.get_mut(host) {
            one.standing = Standing::Up;
            one.sights.clear();
        }
    }

    /// Its connection has ended.
    pub fn disconnect(&mut self, host: &HostName, now: Duration) {
        if let Some(one) = self.hosts.get_mut(host)
            && one.standing == Standing::Up
        {
            one.standing = Standing::Silent(now);
        }
    }

    /// Whether a host is there; `None` if it is none.
    #[must_use]
    pub fn standing(&self, host: &HostName) -> Option<Standing> {
        self.hosts.get(host).map(|one| one.standing)
    }

    /// The hosts.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostName, Standing)> {
        self.hosts.iter().map(|(name, one)| (name, one.standing))
    }

    /// What an observer sees of a host's instances.
    pub fn see(&mut self, host: &HostName, observer: Observer, is_reached: bool, now: Duration) {
        if let Some(one) = self.hosts.get_mut(host) {
            let sight = Sight {
                at: now,
                is_reached,
            };
            one.sights.insert(observer, sight);
        }
    }

    /// Why a host that is silent is not lost; `None` if it is.
    fn doubt(
        &self,
        host: &HostName,
        has_instances: bool,
        lost_after: Duration,
        now: Duration,
    ) -> Option<Doubt> {
        let one = self.hosts.get(host)?;
        let Standing::Silent(since) = one.standing else {
            return None;
        };
        if now.saturating_sub(since) < lost_after {
            return Some(Doubt::Young);
        }
        // Nothing of it can be there twice.
        if !has_instances {
            return None;
        }
        let is_up = |host: &HostName| self.standing(host) == Some(Standing::Up);
        let all = self.hosts.values();
        let there = all
            .clone()
            .filter(|one| one.standing != Standing::Lost)
            .count();
        let silent = all
            .filter(|one| matches!(one.standing, Standing::Silent(_)))
            .count();
        if silent * 2 > there {
            return Some(Doubt::Most);
        }
        let is_fresh = |sight: &&Sight| now.saturating_sub(sight.at) <= FRESH;
        match one.sights.get(&Observer::Controller).filter(is_fresh) {
            Some(sight) if !sight.is_reached => {}
            Some(_) => return Some(Doubt::Reached),
            None => return Some(Doubt::Witnesses),
        }
        let (mut asked, mut without) = (0, 0);
        for (observer, sight) in &one.sights {
            if let Observer::Host(other) = observer
                && is_up(other)
                && is_fresh(&sight)
            {
                asked += 1;
                without += usize::from(!sight.is_reached);
            }
        }
        // One of many may be wrong, or lie.
        let quorum = if self.hosts.len() > 2 { 2 } else { 1 };
        if without < quorum {
            let is_seen = asked > without;
            return Some(if is_seen {
                Doubt::Reached
            } else {
                Doubt::Witnesses
            });
        }
        (without * 2 <= asked).then_some(Doubt::Reached)
    }

    /// Takes silent hosts for lost where that is proved: those that are lost now, and the doubts about others. `with_instances`
    /// are the hosts that are to have instances.
    pub fn judge(
        &mut self,
        with_instances: &BTreeSet<HostName>,
        lost_after: Duration,
        now: Duration,
    ) -> (Vec<HostName>, Vec<(HostName, Doubt)>) {
        let (mut lost, mut doubts) = (Vec::new(), Vec::new());
        let silent = self
            .hosts
            .iter()
            .filter(|(_, one)| matches!(one.standing, Standing::Silent(_)));
        for name in silent.map(|(name, _)| name) {
            match self.doubt(name, with_instances.contains(name), lost_after, now) {
                Some(doubt) => doubts.push((name.clone(), doubt)),
                None => lost.push(name.clone()),
            }
        }
        for name in &lost {
            if let Some(one) = self.hosts.get_mut(name) {
                one.standing = Standing::Lost;
            }
        }
        (lost, doubts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn host(number: u32) -> HostName {
        format!("h{number}").parse().unwrap()
    }

    /// Hosts that are connected, save for the first.
    fn fleet(count: u32) -> Presence {
        let mut presence = Presence::default();
        for number in 1..=count {
            presence.add(host(number), false, at(0));
            presence.connect(&host(number));
        }
        presence.disconnect(&host(1), at(100));
        presence
    }

    fn judged(presence: &mut Presence, now: Duration) -> Option<Doubt> {
        let with = BTreeSet::from([host(1), host(2)]);
        let (lost, doubts) = presence.judge(&with, AFTER, now);
        let doubt = doubts.iter().find(|(name, _)| *name == host(1));
        assert_eq!(lost.is_empty(), doubt.is_some());
        doubt.map(|(_, doubt)| *doubt)
    }

    #[test]
    fn silence_alone_is_no_loss() {
        let mut presence = fleet(3);
        assert_eq!(judged(&mut presence, at(105)), Some(Doubt::Young));
        assert_eq!(judged(&mut presence, at(10_000)), Some(Doubt::Witnesses));
        // The controller alone.
        presence.see(&host(1), Observer::Controller, false, at(10_000));
        assert_eq!(judged(&mut presence, at(10_000)), Some(Doubt::Witnesses));
        // One of two others.
        presence.see(&host(1), Observer::Host(host(2)), false, at(10_000));
        assert_eq!(judged(&mut presence, at(10_000)), Some(Doubt::Witnesses));
        presence.see(&host(1), Observer::Host(host(3)), true, at(10_000));
        assert_eq!(judged(&mut presence, at(10_000)), Some(Doubt::Reached));
        presence.see(&host(1), Observer::Host(host(3)), false, at(10_001));
        assert_eq!(judged(&mut presence, at(10_001)), None);
        assert_eq!(presence.standing(&host(1)), Some(Standing::Lost));
        presence.connect(&host(1));
        assert_eq!(presence.standing(&host(1)), Some(Standing::Up));
    }

    #[test]
    fn proofs_do_not_last() {
        let mut presence = fleet(2);
        presence.see(&host(1), Observer::Controller, false, at(102));
        presence.see(&host(1), Observer::Host(host(2)), false, at(102));
        assert_eq!(judged(&mut presence, at(111)), Some(Doubt::Witnesses));
        // It was reached meanwhile.
        presence.see(&host(1), Observer::Controller, true, at(112));
        presence.see(&host(1), Observer::Host(host(2)), false, at(112));
        assert_eq!(judged(&mut presence, at(112)), Some(Doubt::Reached));
        presence.see(&host(1), Observer::Controller, false, at(113));
        assert_eq!(judged(&mut presence, at(113)), None);
    }

    #[test]
    fn most_hosts_are_never_lost_at_once() {
        let mut presence = fleet(3);
        presence.disconnect(&host(2), at(100));
        for one in [1, 2] {
            presence.see(&host(one), Observer::Controller, false, at(120));
            presence.see(&host(one), Observer::Host(host(3)), false, at(120));
        }
        assert_eq!(judged(&mut presence, at(120)), Some(Doubt::Most));
    }

    #[test]
    fn a_host_without_instances_needs_no_witness() {
        let mut presence = fleet(2);
        let (lost, _) = presence.judge(&BTreeSet::new(), AFTER, at(111));
        assert_eq!(lost, [host(1)]);
    }

    #[test]
    fn one_liar_among_three_is_outvoted() {
        let mut presence = fleet(4);
        presence.see(&host(1), Observer::Controller, false, at(120));
        presence.see(&host(1), Observer::Host(host(2)), false, at(120));
        presence.see(&host(1), Observer::Host(host(3)), false, at(120));
        presence.see(&host(1), Observer::Host(host(4)), true, at(120));
        assert_eq!(judged(&mut presence, at(120)), None);
        // One that says that nobody answers does not suffice.
        let mut presence = fleet(4);
        presence.see(&host(1), Observer::Controller, false, at(120));
        presence.see(&host(1), Observer::Host(host(2)), false, at(120));
        presence.see(&host(1), Observer::Host(host(3)), true, at(120));
        presence.see(&host(1), Observer::Host(host(4)), true, at(120));
        assert_eq!(judged(&mut presence, at(120)), Some(Doubt::Reached));
    }
}
