//! What is reserved on hosts. A reservation is part of an instance's record and stored with it in one transaction; this is
//! the sum of all of them, so that two pools never reserve the same. Nothing has to be given back: a pool says what it holds
//! each time it decides, and what it no longer names is free.

use std::collections::{BTreeMap, BTreeSet};

use lb_model::{
    host::HostName,
    pool::{Placement, PoolName},
};

use super::placement::{Candidate, Claim, NoRoom, Wish, choose};

/// What hosts have, and which take instances.
#[derive(Clone, Debug, PartialEq)]
pub struct HostRoom {
    /// What it has.
    pub capacity: Claim,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it takes instances.
    pub is_open: bool,
}

/// A reservation: an instance, or one that is to be, on a host. Those of one number on one host follow each other, and
/// count once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The place in the pool.
    pub number: u32,
    /// The host.
    pub host: HostName,
    /// What it may take.
    pub claim: Claim,
}

/// Reservations of all pools.
#[derive(Debug, Default)]
pub struct Ledger {
    hosts: BTreeMap<HostName, HostRoom>,
    pools: BTreeMap<PoolName, BTreeMap<(u32, HostName), Claim>>,
    used: BTreeMap<HostName, Claim>,
    revision: u64,
}

/// Whom a place is for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The pool.
    pub pool: &'a PoolName,
    /// The place in it.
    pub number: u32,
    /// What the pool says.
    pub placement: &'a Placement,
    /// What the instance may take.
    pub claim: Claim,
    /// The host that is taken before others that are as good.
    pub prefer: Option<&'a HostName>,
    /// The host that it is to leave.
    pub leave: Option<&'a HostName>,
    /// Hosts of which the pool does not know what they have: none of them is taken.
    pub unlisted: &'a BTreeSet<HostName>,
}

impl Ledger {
    /// Says which hosts there are.
    pub fn set_hosts(&mut self, hosts: BTreeMap<HostName, HostRoom>) {
        if self.hosts != hosts {
            self.hosts = hosts;
            self.revision += 1;
        }
    }

    /// The hosts.
    #[must_use]
    pub const fn hosts(&self) -> &BTreeMap<HostName, HostRoom> {
        &self.hosts
    }

    /// Counts changes by which there may be more room.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Says what a pool holds; nothing, if it is gone.
    pub fn set_pool(&mut self, pool: &PoolName, held: impl IntoIterator<Item = Held>) {
        let mut claims: BTreeMap<(u32, HostName), Claim> = BTreeMap::new();
        for one in held {
            let claim = claims.entry((one.number, one.host)).or_default();
            *claim = claim.max(one.claim);
        }
        let before = self.pools.get(pool);
        if before.is_none_or(BTreeMap::is_empty) && claims.is_empty() || before == Some(&claims) {
            return;
        }
        let is_less = before.is_some_and(|before| {
            let mut all = before.iter();
            all.any(|(key, claim)| claims.get(key).is_none_or(|now| !now.holds(*claim)))
        });
        self.revision += u64::from(is_less);
        self.take(pool);
        for ((_, host), claim) in &claims {
            *self.used.entry(host.clone()).or_default() += *claim;
        }
        if !claims.is_empty() {
            self.pools.insert(pool.clone(), claims);
        }
    }

    fn take(&mut self, pool: &PoolName) {
        for ((_, host), claim) in self.pools.remove(pool).unwrap_or_default() {
            if let Some(used) = self.used.get_mut(&host) {
                *used = used.less(claim);
            }
        }
    }

    /// What is reserved on a host.
    #[must_use]
    pub fn used(&self, host: &HostName) -> Claim {
        self.used.get(host).copied().unwrap_or_default()
    }

    /// Instances that have a reservation on a host.
    #[must_use]
    pub fn count(&self, host: &HostName) -> usize {
        let claims = self.pools.values();
        claims
            .map(|claims| claims.keys().filter(|(_, on)| on == host).count())
            .sum()
    }

    /// What pools hold, by place and host.
    pub fn claims(&self) -> impl Iterator<Item = (&PoolName, u32, &HostName, Claim)> {
        self.pools.iter().flat_map(|(pool, claims)| {
            claims
                .iter()
                .map(move |((number, host), claim)| (pool, *number, host, *claim))
        })
    }

    /// Chooses a host for an instance, and reserves it. The pool's next [`Ledger::set_pool`] has to name it.
    ///
    /// # Errors
    /// No host has room.
    pub fn place(&mut self, place: Place<'_>) -> Result<HostName, NoRoom> {
        let claims = self.pools.get(place.pool);
        let own = |host: &HostName| {
            let key = (place.number, host.clone());
            claims.and_then(|claims| claims.get(&key)).copied()
        };
        // Each host has an instance of a number once, the one before and its successor.
        let mut of_pool: BTreeMap<&HostName, BTreeSet<u32>> = BTreeMap::new();
        for (number, host) in claims.into_iter().flat_map(BTreeMap::keys) {
            if *number != place.number {
                of_pool.entry(host).or_default().insert(*number);
            }
        }
        let candidates: Vec<Candidate<'_>> = self
            .hosts
            .iter()
            .map(|(name, room)| Candidate {
                name,
                capacity: room.capacity,
                // The one before goes first.
                used: self.used(name).less(own(name).unwrap_or_default()),
                labels: &room.labels,
                is_open: room.is_open && !place.unlisted.contains(name),
                of_pool: of_pool.get(name).map_or(0, BTreeSet::len),
            })
            .collect();
        let wish = Wish {
            placement: place.placement,
            claim: place.claim,
            prefer: place.prefer,
            leave: place.leave,
        };
        let host = choose(wish, &candidates)?;
        let claims = self.pools.entry(place.pool.clone()).or_default();
        let claim = claims.entry((place.number, host.clone())).or_default();
        let used = self.used.entry(host.clone()).or_default();
        *used = used.less(*claim);
        *claim = claim.max(place.claim);
        *used += *claim;
        Ok(host)
    }
}
