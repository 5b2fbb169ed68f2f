//! What can be set on a VIP.

use std::time::Duration;

use clap::Args;
use lb_proto::v1;

use crate::{
    names::{Forward, OnDown, Ring, Track},
    values::{check, duration, load_source, shed_by, steering},
};

/// Each is as it was, or has its default, where it is not given.
#[derive(Args, Debug)]
pub struct VipOptions {
    /// How a packet reaches a real [when new: ipip]
    #[arg(long, value_enum)]
    pub forward: Option<Forward>,
    /// How the ring is built [when new: rendezvous]
    #[arg(long, value_enum)]
    pub ring: Option<Ring>,
    /// Which flows are remembered [when new: exceptions]
    #[arg(long, value_enum)]
    pub track: Option<Track>,
    /// How long an idle flow keeps its real through changes, 1s to 30d [when new: 1h for TCP, 2m for
    /// UDP]
    #[arg(long, value_name = "DURATION", value_parser = duration::read)]
    pub window: Option<Duration>,
    /// Slots of the ring, 256 to 65536 [when new: grows with the number of reals]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// What the reals are asked to learn whether they live: a kind and its settings, as in
    /// 'http path=/healthz interval=2s', or none [when new: none]
    #[arg(long, value_name = "WORDS", value_parser = or_none(check::read))]
    pub check: Option<OrNone<v1::Check>>,
    /// What becomes of the flows of a real that died [when new: rehash]
    #[arg(long, value_enum)]
    pub on_down: Option<OnDown>,
    /// When all reals are dead: drop, reset (TCP), or the VIP whose reals stand in [when new: drop]
    #[arg(long, value_name = "drop|reset|VIP")]
    pub when_empty: Option<String>,
    /// Where the reals' load is read, as in 'mosquitto port=1883', or none; give it again for more
    /// [when new: none]
    #[arg(long, value_name = "WORDS", value_parser = or_none(load_source::read))]
    pub load: Vec<OrNone<v1::LoadSource>>,
    /// How health and load become weights, as in 'capacity period=5s', or none
    /// [when new: capacity, as the manual says]
    #[arg(long, value_name = "WORDS", value_parser = or_none(steering::read))]
    pub steering: Option<OrNone<v1::Steering>>,
    /// Who ends connections that are to be shed: reset, or whom to ask, as in 'webhook port=8080' or
    /// 'emqx username=key password=file:/etc/lb/key' [when new: reset]
    #[arg(long, value_name = "WORDS", value_parser = shed_by::read)]
    pub shed: Option<v1::ShedBy>,
}

/// A value, or the word that takes it away.
#[derive(Clone, Debug)]
pub enum OrNone<T> {
    /// A value.
    Some(T),
    /// `none`.
    None,
}

impl<T: Clone> OrNone<T> {
    /// The value, if there is one.
    pub fn value(&self) -> Option<T> {
        match self {
            OrNone::Some(value) => Some(value.clone()),
            OrNone::None => None,
        }
    }
}

/// Reads a value with this function, or `none`.
pub fn or_none<T>(
    read: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<OrNone<T>, String> + Clone {
    move |text| match text {
        "none" => Ok(OrNone::None),
        _ => read(text).map(OrNone::Some),
    }
}

impl VipOptions {
    /// For the wire.
    pub fn spec(&self) -> v1::VipSpec {
        v1::VipSpec {
            forward: self.forward.map(|value| v1::Forward::from(value).into()),
            ring: self.ring.map(|value| v1::RingAlgorithm::from(value).into()),
            track: self.track.map(|value| v1::Track::from(value).into()),
            window: self.window.map(duration::to_proto),
            slots: self.slots,
            check: self.check.as_ref().and_then(OrNone::value),
            on_down: self.on_down.map(|value| v1::OnDown::from(value).into()),
            when_empty: self.when_empty.clone(),
            load: self.load.iter().filter_map(OrNone::value).collect(),
            steering: self.steering.as_ref().and_then(OrNone::value),
            shed: self.shed.clone(),
        }
    }

    /// The fields that are given, by their names in `VipSpec`.
    pub fn mask(&self) -> prost_types::FieldMask {
        let given = [
            ("forward", self.forward.is_some()),
            ("ring", self.ring.is_some()),
            ("track", self.track.is_some()),
            ("window", self.window.is_some()),
            ("slots", self.slots.is_some()),
            ("check", self.check.is_some()),
            ("on_down", self.on_down.is_some()),
            ("when_empty", self.when_empty.is_some()),
            ("load", !self.load.is_empty()),
            ("steering", self.steering.is_some()),
            ("shed", self.shed.is_some()),
        ];
        prost_types::FieldMask {
            paths: given
                .iter()
                .filter(|(_, given)| *given)
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        }
    }
}
