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
#[derive(Debug)]
pub struct Watchdog {
    parts: Vec<Part>,
    /// How long one piece of work may take.
    limit: Duration,
    round: Duration,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    pulse: Arc<Pulse>,
    /// It waits for the parts before it.
    waits: bool,
    /// The pulse in the last round, and the rounds since it was another.
    last: u64,
    rounds: u32,
}

impl Watchdog {
    /// Watches no part yet; one piece of work may take as long as `limit`.
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

    /// Watches a part as well.
    #[must_use]
    pub fn watch(self, name: &'static str, pulse: Arc<Pulse>) -> Self {
        self.add(name, pulse, false)
    }

    /// Watches a part that waits for the parts that were named before: while one of them is at work, it need not make
    /// progress.
    #[must_use]
    pub fn watch_waiting(self, name: &'static str, pulse: Arc<Pulse>) -> Self {
        self.add(name, pulse, true)
    }

    fn add(mut self, name: &'static str, pulse: Arc<Pulse>, waits: bool) -> Self {
        self.parts.push(Part {
            name,
            last: pulse.value(),
            pulse,
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
            let stands = value % 2 == 1 && value == part.last;
            let works = value % 2 == 1 || value != part.last;
            part.last = value;
            part.rounds = if stands && !(part.waits && others_work) {
                part.rounds + 1
            } else {
                0
            };
            others_work |= works;
            if self.round * part.rounds >= self.limit {
                hung = hung.or(Some(part.name));
            }
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

    #[test]
    fn a_part_hangs_that_is_at_work_and_makes_no_progress() {
        let pulse = Arc::new(Pulse::default());
        let mut watchdog = Watchdog::new(3 * ROUND).watch("the part", Arc::clone(&pulse));
        let mut look = |times| (0..times).find_map(|_| watchdog.look());
        assert_eq!(look(9), None, "it is idle");
        for _ in 0..9 {
            let _work = pulse.work();
            assert_eq!(look(1), None, "each piece of work is short");
        }
        let work = pulse.work();
        for _ in 0..9 {
            pulse.progress();
            assert_eq!(look(2), None, "it makes progress");
        }
        pulse.progress();
        assert_eq!(look(1), None, "the first look sees the progress");
        assert_eq!(look(2), None, "the limit is not reached");
        assert_eq!(look(1), Some("the part"));
        drop(work);
        assert_eq!(look(9), None);
    }

    #[test]
    fn a_part_that_waits_for_another_does_not_hang_while_that_works() {
        let (first, second) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let mut watchdog = Watchdog::new(3 * ROUND)
            .watch("the first", Arc::clone(&first))
            .watch_waiting("the second", Arc::clone(&second));
        let _waits = second.work();
        let work = first.work();
        for _ in 0..9 {
            first.progress();
            assert_eq!(watchdog.look(), None);
        }
        drop(work);
        // The first look sees that the first has worked.
        let mut look = |times| (0..times).find_map(|_| watchdog.look());
        assert_eq!(look(3), None);
        assert_eq!(look(1), Some("the second"), "nobody works for it");
        let _hangs = first.work();
        assert_eq!(look(1), None);
        assert_eq!(look(3), Some("the first"));
    }
}
