//! One sign of life of all pools' tasks, for the watchdog, which knows its parts before there are pools.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use lb_model::pool::PoolName;
use lb_serve::watchdog::Pulse;

/// Makes progress whenever each pool's task has made some.
#[derive(Debug)]
pub struct Pulses {
    all: Arc<Pulse>,
    /// After so many looks without progress a pool is named.
    patience: u32,
    waiting: Mutex<Waiting>,
}

/// The tasks that have made no progress since all of them had, with their pulses then, and how many looks ago that was.
#[derive(Debug, Default)]
struct Waiting {
    pools: HashMap<PoolName, u64>,
    looks: u32,
}

impl Pulses {
    /// No pool yet.
    #[must_use]
    pub fn new(patience: u32) -> Self {
        Pulses {
            all: Arc::default(),
            patience,
            waiting: Mutex::default(),
        }
    }

    /// The pulse of all.
    #[must_use]
    pub fn all(&self) -> Arc<Pulse> {
        Arc::clone(&self.all)
    }

    /// Compares the pulses of these pools, which are all there are. Returns those that have long made no progress, once.
    pub fn look(&self, pools: &[(PoolName, Arc<Pulse>)]) -> Vec<PoolName> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.looks += 1;
        waiting.pools.retain(|name, before| {
            let now = pools.iter().find(|(one, _)| one == name);
            now.is_some_and(|(_, pulse)| pulse.value() == *before)
        });
        if waiting.pools.is_empty() {
            self.all.progress();
            waiting.looks = 0;
            waiting.pools = pools
                .iter()
                .map(|(name, pulse)| (name.clone(), pulse.value()))
                .collect();
        } else if waiting.looks == self.patience {
            return waiting.pools.keys().cloned().collect();
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_hangs_is_named_and_holds_up_the_pulse_of_all() {
        let pulses = Pulses::new(3);
        let all = pulses.all();
        let pool = |name: &str| (name.parse::<PoolName>().unwrap(), Arc::<Pulse>::default());
        let (web, shop) = (pool("web"), pool("shop"));
        let both = [web.clone(), shop.clone()];
        let mut last = all.value();
        let mut progressed = || {
            let before = std::mem::replace(&mut last, all.value());
            last != before
        };
        for _ in 0..4 {
            assert!(pulses.look(&both).is_empty());
            assert!(progressed());
            web.1.progress();
            drop(shop.1.work());
        }
        assert!(pulses.look(&both).is_empty() && progressed());
        for look in 1..8 {
            web.1.progress();
            let named = pulses.look(&both);
            let expected = if look == 3 {
                vec![shop.0.clone()]
            } else {
                Vec::new()
            };
            assert_eq!(named, expected, "{look}");
            assert!(!progressed());
        }
        // It is gone.
        pulses.look(&both[..1]);
        assert!(progressed());
        // Without pools nothing hangs.
        for _ in 0..2 {
            pulses.look(&[]);
            assert!(progressed());
        }
    }
}
