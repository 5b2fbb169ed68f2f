//! The description of a service, and what makes one valid.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use lb_common::{
    flow_limits::{self, FlowLimit},
    limits::{MAX_RING_SLOTS, STAMP_TICKS, ticks_from_millis},
    tables::service::{
        HASH_MASK, NAT_KEEPS_SOURCE, RESET_EMPTY, RESET_LIMITED, SOURCE_RULES, Service, TRACK_ALL,
    },
};
use lb_model::{
    flow_limits::{FlowLimits, OverLimit},
    options::{Forward, Hash, NatSource, OnDown, Track},
    ring::{Algorithm, NO_REAL},
    server_id::{QuicLbConfig, ServerId, ServerIdMethod},
    source_rule::SourceRule,
    vip::{Protocol, RealId, VipKey},
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

/// By what packets name their real.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerIds {
    /// Where they do; without a method they name none.
    pub methods: Vec<ServerIdMethod>,
    /// The configurations of the method `quic-lb`, each with its own number.
    pub quic_lb: Vec<QuicLbConfig>,
    /// The ids of reals that have one, each another.
    pub reals: BTreeMap<RealId, ServerId>,
}

impl ServerIds {
    /// The bits of a service's record that say the methods to the data path.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.methods
            .iter()
            .fold(0, |flags, method| flags | method.flag())
    }
}

/// A service as the tables shall have it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// Its name.
    pub vip: VipKey,
    /// How packets reach its reals, those in [`Terms::modes`] excepted.
    pub forward: Forward,
    /// What else is done with its packets.
    pub terms: Terms,
    /// Which flows are tracked.
    pub track: Track,
    /// How long an idle flow keeps its real, and how long a changed slot remembers the previous one.
    pub window: Duration,
    /// Its reals, in any order; those that no slot names (drained, weight 0) keep their flows.
    pub reals: Vec<RealId>,
    /// Those of `reals` that are dead, and what happens to their flows. The ring names none of them.
    pub down: BTreeMap<RealId, OnDown>,
    /// For each slot the position in `reals`, or [`NO_REAL`]. If it is empty, no real takes flows.
    pub ring: Arc<[u16]>,
}

/// What else is done with a service's packets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// How the service's ring was built: flows have Katran's hash for Katran's.
    pub ring: Algorithm,
    /// What of a packet decides which slot its flow has.
    pub hash: Hash,
    /// The forwarding modes of reals that have one of their own.
    pub modes: BTreeMap<RealId, Forward>,
    /// The source of what mode `nat` sends.
    pub source: NatSource,
    /// What happens to packets that no real takes.
    pub when_empty: WhenEmpty,
    /// Limits of the TCP connections that begin.
    pub flow_limits: Option<FlowLimits>,
    /// By what packets name their real.
    pub server_ids: ServerIds,
    /// Rules about their sources, each about another prefix. Shared, because there may be many, and weights change often.
    pub source_rules: Arc<[SourceRule]>,
}

impl Terms {
    /// As a record says it.
    pub(crate) fn record(&self, protocol: Protocol) -> RecordTerms {
        let mut flags = self.hash.flags(self.ring, protocol) | self.server_ids.flags();
        if !self.source_rules.is_empty() {
            flags |= SOURCE_RULES;
        }
        if self.when_empty == WhenEmpty::Reset {
            flags |= RESET_EMPTY;
        }
        if self.source == NatSource::Client {
            flags |= NAT_KEEPS_SOURCE;
        }
        let limits = self.flow_limits.as_ref();
        if limits.is_some_and(|limits| limits.over == OverLimit::Reset) {
            flags |= RESET_LIMITED;
        }
        RecordTerms {
            flags,
            limits: limits.map(limits_record).unwrap_or_default(),
        }
    }
}

/// Flags and limits of a service's record. The flag that says that every flow is tracked is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordTerms {
    /// Bits of [`Service::flags`].
    pub flags: u32,
    /// [`Service::limits`].
    pub limits: flow_limits::FlowLimits,
}

impl RecordTerms {
    /// The bits that say what the hash of a flow is made of.
    #[must_use]
    pub fn hash(&self) -> u32 {
        self.flags & HASH_MASK
    }

    /// The same terms with these bits.
    #[must_use]
    pub fn with_hash(self, hash: u32) -> RecordTerms {
        RecordTerms {
            flags: self.flags & !HASH_MASK | hash,
            ..self
        }
    }

    /// Those of a record.
    pub fn of(record: &Service) -> RecordTerms {
        RecordTerms {
            flags: record.flags & !TRACK_ALL,
            limits: record.limits,
        }
    }
}

/// The limits as a record has them.
fn limits_record(limits: &FlowLimits) -> flow_limits::FlowLimits {
    let burst = u64::try_from(limits.burst.as_nanos()).unwrap_or(u64::MAX);
    let limit = |rate: Option<u32>| {
        rate.map(|rate| FlowLimit::new(rate, burst))
            .unwrap_or_default()
    };
    let mask4 = u32::MAX
        .checked_shl(32 - limits.source_prefix_v4)
        .unwrap_or_default();
    let mask6 = u64::MAX
        .checked_shl(64 - limits.source_prefix_v6)
        .unwrap_or_default();
    flow_limits::FlowLimits {
        source_mask4: mask4.to_be(),
        source_mask6: mask6.to_be(),
        source: limit(limits.source_rate),
        service: limit(limits.rate),
        real: limit(limits.real_rate),
        ..Default::default()
    }
}

impl ServiceSpec {
    /// How packets reach this real.
    #[must_use]
    pub fn mode_of(&self, real: RealId) -> Forward {
        self.terms.modes.get(&real).copied().unwrap_or(self.forward)
    }

    /// Whether packets may be translated: its mode, or that of one of its reals, is `nat`.
    #[must_use]
    pub fn translates(&self) -> bool {
        self.forward == Forward::Nat
            || self
                .reals
                .iter()
                .any(|real| self.mode_of(*real) == Forward::Nat)
    }

    /// What happens to the flows of a dead real; `None` if the real is alive. UDP knows no reset: its flows
    /// are rehashed.
    #[must_use]
    pub fn down_policy(&self, real: RealId) -> Option<OnDown> {
        match self.down.get(&real)? {
            OnDown::Reset if !self.vip.protocol.has_tcp() => Some(OnDown::Rehash),
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
        let most = match self.terms.ring.fixed_slots() {
            Some(slots) if !self.ring.is_empty() && self.ring.len() != slots as usize => {
                return invalid(format!(
                    "its ring has {} slots; one that is {} has {slots}",
                    self.ring.len(),
                    self.terms.ring
                ));
            }
            fixed => fixed.unwrap_or(MAX_RING_SLOTS),
        };
        if self.ring.len() > most as usize {
            return invalid(format!(
                "its ring has {} slots; {most} is the limit",
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
