//! What is different for one real of a VIP.

use clap::Args;
use lb_proto::v1;

use super::vip_options::{OrNone, or_none};
use crate::values::{overrides, weight};

/// Each is as the VIP has it where it is not given.
#[derive(Args, Debug)]
pub struct RealOptions {
    /// Its part of the new flows, 0 to 65535; 0 takes none and keeps the old ones [when new: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = weight::read)]
    pub weight: Option<u32>,
    /// What is different in the VIP's check, as in 'port=1884'; '' takes it back
    #[arg(long, value_name = "WORDS", value_parser = overrides::read_check)]
    pub check: Option<v1::CheckOverride>,
    /// What is different at a source of the VIP's load, by its name, as in 'broker port=1884', or none; give it
    /// again for more sources
    #[arg(long, value_name = "WORDS", value_parser = or_none(overrides::read_load))]
    pub load: Vec<OrNone<v1::LoadSourceOverride>>,
}

impl RealOptions {
    /// For the wire.
    pub fn spec(&self) -> v1::RealSpec {
        v1::RealSpec {
            weight: self.weight,
            drained: None,
            check: self.check.clone(),
            load: self.load.iter().filter_map(OrNone::value).collect(),
        }
    }

    /// The fields that are given, by their names in `RealSpec`.
    pub fn mask(&self) -> prost_types::FieldMask {
        let given = [
            ("weight", self.weight.is_some()),
            ("check", self.check.is_some()),
            ("load", !self.load.is_empty()),
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
