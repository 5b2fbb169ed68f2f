//! How a drained instance ends: it gets no new flows, its connections end by themselves for a while, the rest are shed at
//! most at the rate at which the others take them, and then it stops. Until it stops it can be taken back.

use std::time::Duration;

use lb_model::scaling::Scaling;

/// An instance whose connections cannot be shed counts as empty with this part of those that it had.
const EMPTY_PART: f64 = 0.01;
/// Less than this is none.
const EMPTY_LEAST: f64 = 0.5;
/// Connections that may be shed for each that the others took in the same time: clients that reconnect show that they
/// can. See also [`crate::VipSteering`]'s shedding.
const PER_TAKEN: f64 = 3.0;

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    /// How long it has been drained.
    pub since: Duration,
    /// Connections that it has now; `None` if that is unknown.
    pub connections: Option<f64>,
    /// Connections that it had when it was drained.
    pub at_first: Option<f64>,
    /// Mean life of a connection, if known.
    pub life: Option<Duration>,
    /// Time since the last call.
    pub elapsed: Duration,
    /// Connections that the others gained since the last call.
    pub gained: f64,
    /// Connections a second that may be ended on the pool's reals: steering's `shed_rate`; 0: none.
    pub shed_rate: f64,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DrainStep {
    /// Its connections end by themselves.
    Wait,
    /// So many of its connections are reset until the next call. Whoever resets them carries a fraction over to that.
    Shed(f64),
    /// It is stopped: it is empty, or its deadline has passed.
    Stop,
}

impl Drain {
    /// Returns what is done next.
    #[must_use]
    pub fn step(&self, settings: &Scaling) -> DrainStep {
        let natural = self.life.map_or(settings.drain_natural, |life| {
            life.min(settings.drain_natural)
        });
        // Where connections can be shed, none is cut off.
        let few = if self.shed_rate > 0.0 || self.since < natural {
            0.0
        } else {
            self.at_first.unwrap_or(0.0) * EMPTY_PART
        };
        let empty = self
            .connections
            .is_some_and(|now| now <= few.max(EMPTY_LEAST));
        if empty || self.since >= settings.drain_deadline {
            return DrainStep::Stop;
        }
        if self.since < natural || self.shed_rate <= 0.0 {
            return DrainStep::Wait;
        }
        let most = self.shed_rate * self.elapsed.as_secs_f64();
        let accepted = 1.0 + PER_TAKEN * self.gained.max(0.0);
        let shed = most
            .min(accepted)
            .min(self.connections.unwrap_or(f64::INFINITY));
        DrainStep::Shed(shed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const DRAIN: Drain = Drain {
        since: Duration::ZERO,
        connections: Some(1_000.0),
        at_first: Some(1_000.0),
        life: Some(seconds(7_200)),
        elapsed: seconds(5),
        gained: 1_000.0,
        shed_rate: 50.0,
    };

    fn step(change: impl FnOnce(&mut Drain)) -> DrainStep {
        let mut drain = DRAIN;
        change(&mut drain);
        drain.step(&Scaling::default())
    }

    #[test]
    fn connections_end_by_themselves_first() {
        assert_eq!(step(|it| it.since = seconds(299)), DrainStep::Wait);
        assert_eq!(step(|it| it.since = seconds(300)), DrainStep::Shed(250.0));
        // Short connections have ended after their life; what is left are the long ones.
        let life = Some(seconds(10));
        assert_eq!(
            step(|it| (it.since, it.life) = (seconds(9), life)),
            DrainStep::Wait
        );
        assert_eq!(
            step(|it| (it.since, it.life) = (seconds(10), life)),
            DrainStep::Shed(250.0)
        );
    }

    #[test]
    fn shedding_is_bounded_by_what_the_others_take() {
        let late = seconds(400);
        assert_eq!(
            step(|it| (it.since, it.gained) = (late, 20.0)),
            DrainStep::Shed(61.0)
        );
        assert_eq!(
            step(|it| (it.since, it.gained) = (late, -5.0)),
            DrainStep::Shed(1.0)
        );
        assert_eq!(
            step(|it| (it.since, it.shed_rate) = (late, 0.0)),
            DrainStep::Wait
        );
        assert_eq!(
            step(|it| (it.since, it.connections) = (late, Some(30.0))),
            DrainStep::Shed(30.0)
        );
    }

    #[test]
    fn it_stops_when_it_is_empty_or_late() {
        assert_eq!(step(|it| it.connections = Some(10.0)), DrainStep::Wait);
        let late = seconds(300);
        // What can be shed is not cut off.
        assert_eq!(
            step(|it| (it.since, it.connections) = (late, Some(10.0))),
            DrainStep::Shed(10.0)
        );
        assert_eq!(
            step(|it| (it.since, it.connections, it.shed_rate) = (late, Some(10.0), 0.0)),
            DrainStep::Stop
        );
        assert_eq!(
            step(|it| (it.connections, it.at_first) = (Some(1.0), Some(10.0))),
            DrainStep::Wait
        );
        assert_eq!(
            step(|it| (it.connections, it.at_first) = (Some(0.0), None)),
            DrainStep::Stop
        );
        assert_eq!(step(|it| it.since = seconds(900)), DrainStep::Stop);
        assert_eq!(
            step(|it| (it.connections, it.since) = (None, seconds(899))),
            DrainStep::Shed(250.0)
        );
    }
}
