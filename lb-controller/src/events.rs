//! Events of all pools, with revisions: a watcher that was away asks for those since the last one that it has.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use lb_model::pool::PoolName;
use tokio::sync::watch;

use crate::{pool::Event, troubles};

/// Events that are kept.
const KEPT: usize = 4_096;

/// An event, with its place in the order of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Dated {
    /// Its number, from 1.
    pub revision: u64,
    /// When.
    pub time: SystemTime,
    /// The pool; `None` if it is about the controller.
    pub pool: Option<PoolName>,
    /// What happened.
    pub event: Event,
}

/// The newest events.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<VecDeque<Arc<Dated>>>,
    /// How many there were since the process started, by pool and kind.
    counts: Mutex<Counts>,
    revision: watch::Sender<u64>,
}

/// How many events there were, by pool and kind.
type Counts = BTreeMap<(Option<PoolName>, &'static str), u64>;

/// The events since then are not all known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten;

impl Default for Events {
    fn default() -> Self {
        Events(Arc::new(Inner {
            kept: Mutex::default(),
            counts: Mutex::default(),
            revision: watch::Sender::new(0),
        }))
    }
}

impl Events {
    /// Adds an event of a pool, or of the controller, and logs it.
    pub fn add(&self, pool: Option<&PoolName>, event: Event) {
        let about = match (&event.instance, pool) {
            (Some(instance), _) => instance.to_string(),
            (None, Some(pool)) => pool.to_string(),
            (None, None) => "controller".to_owned(),
        };
        if event.is_alarm {
            tracing::error!("{about}: {}: {}", event.kind, event.text);
        } else if event.kind == troubles::BEGINS {
            tracing::warn!("{about}: {}: {}", event.kind, event.text);
        } else {
            tracing::info!("{about}: {}: {}", event.kind, event.text);
        }
        *self
            .counts_mut()
            .entry((pool.cloned(), event.kind))
            .or_default() += 1;
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = *self.0.revision.borrow() + 1;
        kept.push_back(Arc::new(Dated {
            revision,
            time: SystemTime::now(),
            pool: pool.cloned(),
            event,
        }));
        while kept.len() > KEPT {
            kept.pop_front();
        }
        self.0.revision.send_replace(revision);
    }

    fn counts_mut(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there were since the process started, by pool and kind.
    #[must_use]
    pub fn counts(&self) -> Vec<((Option<PoolName>, &'static str), u64)> {
        let counts = self.counts_mut();
        let copied = counts.iter().map(|(key, count)| (key.clone(), *count));
        copied.collect()
    }

    /// Forgets the counts of a pool that is gone.
    pub fn forget(&self, pool: &PoolName) {
        self.counts_mut()
            .retain(|(name, _), _| name.as_ref() != Some(pool));
    }

    /// The number of the last one, and each newer one.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.0.revision.subscribe()
    }

    /// The newest ones of a pool, the oldest of them first.
    #[must_use]
    pub fn newest(&self, pool: &PoolName, most: usize) -> Vec<Arc<Dated>> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pool = kept
            .iter()
            .rev()
            .filter(|event| event.pool.as_ref() == Some(pool));
        let mut newest: Vec<_> = of_pool.take(most).cloned().collect();
        newest.reverse();
        newest
    }

    /// Those after this one, the oldest first.
    ///
    /// # Errors
    /// Some of them are no longer known, or the revision is one of another process.
    pub fn since(&self, revision: u64) -> Result<Vec<Arc<Dated>>, Forgotten> {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = *self.0.revision.borrow();
        let first = kept.front().map_or(last + 1, |event| event.revision);
        if revision > last || revision + 1 < first {
            return Err(Forgotten);
        }
        Ok(kept
            .iter()
            .filter(|event| event.revision > revision)
            .cloned()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_known_since_a_revision() {
        let events = Events::default();
        let pool: PoolName = "web".parse().unwrap();
        let seen = events.revision();
        for number in 0..KEPT + 10 {
            events.add(
                Some(&pool),
                Event {
                    instance: None,
                    kind: "scaled",
                    text: number.to_string(),
                    is_alarm: false,
                },
            );
        }
        let last = (KEPT + 10) as u64;
        assert_eq!(*seen.borrow(), last);
        assert_eq!(events.since(last), Ok(Vec::new()));
        assert_eq!(events.since(last - 1).unwrap()[0].revision, last);
        assert_eq!(events.since(10).unwrap().len(), KEPT);
        assert_eq!(events.since(9), Err(Forgotten));
        assert_eq!(events.since(last + 1), Err(Forgotten));
    }
}
