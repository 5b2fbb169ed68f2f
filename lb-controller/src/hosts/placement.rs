//! Which host gets an instance, purely: by what hosts have left, by labels, spread, and apart from others of its pool.

use std::{cmp::Ordering, collections::BTreeMap, fmt, ops::AddAssign};

use lb_model::{
    host::HostName,
    pool::{Placement, PoolSpec, Size},
};
use serde::{Deserialize, Serialize};

/// What an instance may take, and what a host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Claim {
    /// Of so many cores and bytes.
    #[must_use]
    pub fn new(cores: f64, memory: u64) -> Self {
        Claim {
            // Validated settings are far below the limit.
            cpu: (cores * 1_000.0).round().max(0.0) as u64,
            memory,
        }
    }

    /// What an instance of this pool may take.
    #[must_use]
    pub fn of(spec: &PoolSpec) -> Self {
        let memory = spec.template.memory.map_or(0, |size| size.0);
        Claim::new(spec.template.cpu.unwrap_or_default(), memory)
    }

    /// The larger one of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Claim {
            cpu: self.cpu.max(other.cpu),
            memory: self.memory.max(other.memory),
        }
    }

    /// What is left; nothing of what is exceeded.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Claim {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    /// Whether `other` fits into it.
    #[must_use]
    pub const fn holds(self, other: Self) -> bool {
        self.cpu >= other.cpu && self.memory >= other.memory
    }
}

impl AddAssign for Claim {
    fn add_assign(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
    }
}

/// A host that may get an instance.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a HostName,
    /// What it has.
    pub capacity: Claim,
    /// What is reserved of it.
    pub used: Claim,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether it takes instances: it is up, and neither cordoned nor draining.
    pub is_open: bool,
    /// Instances of the same pool that it has, without the one that is placed.
    pub of_pool: usize,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// What the pool says.
    pub placement: &'a Placement,
    /// What the instance may take.
    pub claim: Claim,
    /// The host that is taken before others that are as good.
    pub prefer: Option<&'a HostName>,
    /// The host that it is to leave.
    pub leave: Option<&'a HostName>,
}

/// Why no host can have an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoRoom {
    /// What is to be placed.
    pub wanted: Claim,
    /// Hosts that there are.
    pub hosts: usize,
    /// Those that the pool's settings leave out, by name or by label.
    pub excluded: usize,
    /// Those that are silent, lost, cordoned or draining.
    pub closed: usize,
    /// Those that have one of the pool, with `anti_affinity`.
    pub taken: usize,
    /// Those that have too little left.
    pub full: usize,
    /// The most that one of these has left, of each.
    pub most_left: Claim,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = |cpu: u64| cpu as f64 / 1_000.0;
        if self.hosts == 0 {
            return f.write_str("no host has joined; `lbctl host token` says how one does");
        }
        write!(f, "no host has room: of {}", self.hosts)?;
        let mut rest = ": ";
        let mut part = |f: &mut fmt::Formatter<'_>, count: usize, text: &str| {
            if count == 0 {
                return Ok(());
            }
            write!(f, "{}{count} {text}", std::mem::replace(&mut rest, ", "))
        };
        part(f, self.excluded, "are not those of `placement`")?;
        part(f, self.closed, "take no instances now")?;
        part(
            f,
            self.taken,
            "have one of the pool (placement.anti_affinity)",
        )?;
        part(f, self.full, "have too little left")?;
        if self.full > 0 {
            // Sizes are shown in whole MiB.
            let mebibytes = |bytes: u64| Size(bytes >> 20 << 20);
            write!(
                f,
                " ({} cores and {} at most; {} and {} are wanted)",
                cores(self.most_left.cpu),
                mebibytes(self.most_left.memory),
                cores(self.wanted.cpu),
                Size(self.wanted.memory)
            )?;
        }
        Ok(())
    }
}

/// Whether the pool's settings let it have instances at all.
#[must_use]
pub fn suits(placement: &Placement, name: &HostName, labels: &BTreeMap<String, String>) -> bool {
    let is_named = if placement.hosts.is_empty() {
        !name.is_local()
    } else {
        placement.hosts.contains(name)
    };
    let mut wanted = placement.labels.iter();
    is_named && wanted.all(|(label, value)| labels.get(label) == Some(value))
}

/// How full a host is with this instance, from 0 to 1: its scarcest resource.
fn fullness(candidate: &Candidate<'_>, claim: Claim) -> f64 {
    let part = |used: u64, more: u64, of: u64| (used + more) as f64 / of.max(1) as f64;
    let cpu = part(candidate.used.cpu, claim.cpu, candidate.capacity.cpu);
    cpu.max(part(
        candidate.used.memory,
        claim.memory,
        candidate.capacity.memory,
    ))
}

/// By what hosts are compared before how full they are, the lowest first: whether it is to be avoided, the instances of the pool
/// in its part of the fleet and on itself, and whether another one is preferred.
type Rank = (bool, usize, usize, bool);

/// The host for an instance: of those with room one that is not to be avoided; then the one with the fewest of its pool, first
/// in its part of the fleet (`spread`), then on the host; then the preferred one; then the one that is least full.
///
/// # Errors
/// No host has room.
pub fn choose(wish: Wish<'_>, candidates: &[Candidate<'_>]) -> Result<HostName, NoRoom> {
    let mut without = NoRoom {
        wanted: wish.claim,
        ..NoRoom::default()
    };
    let part = |candidate: &Candidate<'_>| {
        let label = wish.placement.spread.as_ref()?;
        candidate.labels.get(label).cloned()
    };
    let mut parts: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for candidate in candidates {
        *parts.entry(part(candidate)).or_default() += candidate.of_pool;
    }
    let mut best: Option<(Rank, f64, &HostName)> = None;
    for candidate in candidates {
        // The controller's own is not meant unless it is named.
        if candidate.name.is_local() && !wish.placement.hosts.contains(candidate.name) {
            continue;
        }
        without.hosts += 1;
        let left = candidate.capacity.less(candidate.used);
        if !suits(wish.placement, candidate.name, candidate.labels) {
            without.excluded += 1;
        } else if !candidate.is_open || wish.leave == Some(candidate.name) {
            without.closed += 1;
        } else if wish.placement.anti_affinity && candidate.of_pool > 0 {
            without.taken += 1;
        } else if !left.holds(wish.claim) {
            without.full += 1;
            without.most_left = without.most_left.max(left);
        } else {
            let first: Rank = (
                wish.placement.avoid.contains(candidate.name),
                match &wish.placement.spread {
                    Some(_) => parts.get(&part(candidate)).copied().unwrap_or_default(),
                    None => 0,
                },
                candidate.of_pool,
                wish.prefer != Some(candidate.name),
            );
            let fullness = fullness(candidate, wish.claim);
            let is_better = best.is_none_or(|best| {
                first
                    .cmp(&best.0)
                    .then(fullness.total_cmp(&best.1))
                    .then(candidate.name.cmp(best.2))
                    == Ordering::Less
            });
            if is_better {
                best = Some((first, fullness, candidate.name));
            }
        }
    }
    best.map(|(.., name)| name.clone()).ok_or(without)
}
