//! Tasks of reals or instances that panicked, which is a fault of this program. Each is started again; a probe that panics
//! each time would leave its real in the state that it has, so this is a warning for a while.

use std::time::{Duration, Instant};

use lb_model::duration;

/// How long a panic is a warning; one that lasts raises an alert.
const WARNED: Duration = Duration::from_secs(3_600);

/// Panics of tasks.
#[derive(Debug)]
pub struct Panics {
    /// What tasks these are: `probes and load readers`.
    tasks: &'static str,
    /// The program: `the agent`.
    program: &'static str,
    /// Since the program started.
    count: u64,
    last: Option<(Instant, String)>,
}

impl Panics {
    /// No panic yet of such tasks of this program.
    #[must_use]
    pub const fn new(tasks: &'static str, program: &'static str) -> Self {
        Panics {
            tasks,
            program,
            count: 0,
            last: None,
        }
    }

    /// Notes the panic of a task.
    pub fn note(&mut self, task: String, now: Instant) {
        self.count += 1;
        self.last = Some((now, task));
    }

    /// The warning, if the last panic is not long ago.
    #[must_use]
    pub fn warning(&self, now: Instant) -> Option<String> {
        let (at, task) = self.last.as_ref()?;
        let age = now.saturating_duration_since(*at);
        (age < WARNED).then(|| {
            format!(
                "{} {} have panicked since {} started, which is a fault of this program, and were started again; the \
                 last was {task}, {} ago; please report this",
                self.count,
                self.tasks,
                self.program,
                duration::format(Duration::from_secs(age.as_secs() + 1))
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_warning_for_an_hour() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut panics = Panics::new("probes", "the agent");
        assert_eq!(panics.warning(at(0)), None);
        panics.note("one".to_owned(), at(0));
        panics.note("another".to_owned(), at(60));
        let warning = panics.warning(at(64)).unwrap();
        assert!(
            warning.starts_with("2 probes have panicked since the agent")
                && warning.contains("the last was another, 5s ago"),
            "{warning}"
        );
        assert!(panics.warning(at(3_659)).is_some());
        assert_eq!(panics.warning(at(3_660)), None);
    }
}
