//! Where a probe goes.

use std::{net::SocketAddr, num::NonZeroU16};

use lb_model::{
    check::{Check, CheckOverride, Via},
    options::Forward,
    vip::{RealId, VipKey},
};

use crate::peer::Target;

/// Where the probe of this VIP's real goes, which has this forwarding mode. `mark` makes the packets take the way to the real
/// that clients' packets take.
#[must_use]
pub fn probe_target(
    check: &Check,
    change: &CheckOverride,
    vip: &VipKey,
    (real, mode): (RealId, Forward),
    mark: u32,
) -> Target {
    let port = change
        .port
        .or(check.port)
        .unwrap_or_else(|| real.port.map_or(vip.port, NonZeroU16::get));
    match change.via(check, mode) {
        Via::Direct => Target {
            address: SocketAddr::new(change.address.unwrap_or(real.address), port),
            mark: None,
        },
        Via::Tunnel => Target {
            address: SocketAddr::new(vip.address, port),
            mark: Some(mark),
        },
    }
}
