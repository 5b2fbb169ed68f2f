//! The record of a real.

use std::{net::IpAddr, num::NonZeroU16};

use lb_common::{
    ip::Family,
    tables::real::{ADDRESS_V6, DOWN, RESET, Real, outer_checksum},
};
use lb_model::{options::Forward, vip::RealId};

use crate::options::SourcePrefix;

/// The outer source addresses, by family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OuterSources {
    /// Sources of outer IPv4 headers.
    pub v4: SourcePrefix,
    /// Sources of outer IPv6 headers.
    pub v6: SourcePrefix,
}

impl OuterSources {
    /// The record of a real that is up, without a next hop.
    #[must_use]
    pub fn record(&self, real: impl Into<RealId>, forward: Forward, service: u32) -> Real {
        let RealId { address, port } = real.into();
        let prefix = if address.is_ipv4() { self.v4 } else { self.v6 };
        let checksum = match (prefix.address(), address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                outer_checksum(source.octets(), destination.octets())
            }
            _ => 0,
        };
        Real {
            flags: mode_flags(address, forward),
            next_hop: 0,
            address: octets(address),
            source: octets(prefix.address()),
            source_mask: prefix.host_mask().to_be_bytes(),
            checksum,
            service,
            lost: 0,
            port: port.map_or([0; 2], |port| port.get().to_be_bytes()),
            pad: [0; 2],
            largest: 0,
        }
    }
}

/// [`Real::largest`] of a real whose way takes IP packets of up to `mtu` bytes, for packets to a VIP of this address; 0 for
/// 0, which is not known.
#[must_use]
pub(crate) fn largest_packet(mtu: u32, vip: IpAddr, real: IpAddr, forward: Forward) -> u32 {
    let [vip, real] = [vip, real].map(Family::of);
    let growth = forward.facts().growth(vip, real);
    match mtu {
        0 => 0,
        // No interface is as narrow as an outer header; 0 would mean that everything fits.
        mtu => mtu.saturating_sub(growth).max(1),
    }
}

/// [`Real::flags`] of a real that is up.
#[must_use]
pub(crate) fn mode_flags(address: IpAddr, forward: Forward) -> u32 {
    let family = if address.is_ipv6() { ADDRESS_V6 } else { 0 };
    forward.facts().number | family
}

/// The forwarding option of a record; `None` if no option has the record's mode.
#[must_use]
pub(crate) fn forward_of(real: &Real) -> Option<Forward> {
    Forward::ALL
        .iter()
        .copied()
        .find(|forward| forward.facts().number == real.mode())
}

/// Whether a real with these [`Real::flags`] is dead, so that its flows are lost.
#[must_use]
pub(crate) fn is_dead(flags: u32) -> bool {
    flags & (DOWN | RESET) != 0
}

/// The name of a record's real.
#[must_use]
pub(crate) fn id_of(real: &Real) -> RealId {
    let address = if real.flags & ADDRESS_V6 == 0 {
        let [a, b, c, d, ..] = real.address;
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(real.address)
    };
    RealId {
        address,
        port: NonZeroU16::new(u16::from_be_bytes(real.port)),
    }
}

/// An address as records have it: IPv4 in the first four bytes.
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&a.octets());
            octets
        }
        IpAddr::V6(a) => a.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn a_record_gives_its_address_and_mode_back() {
        let options = Options::new(Vec::new());
        let sources = OuterSources {
            v4: options.source_v4,
            v6: options.source_v6,
        };
        for (address, forward) in [
            ("10.1.0.2", Forward::Ipip),
            ("2001:db8::2", Forward::Ipip),
            ("10.1.0.2", Forward::L2),
            ("2001:db8::2", Forward::L2),
            ("10.1.0.2", Forward::Nat),
            ("10.1.0.2:8080", Forward::Nat),
            ("[2001:db8::2]:8080", Forward::Nat),
        ] {
            let id: RealId = address.parse().unwrap();
            let record = sources.record(id, forward, 7);
            assert_eq!(id_of(&record), id);
            assert_eq!(forward_of(&record), Some(forward));
            assert_eq!((record.service, is_dead(record.flags)), (7, false));
        }
    }
}
