//! What goes wrong in the proxy itself, or on its host: it says nothing about an instance, and must not stay unsaid.
//!
//! Each kind is counted for the metrics, logged when it begins and then now and then, and a warning of the administration's
//! pages until it has not been met for a minute.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use lb_clients::peer::PeerError;
use lb_model::duration;
use nix::errno::Errno;

use crate::{clock, proxy::Shared};

/// Trouble of a kind is over once it was not met for so long.
const CALM: Duration = Duration::from_secs(60);
/// How often trouble that lasts is logged.
const LOGGED: Duration = Duration::from_secs(10);

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection of a client could not be accepted.
    Accept,
    /// There is no file descriptor for a connection to an instance.
    Files,
    /// There is no local port for it.
    Ports,
    /// The system has no memory for it.
    Memory,
    /// The host's network or firewall does not let it out.
    Network,
    /// The files of TLS with instances cannot be used.
    TlsFiles,
    /// This process was stopped or got no CPU, so that an instance could not answer in time.
    Late,
    /// A health check could not be made.
    Checks,
    /// A request, or a task of no vital part, panicked.
    Panic,
}

impl Kind {
    /// All kinds, in the order of their counters.
    pub const ALL: [Kind; 9] = [
        Kind::Accept,
        Kind::Files,
        Kind::Ports,
        Kind::Memory,
        Kind::Network,
        Kind::TlsFiles,
        Kind::Late,
        Kind::Checks,
        Kind::Panic,
    ];

    /// Returns the value of the label `reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Accept => "accept",
            Kind::Files => "files",
            Kind::Ports => "ports",
            Kind::Memory => "memory",
            Kind::Network => "network",
            Kind::TlsFiles => "tls_files",
            Kind::Late => "late",
            Kind::Checks => "checks",
            Kind::Panic => "panic",
        }
    }

    /// What it means for clients and instances.
    const fn meaning(self) -> &'static str {
        match self {
            Kind::Accept => "clients wait to be accepted",
            Kind::Files | Kind::Ports | Kind::Memory | Kind::Network => {
                "requests were not sent, which says nothing about their instances"
            }
            Kind::TlsFiles => {
                "the files that were read before are used; without these, requests are not sent"
            }
            Kind::Late => "this process was stopped or lacks CPU; instances are not blamed",
            Kind::Checks => "instances stay as they were found before",
            Kind::Panic => "a fault of this program; what it worked for was ended",
        }
    }

    /// The kind of an error of connecting, if it is about this host and not about the peer.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        if !PeerError::io("connecting", error).is_local() {
            return None;
        }
        let is = |errno: Errno| error.raw_os_error() == Some(errno as i32);
        Some(match error {
            _ if is(Errno::EMFILE) || is(Errno::ENFILE) => Kind::Files,
            _ if is(Errno::EADDRNOTAVAIL) || is(Errno::EADDRINUSE) || is(Errno::EAGAIN) => {
                Kind::Ports
            }
            _ if is(Errno::ENOBUFS) || is(Errno::ENOMEM) => Kind::Memory,
            _ => Kind::Network,
        })
    }
}

/// The trouble that a proxy has met.
#[derive(Debug, Default)]
pub struct Troubles {
    counts: [AtomicU64; Kind::ALL.len()],
    episodes: Mutex<[Option<Episode>; Kind::ALL.len()]>,
}

#[derive(Debug)]
struct Episode {
    since: Duration,
    last: Duration,
    logged: Duration,
    times: u64,
    reason: String,
}

impl Troubles {
    /// Counts trouble, and says it unless the same was said a moment ago.
    pub fn observe(&self, kind: Kind, reason: impl fmt::Display) {
        if let Some(text) = self.observe_at(clock::now(), kind, reason) {
            tracing::warn!("{text}");
        }
    }

    /// Returns what is to be logged.
    fn observe_at(&self, now: Duration, kind: Kind, reason: impl fmt::Display) -> Option<String> {
        self.counts[kind as usize].fetch_add(1, Relaxed);
        let mut episodes = self.episodes.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut episodes[kind as usize];
        if slot.as_ref().is_none_or(|episode| episode.is_over(now)) {
            *slot = None;
        }
        let is_new = slot.is_none();
        let episode = slot.get_or_insert_with(|| Episode {
            since: now,
            last: now,
            logged: now,
            times: 0,
            reason: String::new(),
        });
        episode.last = now;
        episode.times += 1;
        if !is_new && now.saturating_sub(episode.logged) < LOGGED {
            return None;
        }
        episode.logged = now;
        episode.reason = reason.to_string();
        Some(episode.text(kind, now))
    }

    /// Returns how often trouble of a kind was met.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].load(Relaxed)
    }

    /// Returns what is to be said of the trouble there is.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_at(clock::now())
    }

    fn warnings_at(&self, now: Duration) -> Vec<String> {
        let episodes = self.episodes.lock().unwrap_or_else(PoisonError::into_inner);
        let present = Kind::ALL.iter().zip(episodes.iter());
        present
            .filter_map(|(kind, episode)| {
                let episode = episode.as_ref().filter(|episode| !episode.is_over(now))?;
                Some(episode.text(*kind, now))
            })
            .collect()
    }
}

impl Episode {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.last) >= CALM
    }

    fn text(&self, kind: Kind, now: Duration) -> String {
        let since = now.saturating_sub(self.since).as_secs() + 1;
        let times = match self.times {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        format!(
            "{times} in the last {}: {}; {}",
            duration::format(Duration::from_secs(since)),
            self.reason,
            kind.meaning()
        )
    }
}

/// From now on each panic of the process counts as trouble of this proxy, and is logged as before.
pub fn count_panics(shared: &Arc<Shared>) {
    let before = std::panic::take_hook();
    // A proxy that is gone counts nothing.
    let shared = Arc::downgrade(shared);
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if let Some(shared) = shared.upgrade() {
            let text = panic.payload_as_str().unwrap_or("(no message)");
            let place = panic.location().map(ToString::to_string);
            let place = place.as_deref().unwrap_or("an unknown place");
            let what = format_args!("panic at {place}: {text}");
            shared.troubles.observe(Kind::Panic, what);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_this_host_have_a_kind_and_those_of_instances_none() {
        for (errno, kind) in [
            (Errno::EMFILE, Some(Kind::Files)),
            (Errno::ENFILE, Some(Kind::Files)),
            (Errno::EADDRNOTAVAIL, Some(Kind::Ports)),
            (Errno::ENOBUFS, Some(Kind::Memory)),
            (Errno::ENOMEM, Some(Kind::Memory)),
            (Errno::EPERM, Some(Kind::Network)),
            (Errno::ENETDOWN, Some(Kind::Network)),
            (Errno::ECONNREFUSED, None),
            (Errno::ETIMEDOUT, None),
            (Errno::EHOSTUNREACH, None),
            (Errno::ECONNRESET, None),
        ] {
            let error = io::Error::from_raw_os_error(errno as i32);
            assert_eq!(Kind::of(&error), kind, "{errno}");
        }
    }

    #[test]
    fn trouble_is_said_when_it_begins_and_now_and_then_until_it_is_over() {
        let seconds = Duration::from_secs;
        let troubles = Troubles::default();
        let said = troubles.observe_at(seconds(100), Kind::Files, "no files");
        assert_eq!(
            said.unwrap(),
            "once in the last 1s: no files; requests were not sent, which says nothing about their instances"
        );
        for moment in 100..110 {
            assert_eq!(
                troubles.observe_at(seconds(moment), Kind::Files, "no files"),
                None
            );
        }
        let said = troubles.observe_at(seconds(110), Kind::Files, "none");
        assert!(said.unwrap().starts_with("12 times in the last 11s: none"));
        assert_eq!(troubles.warnings_at(seconds(169)).len(), 1);
        assert_eq!(troubles.warnings_at(seconds(170)), [""; 0]);
        // Another kind has an episode of its own.
        assert!(
            troubles
                .observe_at(seconds(170), Kind::Panic, "x")
                .is_some()
        );
        let said = troubles.observe_at(seconds(171), Kind::Files, "again");
        assert!(said.unwrap().starts_with("once in the last 1s: again"));
        assert_eq!(troubles.warnings_at(seconds(171)).len(), 2);
        assert_eq!(troubles.count(Kind::Files), 13);
    }
}
