//! The objects that verbs name.

use std::fmt;

use clap::Args;
use lb_model::vip::{RealId, VipKey};
use lb_proto::v1;

use crate::names;

/// A VIP.
#[derive(Args, Debug)]
pub struct Vip {
    /// The VIP.
    // The help is not a doc comment because rustdoc would take the brackets for a link.
    #[arg(
        value_parser = names::read_vip,
        help = "The VIP, as in 10.0.0.1:80/tcp or [2001:db8::1]:443/udp; port 0 is any port"
    )]
    pub vip: VipKey,
}

impl Vip {
    /// Returns it as a message of the API.
    pub fn id(&self) -> Option<v1::VipId> {
        Some(names::vip_id(self.vip))
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VIP {}", self.vip)
    }
}

/// One VIP or all.
#[derive(Args, Debug)]
pub struct MaybeVip {
    /// Only this VIP
    #[arg(value_parser = names::read_vip)]
    pub vip: Option<VipKey>,
}

impl MaybeVip {
    /// Returns it as a message of the API.
    pub fn id(&self) -> Option<v1::VipId> {
        self.vip.map(names::vip_id)
    }
}

impl fmt::Display for MaybeVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vip {
            Some(vip) => write!(f, "VIP {vip}"),
            None => f.write_str("all VIPs"),
        }
    }
}

/// A real of a VIP.
#[derive(Args, Debug)]
pub struct Real {
    #[command(flatten)]
    pub vip: Vip,
    // The help is not a doc comment because rustdoc would take the brackets for a link.
    #[arg(
        help = "The real's address, with its port if that is not the VIP's: 10.1.0.2, 10.1.0.2:8080 or [2001:db8::2]:8080"
    )]
    pub address: RealId,
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "real {} of {}", self.address, self.vip)
    }
}

/// On what a change insists.
#[derive(Args, Debug)]
pub struct Writing {
    /// Change it though it belongs to another owner (the configuration file, a controller), and take it over
    #[arg(long)]
    force: bool,
    /// Only if the VIP still has this revision, as `lbctl list VIP -o wide` shows it
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    if_revision: Option<u64>,
}

impl Writing {
    /// For the wire.
    pub fn writer(&self) -> Option<v1::Writer> {
        let expected_revision = self.if_revision.unwrap_or_default();
        (self.force || expected_revision > 0).then(|| v1::Writer {
            force: self.force,
            expected_revision,
            ..v1::Writer::default()
        })
    }
}
