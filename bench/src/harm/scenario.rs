//! What a situation consists of.

use std::ops::Range;

/// Why a situation is in the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Steering was seen to do harm here.
    Known,
    /// A variant or a mirror image of such a situation.
    Variant,
    /// Steering is to gain here; a law that leaves the weights alone loses.
    Gain,
}

/// When a fault lasts, in seconds after the warm-up.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Always.
    Always,
    /// From then on.
    From(f64),
    /// In that time.
    During(f64, f64),
    /// This long with the fault, then as long without it.
    Alternating(f64),
}

impl When {
    /// Whether the fault lasts at this time.
    pub fn applies(self, at: f64) -> bool {
        match self {
            When::Always => true,
            When::From(from) => at >= from,
            When::During(from, to) => (from..to).contains(&at),
            When::Alternating(half) => at >= 0.0 && ((at / half) as u64).is_multiple_of(2),
        }
    }
}

/// What a reading of utilisation shows.
#[derive(Clone, Copy, Debug)]
pub enum Sensor {
    /// This multiple of what it is.
    Scaled(f64),
    /// This much more than it is.
    Offset(f64),
    /// The last value before.
    Frozen,
    /// This value.
    Stuck(f64),
    /// One less utilisation.
    Inverted,
    /// Nothing: there is no reading.
    Silent,
}

/// What is wrong with a server.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// It answers this part of its requests with errors, each at this multiple of a request's work.
    Errors {
        /// Part of the requests.
        part: f64,
        /// Multiple of the work.
        work: f64,
    },
    /// It works at this multiple of its speed, and utilisation shows it.
    Slow(f64),
    /// It works at this multiple of its speed, for lack of something that is not read (a disk, processors that a
    /// neighbour uses). Utilisation shows only the processor time that its requests need, times `shown`.
    Starved {
        /// Multiple of its speed.
        speed: f64,
        /// Multiple of the utilisation.
        shown: f64,
    },
    /// Its speed falls evenly to this multiple in the time; utilisation shows it or not.
    Leak {
        /// Multiple of its speed in the end.
        to: f64,
        /// Seconds.
        over: f64,
        /// Whether utilisation shows it.
        shown: bool,
    },
    /// Its reading of utilisation is wrong.
    Sensor(Sensor),
    /// It is dead, and its health check notices.
    Dead,
    /// It is not part of the pool.
    Absent,
}

/// A fault of some servers.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The numbers of the servers.
    pub servers: Range<usize>,
    /// When it lasts.
    pub when: When,
    /// What it is.
    pub what: What,
}

/// How the demand changes over time.
#[derive(Clone, Copy, Debug)]
pub enum Demand {
    /// It does not.
    Constant,
    /// This multiple in that time (seconds after the warm-up).
    Burst {
        /// Its begin.
        from: f64,
        /// Its end.
        to: f64,
        /// The multiple.
        times: f64,
    },
    /// A sine of this period in seconds and this relative amplitude.
    Sine {
        /// Seconds.
        period: f64,
        /// Relative amplitude.
        amplitude: f64,
    },
}

impl Demand {
    /// The multiple of the plain demand at a time after the warm-up.
    pub fn at(self, at: f64) -> f64 {
        match self {
            Demand::Burst { from, to, times } if (from..to).contains(&at) => times,
            Demand::Sine { period, amplitude } => {
                1.0 + amplitude * (at / period * std::f64::consts::TAU).sin()
            }
            _ => 1.0,
        }
    }
}

/// What the health check's round trip goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// There is no health check that measures one.
    None,
    /// The same queue as requests.
    Queue,
    /// Nothing: a page that is always answered at once.
    Static,
}

/// A situation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name, which is unique.
    pub name: String,
    /// Why it is there.
    pub group: Group,
    /// Number of servers.
    pub reals: usize,
    /// Sizes of the servers, repeated for all of them.
    pub sizes: &'static [usize],
    /// Whether the operator's weights are the sizes; otherwise they are equal.
    pub weights_fit: bool,
    /// Demand over the capacity of the servers without faults.
    pub load: f64,
    /// Mean life of a connection, seconds; 0: one request each.
    pub life: f64,
    /// How the demand changes.
    pub demand: Demand,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Relative standard deviation of readings.
    pub noise: f64,
    /// How late readings are, in periods.
    pub late: usize,
    /// Whether readings report their age; otherwise they claim to be of now.
    pub reports_age: bool,
    /// Whether the source of load reports the rate of errors.
    pub reports_errors: bool,
    /// Whether the source of load reports connections, where they live long.
    pub reports_connections: bool,
    /// The health check's round trip.
    pub probe: Probe,
    /// Whether the data plane sees how flows begin and end.
    pub signs: bool,
    /// Whether the agent restarts in the middle.
    pub restart: bool,
    /// Seconds before anything happens, in which nothing is counted.
    pub warm: f64,
    /// Seconds that are counted.
    pub length: f64,
}

/// Sizes of which the largest is eight times the smallest.
pub const UNEQUAL: &[usize] = &[1, 2, 4, 8];

impl Scenario {
    /// Equal servers at this load, with every signal, without faults.
    pub fn new(name: &str, group: Group, reals: usize, load: f64, life: f64) -> Self {
        Scenario {
            name: name.to_owned(),
            group,
            reals,
            sizes: &[4],
            weights_fit: true,
            load,
            life,
            demand: Demand::Constant,
            faults: Vec::new(),
            noise: 0.03,
            late: 0,
            reports_age: true,
            reports_errors: false,
            reports_connections: true,
            probe: Probe::Queue,
            signs: true,
            restart: false,
            warm: 300.0,
            length: 600.0 + life,
        }
    }

    /// Servers of 1 : 8. The operator's weights fit, or are equal.
    #[must_use]
    pub fn unequal(mut self, weights_fit: bool) -> Self {
        self.sizes = UNEQUAL;
        self.weights_fit = weights_fit;
        self
    }

    /// With this fault of one server.
    #[must_use]
    pub fn fault(self, server: usize, when: When, what: What) -> Self {
        self.faults(server..server + 1, when, what)
    }

    /// With this fault of several servers.
    #[must_use]
    pub fn faults(mut self, servers: Range<usize>, when: When, what: What) -> Self {
        self.faults.push(Fault {
            servers,
            when,
            what,
        });
        self
    }

    /// With this change to it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Scenario)) -> Self {
        change(&mut self);
        self
    }

    /// The size of a server.
    pub fn size(&self, server: usize) -> usize {
        self.sizes[server % self.sizes.len()]
    }

    /// The operator's weight of a server.
    pub fn weight(&self, server: usize) -> u32 {
        if self.weights_fit {
            self.size(server) as u32 * 25
        } else {
            100
        }
    }
}
