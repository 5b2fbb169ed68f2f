//! The grid of cases: pools, loads, lives of connections and events.

/// Time between decisions, seconds: the default of the settings.
pub const PERIOD: f64 = 5.0;
/// Periods before the event, in which the controller learns.
pub const WARM: usize = 60;

/// What happens to the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// Start with equal weights.
    Cold,
    /// One server loses half its capacity.
    Step,
    /// An empty server joins.
    Join,
    /// A server dies; its clients reconnect at once.
    Leave,
    /// Start, with a fifth of the readings missing, and all of one server's for 60 periods.
    Stale,
}

impl Event {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Cold => "start",
            Event::Step => "halved",
            Event::Join => "join",
            Event::Leave => "leave",
            Event::Stale => "stale",
        }
    }
}

/// One case of the grid.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The event.
    pub event: Event,
    /// Number of servers.
    pub reals: usize,
    /// Demand over capacity.
    pub load: f64,
    /// Mean life of a connection, seconds; 0 if flows are instantaneous.
    pub life: f64,
    /// Relative standard deviation of readings.
    pub noise: f64,
    /// Delay of readings, periods.
    pub lag: usize,
    /// Whether readings report their age; otherwise they claim to be of now.
    pub reports_age: bool,
    /// Flows that may be reset per second: the setting `shed_rate`.
    pub shed: f64,
}

impl Case {
    /// The plain case: 20 servers at 65 % load, 3 % noise, readings one period late.
    pub const fn plain(event: Event, life: f64) -> Self {
        Case {
            event,
            reals: 20,
            load: 0.65,
            life,
            noise: 0.03,
            lag: 1,
            reports_age: true,
            shed: 0.0,
        }
    }

    /// Whether the event happens to a pool that has learned.
    pub fn warm(&self) -> bool {
        matches!(self.event, Event::Step | Event::Join | Event::Leave)
    }

    /// Number of periods from the event on.
    pub fn periods(&self) -> usize {
        200 + (1.7 * self.life / PERIOD) as usize
    }
}

/// Returns all cases.
pub fn grid() -> Vec<Case> {
    let mut cases = Vec::new();
    for life in [0.0, 60.0, 600.0, 3_600.0] {
        for reals in [4, 20, 100] {
            for load in [0.5, 0.65, 0.8] {
                let plain = |event| Case {
                    reals,
                    load,
                    ..Case::plain(event, life)
                };
                cases.push(plain(Event::Cold));
                for lag in [2, 3] {
                    cases.push(Case {
                        lag,
                        ..plain(Event::Cold)
                    });
                }
                cases.push(Case {
                    lag: 2,
                    reports_age: false,
                    ..plain(Event::Cold)
                });
                cases.push(Case {
                    noise: 0.10,
                    ..plain(Event::Cold)
                });
                for event in [Event::Step, Event::Join, Event::Leave, Event::Stale] {
                    cases.push(plain(event));
                }
            }
        }
    }
    cases
}
