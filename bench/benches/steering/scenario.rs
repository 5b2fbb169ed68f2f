//! The grid: pools, loads, lives of connections, and what happens.

/// Time between decisions, seconds: the controller's default.
pub const PERIOD: f64 = 5.0;
/// Periods before the event, in which the controller learns.
pub const WARM: usize = 60;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The start with equal weights.
    Cold,
    /// One server loses half its capacity.
    Step,
    /// An empty server joins.
    Join,
    /// A server dies; its clients come back at once.
    Leave,
    /// The start, with a fifth of the readings missing, and none at all from one server for 60 periods.
    Stale,
}

impl Event {
    /// In tables.
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
    /// What happens.
    pub event: Event,
    /// Servers.
    pub reals: usize,
    /// Demand over capacity.
    pub load: f64,
    /// Mean life of a connection, seconds; 0: none lasts.
    pub life: f64,
    /// Deviation of readings, as a part.
    pub noise: f64,
    /// Periods by which readings are late.
    pub lag: usize,
    /// Whether they say how old they are; else they claim to be of now.
    pub told: bool,
    /// Flows that may be reset per second.
    pub shed: f64,
}

impl Case {
    /// 20 servers at 65 %, 3 % noise, one period late.
    pub const fn plain(event: Event, life: f64) -> Self {
        Case {
            event,
            reals: 20,
            load: 0.65,
            life,
            noise: 0.03,
            lag: 1,
            told: true,
            shed: 0.0,
        }
    }

    /// Whether the event happens to a pool that has learned.
    pub fn warm(&self) -> bool {
        matches!(self.event, Event::Step | Event::Join | Event::Leave)
    }

    /// Periods from the event on.
    pub fn periods(&self) -> usize {
        200 + (1.7 * self.life / PERIOD) as usize
    }
}

/// All cases.
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
                    told: false,
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
