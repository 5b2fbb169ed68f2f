//! Ends a process whose vital part hangs.
//!
//! A part that panics or returns is noticed by [`crate::vital`]. One that waits for ever, for a lock or for the kernel, or
//! that computes without an end, looks alive. So each such part has a [`Pulse`], and a thread of its own compares the
//! pulses once a round. It counts its own rounds and not the time: a process that was stopped, or that got no CPU, has
//! done nothing wrong. The service manager gets its sign of life (`WatchdogSec`) from the same thread, and only while all
//! parts are well.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use sd_notify::NotifyState;

use crate::vital::{Cause, End, Vital};

/// How often pulses are compared.
const ROUND: Duration = Duration::from_secs(1);
/// How long the program may take to end once it knows of a part that hangs.
const GRACE: Duration = Duration::from_secs(10);

/// Shows whether a part makes progress: odd while it is at work, and another number after each piece of work.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// A piece of work begins, and ends when the result is dropped.
    pub fn work(&self) -> Work<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Work(self)
    }

    /// A long piece of work makes progress.
    pub fn progress(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A piece of work.
#[derive(Debug)]
pub struct Work<'a>(&'a Pulse);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Compares the pulses of parts.
pub struct Watchdog {
    parts: Vec<Part>,
    /// How long a part may make no progress.
    limit: Duration,
    round: Duration,
}

struct Part {
    name: &'static str,
    pulse: Arc<Pulse>,
    /// Gives it something to do, so that its pulse changes if it lives.
    ping: Box<dyn Fn() + Send>,
    /// It waits for the parts before it.
    waits: bool,
    /// The pulse in the last round, and the rounds since it was another.
    last: u64,
    rounds: u32,
}

impl Watchdog {
    /// Watches no part yet; each may make no progress for as long as `limit`.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Watchdog {
            parts: Vec::new(),
            limit,
            round: ROUND,
        }
    }

    #[cfg(test)]
    pub(crate) fn with_round(self, round: Duration) -> Self {
        Watchdog { round, ..self }
    }

    /// Watches a part as well. `ping` is called once a round and must not wait: it gives an idle part something to do.
    #[must_use]
    pub fn watch(
        self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: impl Fn() + Send + 'static,
    ) -> Self {
        self.add(name, pulse, Box::new(ping), false)
    }

    /// Watches a part that waits for the parts that were named before: while one of them is at work, it need not make
    /// progress.
    #[must_use]
    pub fn watch_waiting(
        self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: impl Fn() + Send + 'static,
    ) -> Self {
        self.add(name, pulse, Box::new(ping), true)
    }

    fn add(
        mut self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: Box<dyn Fn() + Send>,
        waits: bool,
    ) -> Self {
        self.parts.push(Part {
            name,
            last: pulse.value(),
            pulse,
            ping,
            waits,
            rounds: 0,
        });
        self
    }

    /// Compares all pulses with those of the last round; returns the part that hangs, if one does.
    fn look(&mut self) -> Option<&'static str> {
        let mut hung = None;
        let mut others_work = false;
        for part in &mut self.parts {
            let value = part.pulse.value();
            let stands = value == part.last && !(part.waits && others_work);
            part.rounds = if stands { part.rounds + 1 } else { 0 };
            part.last = value;
            others_work |= value % 2 == 1;
            if self.round * part.rounds >= self.limit {
                hung = hung.or(Some(part.name));
            }
            (part.ping)();
        }
        hung
    }

    /// Starts the thread that watches. A part that hangs is reported to `vital` as its end; if the program has not even
    /// noticed that after ten seconds, the process ends here.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(mut self, vital: &Vital) -> io::Result<()> {
        let ends = vital.reporter();
        let is_expected = sd_notify::watchdog_enabled().is_some();
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                while !ends.is_closed() {
                    thread::sleep(self.round);
                    let Some(part) = self.look() else {
                        if is_expected {
                            // There may be no service manager any more.
                            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                        }
                        continue;
                    };
                    let cause = Cause::Hung(self.limit);
                    // A program that ends does not listen any more.
                    let _ = ends.send(End { part, cause });
                    thread::sleep(GRACE);
                    if !ends.is_closed() {
                        eprintln!("lb-agent: {part} hangs, and so does the rest: the process ends");
                        std::process::exit(1);
                    }
                }
            })?;
        Ok(())
    }
}

/// Shows that tasks run: it waits a second again and again.
pub async fn beat(pulse: Arc<Pulse>) {
    loop {
        let _work = pulse.work();
        tokio::time::sleep(ROUND).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that lives does something at each ping.
    fn living(pulse: &Arc<Pulse>) -> impl Fn() + Send + 'static {
        let pulse = Arc::clone(pulse);
        move || drop(pulse.work())
    }

    #[test]
    fn a_part_hangs_that_makes_no_progress() {
        let pulse = Arc::new(Pulse::default());
        let mut watchdog = Watchdog::new(3 * ROUND).watch("the part", Arc::clone(&pulse), || {});
        let mut look = |times| (0..times).find_map(|_| watchdog.look());
        for _ in 0..9 {
            drop(pulse.work());
            assert_eq!(look(2), None, "it is at work now and then");
        }
        let work = pulse.work();
        for _ in 0..9 {
            pulse.progress();
            assert_eq!(look(2), None, "its work makes progress");
        }
        pulse.progress();
        assert_eq!(look(3), None, "the limit is not reached");
        assert_eq!(look(1), Some("the part"));
        drop(work);
        assert_eq!(look(3), None);
        assert_eq!(look(1), Some("the part"), "it does not even answer");
    }

    #[test]
    fn an_idle_part_that_answers_does_not_hang() {
        let pulse = Arc::new(Pulse::default());
        let mut watchdog =
            Watchdog::new(3 * ROUND).watch("the part", Arc::clone(&pulse), living(&pulse));
        for _ in 0..20 {
            assert_eq!(watchdog.look(), None);
        }
    }

    #[test]
    fn a_part_that_waits_for_another_does_not_hang_while_that_works() {
        let (first, second) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let mut watchdog = Watchdog::new(3 * ROUND)
            .watch("the first", Arc::clone(&first), living(&first))
            .watch_waiting("the second", Arc::clone(&second), || {});
        let _waits = second.work();
        let work = first.work();
        for _ in 0..9 {
            assert_eq!(watchdog.look(), None);
        }
        drop(work);
        let mut look = |times| (0..times).find_map(|_| watchdog.look());
        assert_eq!(look(2), None);
        assert_eq!(look(1), Some("the second"), "nobody works for it");
    }
}
