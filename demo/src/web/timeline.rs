//! The course of a run: what happened to the pool, what came of it, and what should not have happened.

use std::{collections::VecDeque, time::Duration};

use super::{
    pool::{self, Event, Explanation, Instance},
    schedule::Step,
};
use crate::{
    log::{Log, seconds},
    violations::Violations,
};

/// Lines that are kept for the screen.
const LINES: usize = 12;
/// Windows that are kept; an endless run forgets the oldest.
const KEPT_WINDOWS: usize = 400;
/// The pool must have this many more instances ...
const GROWTH: usize = 2;
/// ... within this time after the load has risen.
const GROWTH_LIMIT: Duration = Duration::from_secs(12);
/// A dead instance must be out of rotation within this time.
const OUT_LIMIT: Duration = Duration::from_secs(5);
/// It must be relaunched and serve within this time.
const BACK_LIMIT: Duration = Duration::from_secs(10);
/// The pool must have its least size within this time after the load has fallen.
const SHRINK_LIMIT: Duration = Duration::from_secs(26);
/// An answer of a crashed instance may be on its way for this long.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Kinds of events that say what others say, too.
const QUIET: [&str; 2] = ["launched", "healthy"];

/// A request that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// When, since the clients started.
    pub at: Duration,
    /// The client's error.
    pub why: String,
}

/// A step, from its begin until the pool is as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct StepWindow {
    /// What happened.
    pub step: Step,
    /// When.
    pub began: Duration,
    /// The instance that was crashed or killed.
    pub instance: Option<String>,
    /// Instances that served before.
    pub before: usize,
    /// The most instances that served since; after the load has fallen, the fewest.
    pub reached: usize,
    /// When the instance was out of rotation.
    pub out: Option<Duration>,
    /// When the pool had grown, was whole again, or had its least size again.
    pub settled: Option<Duration>,
    /// Requests that a crashed instance answered with 500.
    pub failed: u64,
    is_over: bool,
}

/// Follows a run. All times are since the clients started.
#[derive(Debug)]
pub struct Timeline {
    /// Least size of the pool.
    min: usize,
    windows: VecDeque<StepWindow>,
    log: Log,
    /// The last event that was seen; `None` before the first look.
    revision: Option<u64>,
    violations: Violations,
}

impl Timeline {
    /// Creates the timeline of a pool of at least this size.
    pub fn new(min: usize) -> Self {
        Self {
            min,
            windows: VecDeque::new(),
            log: Log::with_lines(LINES),
            revision: None,
            violations: Violations::default(),
        }
    }

    /// Records a step. `serving` instances serve.
    pub fn record(&mut self, step: Step, instance: Option<&str>, serving: usize, at: Duration) {
        // The load is another one from now on.
        for window in &mut self.windows {
            let ends = match window.step {
                Step::LoadUp => step == Step::LoadDown,
                Step::LoadDown => step == Step::LoadUp,
                Step::Crash | Step::Kill => false,
            };
            window.is_over |= ends;
        }
        if self.windows.len() == KEPT_WINDOWS {
            self.windows.pop_front();
        }
        self.windows.push_back(StepWindow {
            step,
            began: at,
            instance: instance.map(str::to_owned),
            before: serving,
            reached: serving,
            out: None,
            settled: None,
            failed: 0,
            is_over: false,
        });
        let words = match step {
            Step::LoadUp => "many more come",
            Step::LoadDown => "most of them go",
            Step::Crash => "POST /api/v1/_crash: it answers everything with 500 from now on",
            Step::Kill => "killed (SIGKILL)",
        };
        self.log.report(at, instance.unwrap_or("clients"), words);
        if matches!(step, Step::Crash | Step::Kill) && instance.is_none() {
            self.violations
                .add(format!("no instance serves at {}", seconds(at)));
        }
    }

    /// Takes the state of the pool into account.
    pub fn observe(&mut self, at: Duration, explanation: &Explanation) {
        let instances = &explanation.pool.instances;
        for window in self.windows.iter_mut().filter(|window| !window.is_over) {
            let had = (window.out, window.settled);
            window.observe(at, instances, self.min);
            let about = window.instance.as_deref().unwrap_or("pool");
            let after = seconds(at.saturating_sub(window.began));
            if had.0 != window.out {
                let words = format!("out of rotation after {after}");
                self.log.report(at, about, &words);
            }
            if had.1 != window.settled {
                let words = match window.step {
                    Step::LoadUp => format!("{} instances serve after {after}", window.reached),
                    Step::LoadDown => format!("{} instances are left after {after}", self.min),
                    Step::Crash | Step::Kill => {
                        format!("another instance serves in its place after {after}")
                    }
                };
                self.log.report(at, about, &words);
            }
        }
        let last = self.revision;
        for event in &explanation.events {
            let is_new = last.is_none_or(|last| event.revision > last);
            self.revision = self.revision.max(Some(event.revision));
            // What happened before the clients came is no news.
            if is_new && last.is_some() {
                self.take_event(at, event);
            }
        }
        self.revision = self.revision.or(Some(0));
    }

    fn take_event(&mut self, at: Duration, event: &Event) {
        let about = if event.instance.is_empty() {
            "pool"
        } else {
            &event.instance
        };
        if !QUIET.contains(&event.kind.as_str()) {
            let words = format!("{}: {}", event.kind, event.text);
            self.log.report(at, about, &words);
        }
        let number = pool::number(&event.instance);
        let is_explained = self.windows.iter().any(|window| {
            let same = window.instance.as_deref().and_then(pool::number) == number;
            number.is_some() && same && !window.is_late(at)
        });
        if event.alarm || (event.kind == "relaunched" && !is_explained) {
            self.violations.add(format!(
                "{about} at {} without a cause: {}: {}",
                seconds(at),
                event.kind,
                event.text
            ));
        }
    }

    /// Takes the clients' failures into account.
    pub fn add_failures(&mut self, failures: Vec<Failure>) {
        for failure in failures {
            let cause = self
                .windows
                .iter_mut()
                .find(|window| window.explains(&failure));
            match cause {
                Some(window) => window.failed += 1,
                None => {
                    let words = format!("a request failed: {}", failure.why);
                    self.log.report(failure.at, "clients", &words);
                    self.violations
                        .add_request(format!("{words} (at {})", seconds(failure.at)));
                }
            }
        }
    }

    /// What an instance suffers, in a word.
    pub fn fault_of(&self, instance: &str) -> Option<&'static str> {
        let of = |window: &&StepWindow| window.instance.as_deref() == Some(instance);
        let window = self.windows.iter().rev().find(of)?;
        Some(if window.step == Step::Crash {
            "crashed"
        } else {
            "killed"
        })
    }

    /// Returns the last lines of the log.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.log.lines()
    }

    /// Ends the run and returns the steps with what came of them, and what should not have happened.
    pub fn finish(mut self, now: Duration) -> (Vec<StepWindow>, Violations) {
        for window in &self.windows {
            for violation in window.violations(now) {
                self.violations.add(violation);
            }
        }
        (self.windows.into(), self.violations)
    }
}

impl StepWindow {
    fn observe(&mut self, at: Duration, instances: &[Instance], min: usize) {
        let serving = instances.iter().filter(|one| one.serves()).count();
        let is_settled = match self.step {
            Step::LoadUp => {
                self.reached = self.reached.max(serving);
                serving >= self.before + GROWTH
            }
            Step::LoadDown => {
                self.reached = self.reached.min(serving);
                serving == min && instances.len() == min
            }
            Step::Crash | Step::Kill => {
                self.reached = self.reached.max(serving);
                let Some(victim) = self.instance.as_deref() else {
                    return;
                };
                let serves = |one: &&Instance| one.serves();
                if !instances
                    .iter()
                    .filter(serves)
                    .any(|one| one.name == victim)
                {
                    self.out.get_or_insert(at);
                }
                let place = pool::number(victim);
                let mut successors = instances.iter().filter(serves);
                successors.any(|one| Some(one.number) == place && one.name != victim)
            }
        };
        if is_settled && self.settled.is_none() {
            self.settled = Some(at);
            // The load's windows go on: how far the pool grows is of interest.
            self.is_over = self.step != Step::LoadUp;
        }
    }

    /// Whether the step can no longer be the cause of a relaunch.
    fn is_late(&self, at: Duration) -> bool {
        self.settled.is_some_and(|settled| at > settled + AFTERMATH)
    }

    /// Whether a failure is an answer of the crashed instance.
    fn explains(&self, failure: &Failure) -> bool {
        let until = self.settled.map(|settled| settled + AFTERMATH);
        self.step == Step::Crash
            && failure.at >= self.began
            && until.is_none_or(|until| failure.at <= until)
            && failure.why.contains("500")
    }

    /// What the run must fail for.
    fn violations(&self, now: Duration) -> Vec<String> {
        let began = seconds(self.began);
        let is_late = |event: Option<Duration>, limit: Duration| {
            let end = event.unwrap_or(now);
            end.saturating_sub(self.began) > limit
        };
        let mut violations = Vec::new();
        match (self.step, self.instance.as_deref()) {
            (Step::LoadUp, _) => {
                if is_late(self.settled, GROWTH_LIMIT) {
                    violations.push(format!(
                        "the pool did not grow from {} instances within {GROWTH_LIMIT:?} after the load rose at {began}",
                        self.before
                    ));
                }
            }
            (Step::LoadDown, _) => {
                if is_late(self.settled, SHRINK_LIMIT) {
                    violations.push(format!(
                        "the pool was not small again within {SHRINK_LIMIT:?} after the load fell at {began}"
                    ));
                }
            }
            (Step::Crash | Step::Kill, Some(instance)) => {
                if is_late(self.out, OUT_LIMIT) {
                    violations.push(format!(
                        "{instance}, dead at {began}, was not out of rotation within {OUT_LIMIT:?}"
                    ));
                }
                if is_late(self.settled, BACK_LIMIT) {
                    violations.push(format!(
                        "{instance}, dead at {began}, was not relaunched within {BACK_LIMIT:?}"
                    ));
                }
            }
            (Step::Crash | Step::Kill, None) => {}
        }
        violations
    }

    /// Describes the window in a line.
    pub fn summary(&self) -> String {
        let after =
            |event: Option<Duration>| event.map(|event| seconds(event.saturating_sub(self.began)));
        let at = seconds(self.began);
        match (self.step, self.instance.as_deref()) {
            (Step::LoadUp, _) => format!(
                "load up at {at}: {} instances, more {}, {} at most",
                self.before,
                after(self.settled).map_or("not".to_owned(), |after| format!("after {after}")),
                self.reached
            ),
            (Step::LoadDown, _) => format!(
                "load down at {at}: {} instances, {}",
                self.before,
                after(self.settled).map_or_else(
                    || format!("{} in the end", self.reached),
                    |after| format!("{} after {after}", self.reached)
                )
            ),
            (Step::Crash | Step::Kill, instance) => {
                let what = if self.step == Step::Crash {
                    "crashed"
                } else {
                    "killed"
                };
                let event = |name: &str, event| match after(event) {
                    Some(after) => format!("{name} after {after}"),
                    None => format!("not {name}"),
                };
                let mut text = format!(
                    "{} {what} at {at}: {}, {}",
                    instance.unwrap_or("no instance"),
                    event("out of rotation", self.out),
                    event("relaunched", self.settled)
                );
                if self.step == Step::Crash {
                    text += &format!(", {} requests answered with 500", self.failed);
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::pool::Pool;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn seen(instances: &[(&str, &str)], events: &[(u64, &str, &str)]) -> Explanation {
        let instance = |(name, state): &(&str, &str)| Instance {
            name: (*name).to_owned(),
            number: pool::number(name).unwrap(),
            state: (*state).to_owned(),
            ..Instance::default()
        };
        let event = |(revision, instance, kind): &(u64, &str, &str)| Event {
            revision: *revision,
            instance: (*instance).to_owned(),
            kind: (*kind).to_owned(),
            alarm: *kind == "mass_failure",
            ..Event::default()
        };
        Explanation {
            pool: Pool {
                instances: instances.iter().map(instance).collect(),
                ..Pool::default()
            },
            events: events.iter().map(event).collect(),
            ..Explanation::default()
        }
    }

    fn failure(time: f64, why: &str) -> Failure {
        Failure {
            at: at(time),
            why: why.to_owned(),
        }
    }

    const FOUR: [(&str, &str); 4] = [
        ("web-1-1", "LU"),
        ("web-2-2", "MU"),
        ("web-3-3", "HU"),
        ("web-4-4", "LU"),
    ];

    #[test]
    fn a_run_without_surprises_has_no_violation() {
        let mut timeline = Timeline::new(2);
        timeline.observe(at(0.0), &seen(&FOUR[..2], &[(1, "web-9-1", "relaunched")]));
        timeline.record(Step::LoadUp, None, 2, at(1.0));
        timeline.observe(at(1.5), &seen(&FOUR[..3], &[]));
        timeline.observe(at(4.0), &seen(&FOUR, &[(2, "", "scaled")]));
        timeline.record(Step::Crash, Some("web-1-1"), 4, at(10.0));
        timeline.observe(at(11.0), &seen(&FOUR[1..], &[]));
        let whole = [("web-1-5", "LU"), FOUR[1], FOUR[2], FOUR[3]];
        let events = [(3, "web-1-5", "relaunched")];
        timeline.observe(at(13.0), &seen(&whole, &events));
        timeline.add_failures(vec![failure(10.2, "the answer is 500")]);
        timeline.record(Step::LoadDown, None, 4, at(20.0));
        let draining = [whole[0], whole[1], ("web-3-3", "SUNDOWN")];
        timeline.observe(at(30.0), &seen(&draining, &events));
        timeline.observe(at(35.0), &seen(&whole[..2], &events));
        let (windows, violations) = timeline.finish(at(60.0));
        assert_eq!(violations.descriptions, [""; 0]);
        let summaries: Vec<_> = windows.iter().map(StepWindow::summary).collect();
        assert_eq!(
            summaries,
            [
                "load up at 1.0 s: 2 instances, more after 3.0 s, 4 at most",
                "web-1-1 crashed at 10.0 s: out of rotation after 1.0 s, relaunched after 3.0 s, \
                 1 requests answered with 500",
                "load down at 20.0 s: 4 instances, 2 after 15.0 s",
            ]
        );
    }

    #[test]
    fn what_is_no_consequence_of_a_step_is_a_violation() {
        let begin = || {
            let mut timeline = Timeline::new(2);
            timeline.observe(at(0.0), &seen(&FOUR, &[]));
            timeline
        };
        let of = |timeline: Timeline, now: f64| timeline.finish(at(now)).1;
        // Failed requests: without a crash, of another kind, and late.
        let mut timeline = begin();
        timeline.add_failures(vec![failure(1.0, "the answer is 500")]);
        timeline.record(Step::Crash, Some("web-1-1"), 4, at(2.0));
        timeline.observe(at(4.0), &seen(&[("web-1-5", "LU")], &[]));
        timeline.add_failures(vec![
            failure(3.0, "the answer is 503"),
            failure(5.5, "the answer is 500"),
        ]);
        assert_eq!(of(timeline, 10.0).requests, 3);
        // A killed instance costs no request.
        let mut timeline = begin();
        timeline.record(Step::Kill, Some("web-1-1"), 4, at(2.0));
        timeline.add_failures(vec![failure(2.1, "the answer is 500")]);
        assert_eq!(of(timeline, 3.0).requests, 1);
        // Instances that die by themselves, and alarms.
        for event in [(1, "web-2-5", "relaunched"), (1, "", "mass_failure")] {
            let mut timeline = begin();
            timeline.record(Step::Kill, Some("web-1-1"), 4, at(2.0));
            timeline.observe(at(2.5), &seen(&FOUR[1..], &[event]));
            assert_eq!(of(timeline, 3.0).count, 1, "{event:?}");
        }
        // What does not happen in time.
        for (step, instance, early, late) in [
            (Step::LoadUp, None, 11.0, 13.0),
            (Step::Kill, Some("web-1-1"), 4.0, 6.0),
            (Step::LoadDown, None, 25.0, 27.0),
        ] {
            for (now, count) in [(early, 0), (late, 1)] {
                let mut timeline = begin();
                timeline.record(step, instance, 4, at(0.0));
                timeline.observe(at(now), &seen(&FOUR, &[]));
                assert_eq!(of(timeline, now).count, count, "{step:?} at {now}");
            }
        }
    }
}
