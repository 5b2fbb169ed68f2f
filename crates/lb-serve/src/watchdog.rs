//! Ends a process whose vital part hangs.
//!
//! A part that panics or returns is noticed by [`crate::vital`]. One that waits for ever, for a lock or for the kernel, or
//! that computes without an end, looks alive. So each such part has a [`Pulse`], and a thread of its own compares the
//! pulses once a round. That thread takes no lock which a part that hangs could hold: another one gives the parts something
//! to do. It counts its own rounds and not the time: a process that was stopped, or that got no CPU, has
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
/// A part that has made no progress for longer is to blame, and not a part that waits for it.
const PAUSE: Duration = Duration::from_secs(2);
/// The shortest round, for a service manager that wants a sign of life more often than that.
const SHORTEST_ROUND: Duration = Duration::from_millis(50);
/// How long the program may take to end once it knows of a part that hangs.
const GRACE: Duration = Duration::from_secs(10);
/// How long the reason of an end may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

    /// What changes with progress.
    #[must_use]
    pub fn value(&self) -> u64 {
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
    /// Each gives a part something to do, so that its pulse changes if it lives.
    pings: Vec<Box<dyn Fn() + Send>>,
    /// How long a part may make no progress.
    limit: Duration,
    round: Duration,
    /// Whether the process ends if it does not do so by itself.
    ends_process: bool,
    /// The program's name, for its last words.
    program: &'static str,
}

struct Part {
    name: &'static str,
    pulse: Arc<Pulse>,
    needs: Needs,
    /// The pulse in the last round, and the rounds since it was another.
    last: u64,
    rounds: u32,
}

/// What a part has to do with those that were named before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// They run it.
    ToBeRun,
    /// It waits for them.
    TheirWork,
}

impl Watchdog {
    /// Watches no part of `program` yet; each may make no progress for as long as `limit`.
    #[must_use]
    pub const fn new(program: &'static str, limit: Duration) -> Self {
        Watchdog {
            parts: Vec::new(),
            pings: Vec::new(),
            limit,
            round: ROUND,
            ends_process: true,
            program,
        }
    }

    /// Compares pulses once in `round`, and only reports what hangs: for a test whose process must go on.
    #[must_use]
    pub fn only_reporting(self, round: Duration) -> Self {
        Watchdog {
            round,
            ends_process: false,
            ..self
        }
    }

    /// Watches a part as well. `ping` is called once a round and must not wait: it gives an idle part something to do.
    #[must_use]
    pub fn watch(
        self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: impl Fn() + Send + 'static,
    ) -> Self {
        self.add(name, pulse, Box::new(ping), Needs::Nothing)
    }

    /// Watches a part that is run by the parts that were named before: if one of them makes no progress either, that one hangs.
    #[must_use]
    pub fn watch_run(
        self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: impl Fn() + Send + 'static,
    ) -> Self {
        self.add(name, pulse, Box::new(ping), Needs::ToBeRun)
    }

    /// Watches a part that waits for the parts that were named before, or runs by them: while one of them is at work, it need
    /// not make progress, and if one of them makes none either, that one hangs.
    #[must_use]
    pub fn watch_waiting(
        self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: impl Fn() + Send + 'static,
    ) -> Self {
        self.add(name, pulse, Box::new(ping), Needs::TheirWork)
    }

    fn add(
        mut self,
        name: &'static str,
        pulse: Arc<Pulse>,
        ping: Box<dyn Fn() + Send>,
        needs: Needs,
    ) -> Self {
        self.parts.push(Part {
            name,
            last: pulse.value(),
            pulse,
            needs,
            rounds: 0,
        });
        self.pings.push(ping);
        self
    }

    /// Compares all pulses with those of the last round; returns the part that hangs, if one does.
    fn look(&mut self) -> Option<&'static str> {
        let mut hung = None;
        let mut others_work = false;
        let mut others_stand = false;
        for part in &mut self.parts {
            let value = part.pulse.value();
            let has_work_done = part.needs == Needs::TheirWork && others_work;
            let stands = value == part.last && !has_work_done;
            part.rounds = if stands { part.rounds + 1 } else { 0 };
            part.last = value;
            others_work |= value % 2 == 1;
            let pause = self.round * part.rounds;
            let is_held_up = part.needs != Needs::Nothing && others_stand;
            if pause >= self.limit && !is_held_up {
                hung = hung.or(Some(part.name));
            }
            others_stand |= pause > PAUSE;
        }
        hung
    }

    fn ping(&self) {
        for ping in &self.pings {
            ping();
        }
    }

    /// Starts the thread that watches. A part that hangs is reported to `vital` as its end; if the process still lives after
    /// ten seconds, it ends here.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(mut self, vital: &Vital) -> io::Result<()> {
        let ends = vital.reporter();
        let expected = sd_notify::watchdog_enabled();
        if let Some(interval) = expected {
            self.round = round_within(self.round, interval);
        }
        let pinger = Watchdog {
            pings: std::mem::take(&mut self.pings),
            ..Watchdog::new(self.program, self.limit)
        };
        let (round, is_over) = (self.round, ends.clone());
        thread::Builder::new()
            .name("watchdog-pings".to_owned())
            .spawn(move || {
                while !is_over.is_closed() {
                    pinger.ping();
                    thread::sleep(round);
                }
            })?;
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                while !ends.is_closed() {
                    thread::sleep(self.round);
                    let Some(part) = self.look() else {
                        if expected.is_some() {
                            // There may be no service manager any more.
                            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                        }
                        continue;
                    };
                    let cause = Cause::Hung(self.limit);
                    let end = End {
                        part,
                        of: String::new(),
                        cause,
                    };
                    let reason = end.to_string();
                    // A program that ends does not listen any more.
                    let _ = ends.send(end);
                    thread::sleep(GRACE);
                    if self.ends_process {
                        exit(self.program, &reason);
                    }
                }
            })?;
        Ok(())
    }
}

/// Ends the process, whatever it waits for.
fn exit(program: &str, reason: &str) -> ! {
    let text =
        format!("{program}: {reason}; the process does not end in order either, and is ended");
    // What hangs may hold the lock of standard error.
    thread::spawn(move || eprintln!("{text}"));
    thread::sleep(LAST_WORDS);
    std::process::exit(1)
}

/// The round in which a service manager gets two signs of life in each interval, as `sd_watchdog_enabled(3)` recommends.
fn round_within(round: Duration, interval: Duration) -> Duration {
    round.min(interval / 2).max(SHORTEST_ROUND)
}

/// Shows that tasks run, once a second.
pub async fn beat(pulse: Arc<Pulse>) {
    loop {
        drop(pulse.work());
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
        let mut watchdog =
            Watchdog::new("test", 3 * ROUND).watch("the part", Arc::clone(&pulse), || {});
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
    fn a_part_that_waits_for_one_that_hangs_is_not_to_blame() {
        let (first, second) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let mut watchdog = Watchdog::new("test", 5 * ROUND)
            .watch("the first", Arc::clone(&first), || {})
            .watch_waiting("the second", Arc::clone(&second), || {});
        // The second stops two rounds earlier.
        for _ in 0..2 {
            drop(first.work());
            assert_eq!(watchdog.look(), None);
        }
        for _ in 0..4 {
            assert_eq!(watchdog.look(), None);
        }
        assert_eq!(watchdog.look(), Some("the first"));
        drop(first.work());
        assert_eq!(watchdog.look(), Some("the second"), "the first goes on");
    }

    #[test]
    fn a_part_that_is_run_by_one_that_hangs_is_not_to_blame() {
        let (first, second) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let mut watchdog = Watchdog::new("test", 5 * ROUND)
            .watch("the first", Arc::clone(&first), || {})
            .watch_run("the second", Arc::clone(&second), || {});
        // Both stop, the second one a round earlier.
        drop(first.work());
        for _ in 0..6 {
            let named = watchdog.look();
            assert!(named.is_none_or(|named| named == "the first"), "{named:?}");
        }
        assert_eq!(watchdog.look(), Some("the first"));
        // That the first is at work is no excuse.
        for _ in 0..4 {
            drop(first.work());
            watchdog.look();
        }
        let _work = first.work();
        assert_eq!(watchdog.look(), Some("the second"));
    }

    #[test]
    fn rounds_are_as_short_as_the_service_manager_wants_them() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(round_within(ROUND, seconds(120.0)), ROUND);
        assert_eq!(round_within(ROUND, seconds(1.0)), seconds(0.5));
        assert_eq!(round_within(ROUND, seconds(0.0)), SHORTEST_ROUND);
    }

    #[test]
    fn an_idle_part_that_answers_does_not_hang() {
        let pulse = Arc::new(Pulse::default());
        let mut watchdog =
            Watchdog::new("test", 3 * ROUND).watch("the part", Arc::clone(&pulse), living(&pulse));
        for _ in 0..20 {
            watchdog.ping();
            assert_eq!(watchdog.look(), None);
        }
    }

    #[test]
    fn a_part_that_waits_for_another_does_not_hang_while_that_works() {
        let (first, second) = (Arc::new(Pulse::default()), Arc::new(Pulse::default()));
        let mut watchdog = Watchdog::new("test", 3 * ROUND)
            .watch("the first", Arc::clone(&first), living(&first))
            .watch_waiting("the second", Arc::clone(&second), || {});
        let _waits = second.work();
        let work = first.work();
        for _ in 0..9 {
            watchdog.ping();
            assert_eq!(watchdog.look(), None);
        }
        drop(work);
        let mut look = |times| {
            (0..times).find_map(|_| {
                watchdog.ping();
                watchdog.look()
            })
        };
        assert_eq!(look(2), None);
        assert_eq!(look(1), Some("the second"), "nobody works for it");
    }
}
