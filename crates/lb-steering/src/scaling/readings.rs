//! What is known of a pool when its size is decided.

use std::time::Duration;

use crate::observation::{MAX_READING, Sample};

/// The lowest plausible capacity.
const LEAST_CAPACITY: f64 = 1e-6;

/// The time at which a pool is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Time since the Unix epoch. It may jump: time that passes between two calls counts for three periods at most.
    pub now: Duration,
    /// Seconds by which the time zone of the schedule is ahead of UTC.
    pub utc_offset: i32,
}

/// What clients demand of a pool, counted where it does not saturate: by the data plane or the proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Offered {
    /// New flows or requests since the last call. Repeated SYNs do not count: where the data plane samples flows, the total
    /// less the part that [`crate::Signs`] has as repeats.
    Flows(f64),
    /// Connections now, where steering counts load in connections.
    Connections(f64),
}

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Warm, or ordered as such: created or paused, and not serving.
    Spare,
    /// Ordered, created or started, and not healthy yet.
    Starting,
    /// Healthy, with new flows.
    Serving,
    /// Without new flows, until its connections have ended. It can be taken back.
    Draining,
    /// Not healthy, or gone, and to be relaunched after this time; `None` if that is unknown.
    Dead(Option<Duration>),
}

/// An instance of a pool. A reading that is `None` has never been there; old ones have their age.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceReadings {
    /// Its name in the pool.
    pub name: String,
    /// What it does.
    pub phase: Phase,
    /// What it carries at utilisation 1, as steering has learned; in the unit of [`Offered`], flows per second.
    pub capacity: Option<f64>,
    /// Utilisation of its own limit.
    pub utilisation: Option<Sample>,
    /// Connections.
    pub connections: Option<Sample>,
    /// Connections that it accepts.
    pub connection_limit: Option<f64>,
    /// Used fraction of its memory.
    pub memory: Option<Sample>,
    /// Used fraction of its network bandwidth.
    pub network: Option<Sample>,
    /// Whether its connections have sessions, which their end would lose.
    pub has_sessions: bool,
    /// Whether it is held down because its health changes too often.
    pub is_flapping: bool,
    /// Running flows that other reals would get if it went, beyond its own connections.
    pub moves: f64,
}

impl InstanceReadings {
    /// An instance of which nothing is known but this.
    #[must_use]
    pub fn new(name: impl Into<String>, phase: Phase) -> Self {
        InstanceReadings {
            name: name.into(),
            phase,
            capacity: None,
            utilisation: None,
            connections: None,
            connection_limit: None,
            memory: None,
            network: None,
            has_sessions: false,
            is_flapping: false,
            moves: 0.0,
        }
    }

    /// Its capacity, if that is plausible.
    pub(super) fn known_capacity(&self) -> Option<f64> {
        self.capacity
            .filter(|capacity| (LEAST_CAPACITY..=MAX_READING).contains(capacity))
    }

    /// The connections that it accepts, if that is plausible.
    pub(super) fn known_limit(&self) -> Option<f64> {
        self.connection_limit
            .filter(|limit| (LEAST_CAPACITY..=MAX_READING).contains(limit))
    }
}

/// A pool. The instances are in a stable order, the newest last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolReadings {
    /// What clients demand; `None` while nothing reports it.
    pub offered: Option<Offered>,
    /// HTTP requests since the last call; `None` while no proxy reports them.
    pub requests: Option<f64>,
    /// The 95th percentile of response times, seconds.
    pub latency: Option<Sample>,
    /// Mean life of a connection, as steering has measured it.
    pub life: Option<Duration>,
    /// How many more instances the driver has room for; `None` if it does not say.
    pub room: Option<u32>,
    /// All instances, those included that were ordered and do not exist yet.
    pub instances: Vec<InstanceReadings>,
}

impl PoolReadings {
    /// Number of instances in a phase.
    pub(super) fn count(&self, is: impl Fn(Phase) -> bool) -> u32 {
        let count = self.instances.iter().filter(|one| is(one.phase)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}
