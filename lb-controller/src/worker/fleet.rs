//! The hosts of a pool: which drivers it uses, what they list, and who gets the instances that need a host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lb_drivers::Driver as _;
use lb_model::host::HostName;
use tokio_stream::wrappers::WatchStream;

use super::{OpenDriver, Worker};
use crate::{
    hosts::{Member, presence::Standing},
    hub::{Engine, Snapshot, of_pool},
    pool::Now,
};

impl Worker {
    /// Uses a driver from now on.
    pub(super) fn open(&mut self, engine: Arc<Engine>) {
        let host = engine.host().clone();
        self.snapshots
            .insert(host.clone(), WatchStream::new(engine.snapshots()));
        let calls = engine.bounded(self.pool.spec.driver_deadline);
        self.drivers.insert(host, OpenDriver { engine, calls });
    }

    pub(super) fn take_snapshot(&mut self, host: &HostName, snapshot: Snapshot) {
        let now = self.now();
        match snapshot.listed {
            // What comes late of a host that is lost says nothing of what there is when it is back.
            Ok(_) if self.pool.lost.contains(host) => {}
            Ok(listed) => {
                self.list_errors.remove(host);
                let own = of_pool(&listed, &self.pool.name);
                self.pool.observe(host, own, snapshot.began, now);
            }
            // Before the first list there is no trouble yet.
            Err(_) if snapshot.began == 0 => {}
            Err(error) if host.is_local() => {
                self.pool.list_trouble = Some(error.to_string());
            }
            Err(error) => {
                self.list_errors.insert(host.clone(), error.to_string());
            }
        }
    }

    /// Whether the pool has something to do with other hosts.
    fn is_placed(&self) -> bool {
        let is_other = |host: &HostName| !host.is_local();
        self.pool.spec.placement.is_some()
            || self.pool.slots.values().any(|slot| {
                let record = &slot.record;
                record.host.iter().chain(&record.next).any(is_other)
            })
    }

    /// Takes note of which hosts there are, and which of them are silent or lost.
    pub(super) fn follow_fleet(&mut self) {
        let fleet = Arc::clone(&self.fleet.borrow_and_update());
        if !self.is_placed() {
            return;
        }
        // Those that are none any more: whoever removed them says that they are lost.
        let records = self.pool.slots.values().flat_map(|slot| {
            let own = slot.record.host.iter().chain(&slot.record.next);
            own.chain(slot.left.iter().map(|old| &old.host))
        });
        let known = records.chain(self.drivers.keys()).chain(&self.pool.silent);
        let gone: BTreeSet<HostName> = known
            .filter(|host| !host.is_local() && !fleet.contains_key(*host))
            .cloned()
            .collect();
        for host in gone {
            self.drivers.remove(&host);
            self.snapshots.remove(&host);
            self.list_errors.remove(&host);
            self.pool.lose(&host);
        }
        let is_silent = |member: &&Member| matches!(member.standing, Standing::Silent(_));
        let silent = fleet.values().filter(is_silent).count();
        self.pool.is_alone = fleet.len() > 1 && silent * 2 > fleet.len();
        let is_young = self.means.started.elapsed() < self.means.hosts.lost_after();
        for (host, member) in fleet.iter() {
            match member.standing {
                Standing::Up => {
                    self.pool.silent.remove(host);
                    self.pool.lost.remove(host);
                }
                Standing::Silent(_) => {
                    self.pool.silent.insert(host.clone());
                }
                Standing::Lost if self.pool.lost.contains(host) => {}
                Standing::Lost => self.pool.lose(host),
            }
            if self.drivers.contains_key(host) {
                continue;
            }
            let is_awaited = match member.standing {
                Standing::Up => true,
                // The controller may have started before it has connected again.
                Standing::Silent(_) => is_young,
                Standing::Lost => false,
            };
            if is_awaited && !self.pool.has_list {
                self.pool.awaited.insert(host.clone());
            }
            let (driver, deadline) = (self.pool.spec.driver(), self.pool.spec.driver_deadline);
            let engine = self.means.hub.open_on(&member.remote, driver, deadline);
            self.open(engine);
        }
    }

    /// Has instances that need a host get one, if any has room.
    pub(super) fn place(&mut self, now: Now) {
        if !self.pool.has_list {
            return;
        }
        if self.is_placed() {
            let fleet = Arc::clone(&self.fleet.borrow());
            let own = (HostName::local(), false, BTreeMap::new());
            let others = fleet.iter();
            let others =
                others.map(|(host, member)| (host.clone(), member.leaves, member.labels.clone()));
            let left: BTreeSet<HostName> = others
                .chain(std::iter::once(own))
                .filter(|(host, leaves, labels)| *leaves || !self.pool.suits(host, labels))
                .map(|(host, ..)| host)
                .collect();
            let moves = self.means.hosts.moves(&self.pool.name);
            self.pool.mark_misplaced(|host| left.contains(host), moves);
        }
        let room = self.means.hosts.hold(&self.pool.name, self.pool.held());
        if std::mem::replace(&mut self.room, room) != room {
            self.pool.try_again(now);
        }
        for wish in self.pool.homeless(now) {
            let placement = self.pool.spec.placement.as_ref();
            let unlisted = self.pool.unlisted();
            let hosts = &self.means.hosts;
            let placed = hosts.place(&self.pool.name, placement, &wish, unlisted);
            match placed {
                Ok(host) => self.pool.house(wish.number, host, now),
                Err(no_room) => self.pool.no_room(wish.number, no_room.to_string(), now),
            }
        }
    }

    /// Whether instances can be paused wherever they may be.
    pub(super) fn can_pause(&self) -> bool {
        let is_used = |host: &HostName| {
            let is_away = self.pool.silent.contains(host) || self.pool.lost.contains(host);
            host.is_local() != self.pool.spec.placement.is_some() && !is_away
        };
        let mut used = self
            .drivers
            .iter()
            .filter(|(host, _)| is_used(host))
            .peekable();
        used.peek().is_some() && used.all(|(_, driver)| driver.calls.capabilities().pause)
    }
}
