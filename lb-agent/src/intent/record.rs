//! What is stored of a VIP. A field that came later has a default, so that older records are read.

use std::{net::IpAddr, time::Duration};

use lb_model::vip::VipAddress;
use serde::{Deserialize, Serialize};

use super::{
    model::{RealSpec, Vip, VipSpec},
    when_empty::WhenEmpty,
};
use lb_clients::health::spec::{Check, CheckOverride};
use lb_clients::shedding::ShedBy;
use lb_model::load::{LoadSource, SourceOverride};
use lb_model::options::{Forward, OnDown, Track};
use lb_model::ring::Algorithm;
use lb_steering::spec::Steering;

/// A VIP with its reals.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VipRecord {
    forward: Forward,
    ring: Algorithm,
    track: Track,
    window_ms: u64,
    slots: Option<u32>,
    #[serde(default)]
    check: Option<Check>,
    #[serde(default)]
    on_down: OnDown,
    #[serde(default)]
    when_empty: WhenEmpty,
    #[serde(default)]
    load: Vec<LoadSource>,
    #[serde(default)]
    steering: Option<Steering>,
    #[serde(default)]
    shed: ShedBy,
    reals: Vec<RealRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RealRecord {
    address: IpAddr,
    weight: u32,
    drained: bool,
    #[serde(default)]
    check: CheckOverride,
    #[serde(default)]
    load: Vec<SourceOverride>,
}

impl From<&Vip> for VipRecord {
    fn from(vip: &Vip) -> Self {
        VipRecord {
            forward: vip.spec.forward,
            ring: vip.spec.ring,
            track: vip.spec.track,
            window_ms: u64::try_from(vip.spec.window.as_millis()).unwrap_or(u64::MAX),
            slots: vip.spec.slots,
            check: vip.spec.check.clone(),
            on_down: vip.spec.on_down,
            when_empty: vip.spec.when_empty,
            load: vip.spec.load.clone(),
            steering: vip.spec.steering.clone(),
            shed: vip.spec.shed.clone(),
            reals: vip
                .reals
                .iter()
                .map(|(address, real)| RealRecord {
                    address: *address,
                    weight: real.weight,
                    drained: real.drained,
                    check: real.check.clone(),
                    load: real.load.clone(),
                })
                .collect(),
        }
    }
}

impl VipRecord {
    /// The VIP with this name.
    pub(super) fn into_vip(self, address: VipAddress) -> Vip {
        Vip {
            address,
            spec: VipSpec {
                forward: self.forward,
                ring: self.ring,
                track: self.track,
                window: Duration::from_millis(self.window_ms),
                slots: self.slots,
                check: self.check,
                on_down: self.on_down,
                when_empty: self.when_empty,
                load: self.load,
                steering: self.steering,
                shed: self.shed,
            },
            reals: self
                .reals
                .into_iter()
                .map(|real| {
                    (
                        real.address,
                        RealSpec {
                            weight: real.weight,
                            drained: real.drained,
                            check: real.check,
                            load: real.load,
                        },
                    )
                })
                .collect(),
        }
    }
}
