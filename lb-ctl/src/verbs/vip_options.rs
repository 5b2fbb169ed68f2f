//! What can be set on a VIP.

use std::time::Duration;

use clap::Args;
use lb_proto::v1;

use crate::{
    names::{Forward, Ring, Track},
    values::duration,
};

/// Each is as it was, or has its default, where it is not given.
#[derive(Args, Debug)]
pub struct VipOptions {
    /// How a packet reaches a real [default: ipip]
    #[arg(long, value_enum)]
    pub forward: Option<Forward>,
    /// How the ring is built [default: rendezvous]
    #[arg(long, value_enum)]
    pub ring: Option<Ring>,
    /// Which flows are remembered [default: exceptions]
    #[arg(long, value_enum)]
    pub track: Option<Track>,
    /// How long an idle flow keeps its real through changes, 1s to 30d [default: 1h for TCP, 2m for
    /// UDP]
    #[arg(long, value_name = "DURATION", value_parser = duration::read)]
    pub window: Option<Duration>,
    /// Slots of the ring, 256 to 65536 [default: grows with the number of reals]
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
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
