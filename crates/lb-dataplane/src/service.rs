//! The description of a service, and what makes one valid.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use lb_common::limits::{MAX_RING_SLOTS, STAMP_TICKS, ticks_from_millis};
use lb_model::{
    options::{Forward, OnDown, Track},
    ring::NO_REAL,
    vip::{Protocol, VipKey},
};

use crate::error::{DataplaneError, system};

/// What happens to packets for a service that has no real for them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// They are dropped: clients retry until they give up.
    #[default]
    Drop,
    /// TCP is answered with a reset: clients know at once. UDP is dropped.
    Reset,
}

/// A service as the tables shall have it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// Its name.
    pub vip: VipKey,
    /// How packets reach its reals.
    pub forward: Forward,
    /// Which flows are tracked.
    pub track: Track,
    /// How long an idle flow keeps its real, and how long a changed slot remembers the previous one.
    pub window: Duration,
    /// Its reals, in any order; those that no slot names (drained, weight 0) keep their flows.
    pub reals: Vec<IpAddr>,
    /// Those of `reals` that are dead, and what happens to their flows. The ring names none of them.
    pub down: BTreeMap<IpAddr, OnDown>,
    /// For each slot the position in `reals`, or [`NO_REAL`]. If it is empty, no real takes flows.
    pub ring: Arc<[u16]>,
    /// What happens to packets that no real takes.
    pub when_empty: WhenEmpty,
}

impl ServiceSpec {
    /// What happens to the flows of a dead real; `None` if the real is alive. UDP knows no reset: its flows
    /// are rehashed.
    #[must_use]
    pub fn down_policy(&self, real: IpAddr) -> Option<OnDown> {
        match self.down.get(&real)? {
            OnDown::Reset if self.vip.protocol != Protocol::Tcp => Some(OnDown::Rehash),
            policy => Some(*policy),
        }
    }

    /// [`ServiceSpec::window`] in ticks. The stamp of a running flow is up to [`STAMP_TICKS`] older than its
    /// last packet, so the window in the tables is longer by as much.
    #[must_use]
    pub fn window_ticks(&self) -> u32 {
        let millis = u64::try_from(self.window.as_millis())
            .unwrap_or(u64::MAX)
            .min(1 << 40);
        ticks_from_millis(millis)
            .saturating_add(STAMP_TICKS)
            .min(u32::MAX / 2)
    }

    /// Checks that the parts agree with each other.
    ///
    /// # Errors
    /// [`DataplaneError::System`]: the caller is wrong.
    pub fn validate(&self) -> Result<(), DataplaneError> {
        let invalid =
            |reason: String| Err(system(format!("setting the service {}", self.vip))(reason));
        let mut seen = HashSet::new();
        if let Some(twice) = self.reals.iter().find(|address| !seen.insert(**address)) {
            return invalid(format!("the real {twice} is listed twice"));
        }
        if self.ring.len() > MAX_RING_SLOTS as usize {
            return invalid(format!(
                "its ring has {} slots; {MAX_RING_SLOTS} is the limit",
                self.ring.len()
            ));
        }
        let reals = || self.ring.iter().filter(|&&position| position != NO_REAL);
        if let Some(position) = reals().find(|&&position| usize::from(position) >= self.reals.len())
        {
            return invalid(format!(
                "its ring names real {position}, and it has {} reals",
                self.reals.len()
            ));
        }
        if let Some(stranger) = self
            .down
            .keys()
            .find(|address| !self.reals.contains(address))
        {
            return invalid(format!(
                "{stranger} is listed as down and is not one of its reals"
            ));
        }
        let dead: Vec<bool> = self
            .reals
            .iter()
            .map(|address| self.down.contains_key(address))
            .collect();
        if let Some(position) = reals().find(|&&position| dead[usize::from(position)]) {
            return invalid(format!("its ring names real {position}, which is down"));
        }
        Ok(())
    }
}
