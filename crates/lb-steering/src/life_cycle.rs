//! The life of an instance: INIT → LU | MU | HU → SUNDOWN → gone, or failed with a reason. LU, MU and HU are views of a
//! serving instance by its score.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::score::Category;

/// Why an instance has failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// It was not healthy within its start deadline.
    StartDeadline,
    /// Its health check fails.
    Unhealthy(String),
    /// It has ended by itself.
    Ended(String),
    /// Its driver could not create, start or find it.
    Driver(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::StartDeadline => f.write_str("it was not healthy within its start deadline"),
            Failure::Unhealthy(reason) => write!(f, "its health check fails: {reason}"),
            Failure::Ended(reason) => write!(f, "it has ended: {reason}"),
            Failure::Driver(reason) => write!(f, "its driver failed: {reason}"),
        }
    }
}

/// A stage of an instance's life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LifeCycle {
    /// Ordered, and not healthy yet.
    Init,
    /// It has new flows: LU, MU or HU.
    Serving,
    /// It is drained: without new flows, until its connections have ended or its deadline has passed.
    Sundown,
    /// It is stopped and removed.
    Gone,
    /// It does not work.
    Failed(Failure),
}

/// What happens to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeEvent {
    /// Its health check passes.
    Healthy,
    /// It is to be drained.
    Drain,
    /// A drain is taken back.
    TakeBack,
    /// Its driver has stopped and removed it.
    Stopped,
    /// It fails.
    Fail(Failure),
    /// It is launched again at the same address and port.
    Relaunch,
}

impl LifeCycle {
    /// Returns the stage after an event; `None` if the event does not concern this stage, which stays.
    #[must_use]
    pub fn after(&self, event: &LifeEvent) -> Option<LifeCycle> {
        use LifeCycle::{Failed, Gone, Init, Serving, Sundown};
        match (self, event) {
            (Gone, _) => None,
            (_, LifeEvent::Stopped) => Some(Gone),
            // A health check that passes again ends a failure that was one of health.
            (Init | Failed(Failure::Unhealthy(_)), LifeEvent::Healthy) => Some(Serving),
            (Init | Serving | Failed(_), LifeEvent::Drain) => Some(Sundown),
            (Sundown, LifeEvent::TakeBack) => Some(Serving),
            // A drained instance that fails ends sooner; it is not relaunched.
            (Init | Serving, LifeEvent::Fail(failure)) => Some(Failed(failure.clone())),
            (Failed(_), LifeEvent::Relaunch) => Some(Init),
            _ => None,
        }
    }

    /// Returns the name that is shown, with the category of an instance that serves.
    #[must_use]
    pub const fn view(&self, category: Option<Category>) -> &'static str {
        match (self, category) {
            (LifeCycle::Init, _) => "INIT",
            (LifeCycle::Serving, Some(category)) => category.name(),
            // Until its first score it has nothing to do.
            (LifeCycle::Serving, None) => Category::Low.name(),
            (LifeCycle::Sundown, _) => "SUNDOWN",
            (LifeCycle::Gone, _) => "GONE",
            (LifeCycle::Failed(_), _) => "FAILED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::Ended("exit status 1".to_owned())
    }

    #[test]
    fn a_life_takes_its_course() {
        let mut life = LifeCycle::Init;
        let mut views = vec![life.view(None)];
        for (event, category) in [
            (LifeEvent::Healthy, Some(Category::Low)),
            (LifeEvent::Fail(failure()), Some(Category::High)),
            (LifeEvent::Relaunch, None),
            (LifeEvent::Healthy, Some(Category::High)),
            (LifeEvent::Drain, Some(Category::Medium)),
            (LifeEvent::TakeBack, Some(Category::Medium)),
            (LifeEvent::Drain, None),
            (LifeEvent::Stopped, None),
        ] {
            life = life.after(&event).unwrap();
            views.push(life.view(category));
        }
        assert_eq!(
            views,
            [
                "INIT", "LU", "FAILED", "INIT", "HU", "SUNDOWN", "MU", "SUNDOWN", "GONE"
            ]
        );
    }

    #[test]
    fn what_cannot_be_does_not_happen() {
        let failed = LifeCycle::Failed(failure());
        for (life, event) in [
            (LifeCycle::Gone, LifeEvent::Relaunch),
            (LifeCycle::Gone, LifeEvent::Healthy),
            (LifeCycle::Gone, LifeEvent::Stopped),
            (LifeCycle::Sundown, LifeEvent::Fail(failure())),
            (LifeCycle::Sundown, LifeEvent::Healthy),
            (LifeCycle::Serving, LifeEvent::Healthy),
            (LifeCycle::Serving, LifeEvent::Relaunch),
            (LifeCycle::Serving, LifeEvent::TakeBack),
            (LifeCycle::Init, LifeEvent::TakeBack),
            // What has ended cannot become healthy without being launched.
            (failed, LifeEvent::Healthy),
        ] {
            assert_eq!(life.after(&event), None, "{life:?} {event:?}");
        }
        let unhealthy = LifeCycle::Failed(Failure::Unhealthy("time-out".to_owned()));
        assert_eq!(
            unhealthy.after(&LifeEvent::Healthy),
            Some(LifeCycle::Serving)
        );
        assert!(
            Failure::StartDeadline
                .to_string()
                .contains("start deadline")
        );
    }
}
