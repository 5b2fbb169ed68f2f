//! What is known of the source of a service's instances.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lb_model::duration;

use crate::clock;

/// Whether a source is followed.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when it is not followed, and why.
    lost: Option<(Duration, String)>,
    /// What of it cannot be read.
    partly: Option<String>,
    /// Whether it was ever read.
    was_followed: bool,
}

/// What a source is like at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Since when it is not followed, and why.
    pub lost: Option<(Duration, String)>,
    /// What of it cannot be read.
    pub partly: Option<String>,
}

impl Status {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was read. `partly` is what of it cannot be read. Returns whether that is news.
    pub fn followed(&self, partly: Option<String>) -> bool {
        let mut state = self.state();
        let is_news = state.lost.take().is_some() || state.partly != partly;
        state.partly = partly;
        state.was_followed = true;
        is_news
    }

    /// It cannot be read, or it is gone. Returns whether that is news.
    pub fn lost(&self, why: &str) -> bool {
        self.lost_at(clock::now(), why)
    }

    fn lost_at(&self, now: Duration, why: &str) -> bool {
        let mut state = self.state();
        let is_news = state.lost.as_ref().is_none_or(|(_, known)| known != why);
        let since = state.lost.as_ref().map_or(now, |(since, _)| *since);
        state.lost = Some((since, why.to_owned()));
        is_news
    }

    /// There is another source, or none.
    pub fn forget(&self) {
        *self.state() = State::default();
    }

    /// Returns whether it was ever read.
    #[must_use]
    pub fn was_followed(&self) -> bool {
        self.state().was_followed
    }

    /// Returns what it is like.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let state = self.state();
        let now = clock::now();
        let lost = state.lost.as_ref();
        Seen {
            lost: lost.map(|(since, why)| (now.saturating_sub(*since), why.clone())),
            partly: state.partly.clone(),
        }
    }
}

impl Seen {
    /// Returns what is to be said of the source of a service, if anything is.
    #[must_use]
    pub fn warning(&self, service: &str) -> Option<String> {
        match (&self.lost, &self.partly) {
            (Some((time, why)), _) => Some(format!(
                "service {service}: the source of its instances is not followed since {}: {why}; they stay as they were",
                duration::format(Duration::from_secs(time.as_secs()))
            )),
            (None, Some(what)) => Some(format!(
                "service {service}: the source of its instances is followed in part: {what}"
            )),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_gone_is_said_with_its_age_until_it_is_back() {
        let status = Status::default();
        assert_eq!(status.seen(), Seen::default());
        assert!(status.lost_at(Duration::ZERO, "refused"));
        assert!(!status.lost_at(Duration::from_secs(5), "refused"));
        assert!(status.lost_at(Duration::from_secs(6), "silent"));
        let lost = Seen {
            lost: Some((Duration::from_millis(7_300), "silent".to_owned())),
            partly: None,
        };
        assert_eq!(
            lost.warning("web").unwrap(),
            "service web: the source of its instances is not followed since 7s: silent; they stay as they were"
        );
        assert!(status.seen().warning("web").unwrap().contains("silent"));
        assert!(status.followed(Some("x".to_owned())));
        assert!(!status.followed(Some("x".to_owned())));
        assert!(
            status
                .seen()
                .warning("web")
                .unwrap()
                .ends_with("in part: x")
        );
        assert!(status.followed(None));
        assert_eq!(status.seen().warning("web"), None);
    }
}
