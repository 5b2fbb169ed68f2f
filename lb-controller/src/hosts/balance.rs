//! Which instances move from full hosts to empty ones, purely. A move costs an instance its work for as long as it takes to
//! drain and to start again, so it must win more than a given part of a host; none is made twice within some periods, and
//! each host takes part in one at a time.

use std::{collections::BTreeMap, time::Duration};

use lb_model::{host::HostName, pool::PoolName};

use super::{ledger::Ledger, placement::Claim};

/// An instance that was moved is left alone for so many periods: what moves it back would be the next peak.
const REST: u32 = 6;

/// What was moved lately.
#[derive(Debug, Default)]
pub struct Balance {
    /// When a host took part in a move last.
    hosts: BTreeMap<HostName, Duration>,
    /// When an instance was moved last.
    instances: BTreeMap<(PoolName, u32), Duration>,
    /// The move that is under way: the pool, its place, from where, and since when.
    present: BTreeMap<PoolName, (u32, HostName, Duration)>,
}

/// How full a host is: its scarcest resource.
fn fullness(used: Claim, capacity: Claim) -> f64 {
    let part = |used: u64, of: u64| used as f64 / of.max(1) as f64;
    part(used.cpu, capacity.cpu).max(part(used.memory, capacity.memory))
}

impl Balance {
    /// The instances that are to move now, one of a pool at most.
    pub fn moves(
        &mut self,
        ledger: &Ledger,
        period: Duration,
        gain: f64,
        now: Duration,
    ) -> BTreeMap<PoolName, u32> {
        // One that has left its host is done, and so is one that finds no better place in a period.
        self.present.retain(|pool, (number, from, since)| {
            let mut claims = ledger.claims();
            let is_there =
                claims.any(|(of, at, host, _)| of == pool && at == *number && host == from);
            is_there && now.saturating_sub(*since) < period
        });
        self.instances
            .retain(|_, at| now.saturating_sub(*at) < period * REST);
        let is_resting = |hosts: &BTreeMap<HostName, Duration>, host: &HostName| {
            hosts
                .get(host)
                .is_some_and(|at| now.saturating_sub(*at) < period)
        };
        let mut open: Vec<_> = ledger
            .hosts()
            .iter()
            .filter(|(name, room)| {
                room.is_open && !name.is_local() && !is_resting(&self.hosts, name)
            })
            .map(|(name, room)| (name, room.capacity, ledger.used(name)))
            .collect();
        let by_fullness = |one: &(&HostName, Claim, Claim), other: &(&HostName, Claim, Claim)| {
            fullness(one.2, one.1)
                .total_cmp(&fullness(other.2, other.1))
                .then(one.0.cmp(other.0))
        };
        open.sort_by(by_fullness);
        if let [emptiest, .., fullest] = &open[..] {
            let before = fullness(fullest.2, fullest.1);
            let best = ledger
                .claims()
                .filter(|(pool, number, host, _)| {
                    *host == fullest.0
                        && !self.present.contains_key(*pool)
                        && !self.instances.contains_key(&((*pool).clone(), *number))
                })
                .map(|(pool, number, _, claim)| {
                    let mut there = emptiest.2;
                    there += claim;
                    // The fuller one of both afterwards.
                    let after =
                        fullness(there, emptiest.1).max(fullness(fullest.2.less(claim), fullest.1));
                    (
                        before - after,
                        pool,
                        number,
                        emptiest.1.less(emptiest.2).holds(claim),
                    )
                })
                .filter(|(won, _, _, fits)| *fits && *won >= gain)
                .max_by(|one, other| {
                    one.0
                        .total_cmp(&other.0)
                        .then(other.1.cmp(one.1))
                        .then(other.2.cmp(&one.2))
                });
            if let Some((_, pool, number, _)) = best {
                self.present
                    .insert(pool.clone(), (number, fullest.0.clone(), now));
                self.instances.insert((pool.clone(), number), now);
                for host in [fullest.0, emptiest.0] {
                    self.hosts.insert(host.clone(), now);
                }
            }
        }
        let present = self.present.iter();
        present
            .map(|(pool, (number, ..))| (pool.clone(), *number))
            .collect()
    }
}
