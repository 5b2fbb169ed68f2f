//! The record of what is wanted.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use lb_model::vip::{Protocol, VipAddress};

use super::when_empty::WhenEmpty;
use lb_clients::health::spec::{Check, CheckOverride};
use lb_clients::shedding::ShedBy;
use lb_model::load::{LoadSource, SourceOverride};
use lb_model::options::{Forward, OnDown, Track};
use lb_model::ring::Algorithm;
use lb_steering::ring::{self};
use lb_steering::spec::Steering;

/// Weight of a real that names none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// Window of a TCP VIP that names none: MQTT clients are silent for long.
pub const DEFAULT_TCP_WINDOW: Duration = Duration::from_secs(3_600);
/// Window of a UDP VIP that names none.
pub const DEFAULT_UDP_WINDOW: Duration = Duration::from_secs(120);
/// Shortest window.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Longest window.
pub const MAX_WINDOW: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What is wanted of a VIP.
#[derive(Clone, Debug, PartialEq)]
pub struct VipSpec {
    /// How packets reach its reals.
    pub forward: Forward,
    /// How its ring is built.
    pub ring: Algorithm,
    /// Which flows are tracked.
    pub track: Track,
    /// How long an idle flow keeps its real, [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub window: Duration,
    /// Slots of the ring; none: grows with the number of reals.
    pub slots: Option<u32>,
    /// What its reals are asked to learn whether they are alive; none: they are taken for alive.
    pub check: Option<Check>,
    /// What becomes of the flows of a real that died.
    pub on_down: OnDown,
    /// What becomes of packets when all reals are dead.
    pub when_empty: WhenEmpty,
    /// Where the load of its reals is read.
    pub load: Vec<LoadSource>,
    /// How health and load become weights; none: by default.
    pub steering: Option<Steering>,
    /// Who ends connections that are to be shed.
    pub shed: ShedBy,
}

impl VipSpec {
    /// What a VIP of this protocol is when nothing is said.
    #[must_use]
    pub fn default_for(protocol: Protocol) -> Self {
        VipSpec {
            forward: Forward::Ipip,
            ring: Algorithm::Rendezvous,
            track: Track::Exceptions,
            window: default_window(protocol),
            slots: None,
            check: None,
            on_down: OnDown::default(),
            when_empty: WhenEmpty::default(),
            load: Vec::new(),
            steering: None,
            shed: ShedBy::Reset,
        }
    }

    /// Whether anybody looks after its reals.
    #[must_use]
    pub fn supervised(&self) -> bool {
        self.check.is_some() || !self.load.is_empty() || self.steering.is_some()
    }
}

/// Window of a VIP that names none.
#[must_use]
pub const fn default_window(protocol: Protocol) -> Duration {
    match protocol {
        Protocol::Tcp => DEFAULT_TCP_WINDOW,
        Protocol::Udp => DEFAULT_UDP_WINDOW,
    }
}

/// What is wanted of a real.
#[derive(Clone, Debug, PartialEq)]
pub struct RealSpec {
    /// Share of new flows relative to the other reals, 0 to `MAX_WEIGHT`.
    pub weight: u32,
    /// Takes no new flows whatever its weight.
    pub drained: bool,
    /// What is different in its check.
    pub check: CheckOverride,
    /// What is different where its load is read.
    pub load: Vec<SourceOverride>,
}

impl Default for RealSpec {
    fn default() -> Self {
        RealSpec {
            weight: DEFAULT_WEIGHT,
            drained: false,
            check: CheckOverride::default(),
            load: Vec::new(),
        }
    }
}

/// A VIP with its reals.
#[derive(Clone, Debug, PartialEq)]
pub struct Vip {
    /// Its name.
    pub address: VipAddress,
    /// What is wanted of it.
    pub spec: VipSpec,
    /// Its reals. Sorted, so that the ring does not depend on the order of orders.
    pub reals: BTreeMap<IpAddr, RealSpec>,
}

impl Vip {
    /// Slots of its ring, the default filled in.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.spec
            .slots
            .unwrap_or_else(|| ring::default_slots(self.reals.len()))
    }

    /// Whether a real with this address can be reached in its forwarding mode.
    #[must_use]
    pub fn suits(&self, real: IpAddr) -> bool {
        self.spec.forward != Forward::L2 || real.is_ipv4() == self.address.address.is_ipv4()
    }
}

/// Everything that is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    vips: BTreeMap<VipAddress, Arc<Vip>>,
    reals: usize,
    slots: u64,
}

impl Intent {
    /// The VIP with this name.
    #[must_use]
    pub fn get(&self, vip: &VipAddress) -> Option<&Arc<Vip>> {
        self.vips.get(vip)
    }

    /// All VIPs, by name.
    pub fn vips(&self) -> impl Iterator<Item = &Arc<Vip>> {
        self.vips.values()
    }

    /// Number of VIPs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vips.len()
    }

    /// Whether there is no VIP.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vips.is_empty()
    }

    /// Number of reals, counted per VIP.
    #[must_use]
    pub const fn reals(&self) -> usize {
        self.reals
    }

    /// Slots of all rings together.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.slots
    }

    /// Puts a VIP in the place of the one with its name, or takes the one with this name away; gives back
    /// what was there.
    pub fn replace(&mut self, name: VipAddress, vip: Option<Arc<Vip>>) -> Option<Arc<Vip>> {
        if let Some(new) = &vip {
            self.reals += new.reals.len();
            self.slots += u64::from(new.slots());
        }
        let old = match vip {
            Some(new) => self.vips.insert(name, new),
            None => self.vips.remove(&name),
        };
        if let Some(old) = &old {
            self.reals -= old.reals.len();
            self.slots -= u64::from(old.slots());
        }
        old
    }
}

impl FromIterator<Vip> for Intent {
    fn from_iter<I: IntoIterator<Item = Vip>>(vips: I) -> Self {
        let mut intent = Intent::default();
        for vip in vips {
            intent.replace(vip.address, Some(Arc::new(vip)));
        }
        intent
    }
}
