//! The trouble of this host with its probes: what cannot be asked is no evidence about a real, and is said.

use std::time::{Duration, Instant};

use lb_clients::health::{Outcome, Verdict};
use lb_model::duration;

/// The trouble is over once no probe met it for so long: it may concern one probe in a hundred.
const CALM: Duration = Duration::from_secs(60);

/// Trouble that probes have met.
#[derive(Debug, Default)]
pub(super) struct OwnTrouble(Option<Episode>);

#[derive(Debug)]
struct Episode {
    since: Instant,
    last: Instant,
    probes: u64,
    reason: String,
}

impl OwnTrouble {
    /// Notes an outcome. Returns the reason if trouble begins with it.
    pub(super) fn observe(&mut self, outcome: &Outcome, now: Instant) -> Option<String> {
        if outcome.verdict != Verdict::Inconclusive {
            return None;
        }
        let begins = !self.is_present(now);
        if begins {
            self.0 = Some(Episode {
                since: now,
                last: now,
                probes: 0,
                reason: String::new(),
            });
        }
        let episode = self.0.as_mut()?;
        episode.last = now;
        episode.probes += 1;
        episode.reason.clone_from(&outcome.reason);
        begins.then(|| outcome.reason.clone())
    }

    fn is_present(&self, now: Instant) -> bool {
        self.0
            .as_ref()
            .is_some_and(|episode| now.saturating_duration_since(episode.last) < CALM)
    }

    /// What is to be said of the trouble there is; `undecided` reals had no conclusive probe last.
    pub(super) fn warning(&self, undecided: u64, now: Instant) -> Option<String> {
        let episode = self.0.as_ref().filter(|_| self.is_present(now))?;
        let since = now.saturating_duration_since(episode.since).as_secs();
        Some(format!(
            "{} probes in the last {} say nothing about their reals, whose states are kept ({undecided} at present): {}",
            episode.probes,
            duration::format(Duration::from_secs(since + 1)),
            episode.reason
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict, reason: &str) -> Outcome {
        Outcome::new(verdict, reason, Duration::ZERO)
    }

    #[test]
    fn an_episode_begins_once_and_ends_when_it_is_calm() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trouble = OwnTrouble::default();
        let files = outcome(Verdict::Inconclusive, "too many open files");
        let dead = outcome(Verdict::Unhealthy, "connection refused");
        assert_eq!(trouble.observe(&dead, at(0)), None);
        assert_eq!(trouble.warning(0, at(0)), None);
        assert_eq!(
            trouble.observe(&files, at(1)).as_deref(),
            Some("too many open files")
        );
        assert_eq!(trouble.observe(&files, at(2)), None);
        assert_eq!(trouble.observe(&dead, at(3)), None);
        let warning = trouble.warning(1, at(4)).unwrap();
        assert!(
            warning.starts_with("2 probes in the last 4s say nothing"),
            "{warning}"
        );
        assert!(warning.ends_with(": too many open files"), "{warning}");
        assert_eq!(trouble.warning(0, at(62)), None);
        assert!(trouble.observe(&files, at(100)).is_some());
    }
}
