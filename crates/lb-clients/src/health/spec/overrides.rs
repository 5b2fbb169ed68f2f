//! What one real has differently.

use std::net::{IpAddr, SocketAddr};

use lb_model::vip::VipAddress;
use serde::{Deserialize, Serialize};

use super::{Check, Fault, Via, range};
use crate::peer::Target;

/// What of a VIP's check is different for one real.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckOverride {
    /// Do not probe it: it counts as up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// The port that is probed. Default: the check's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The address that is probed, if it is another than the real's: of a management network, for example.
    /// The probe then goes there directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// How the probe's packets get there. Default: the check's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
}

impl CheckOverride {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The field, its value and what would be right.
    pub fn validate(&self) -> Result<(), Fault> {
        range::port("port", self.port)?;
        if let Some(address) = self.address {
            lb_model::vip::check_unicast(address)
                .map_err(|error| range::fault("address", address, error.to_string()))?;
            if self.via == Some(Via::Tunnel) {
                return Err(range::fault(
                    "via",
                    "tunnel",
                    "through the tunnel the VIP's own address is probed; leave out the address or give direct",
                ));
            }
        }
        Ok(())
    }

    /// How the probe's packets get to this real.
    #[must_use]
    pub fn via(&self, check: &Check) -> Via {
        match self.address {
            Some(_) => Via::Direct,
            None => self.via.unwrap_or(check.via),
        }
    }

    /// Where the probe of this VIP's real goes; `mark` makes packets take the way to it that clients' take.
    #[must_use]
    pub fn target(&self, check: &Check, vip: &VipAddress, real: IpAddr, mark: u32) -> Target {
        let port = self.port.or(check.port).unwrap_or(vip.port);
        match self.via(check) {
            Via::Direct => Target {
                address: SocketAddr::new(self.address.unwrap_or(real), port),
                mark: None,
            },
            Via::Tunnel => Target {
                address: SocketAddr::new(vip.address, port),
                mark: Some(mark),
            },
        }
    }
}
