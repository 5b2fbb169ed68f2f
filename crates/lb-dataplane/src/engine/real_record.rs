//! The record of a real.

use std::net::IpAddr;

use lb_common::tables::real::{
    DOWN, KIND_IP4, KIND_IP6, KIND_L2, KIND_MASK, RESET, Real, outer_checksum,
};
use lb_model::{options::Forward, vip::VipAddress};

use crate::options::SourcePrefix;

/// The outer source addresses, by family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OuterSources {
    /// Of IPv4 headers.
    pub v4: SourcePrefix,
    /// Of IPv6 headers.
    pub v6: SourcePrefix,
}

impl OuterSources {
    /// The record of a real that is up, without a next hop.
    #[must_use]
    pub fn record(&self, address: IpAddr, forward: Forward, service: u32) -> Real {
        let prefix = if address.is_ipv4() { self.v4 } else { self.v6 };
        let checksum = match (prefix.address(), address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                outer_checksum(source.octets(), destination.octets())
            }
            _ => 0,
        };
        Real {
            flags: kind(address, forward),
            next_hop: 0,
            address: octets(address),
            source: octets(prefix.address()),
            source_mask: prefix.host_mask().to_be_bytes(),
            checksum,
            service,
            lost: 0,
            pad: [0; 2],
        }
    }
}

/// [`Real::flags`] of a real that is up.
#[must_use]
pub(crate) fn kind(address: IpAddr, forward: Forward) -> u32 {
    match (forward, address) {
        (Forward::L2, _) => KIND_L2,
        (Forward::Ipip, IpAddr::V4(_)) => KIND_IP4,
        (Forward::Ipip, IpAddr::V6(_)) => KIND_IP6,
    }
}

/// The forwarding mode that a record's flags say.
#[must_use]
pub(crate) fn forward_of(flags: u32) -> Forward {
    if flags & KIND_MASK == KIND_L2 {
        Forward::L2
    } else {
        Forward::Ipip
    }
}

/// Whether a real with these [`Real::flags`] is dead, so that its flows are lost.
#[must_use]
pub(crate) fn is_dead(flags: u32) -> bool {
    flags & (DOWN | RESET) != 0
}

/// The address of a record. A real of mode `l2` has its VIP's family, which the record does not name.
#[must_use]
pub(crate) fn address_of(real: &Real, vip: &VipAddress) -> IpAddr {
    let v4 = match real.flags & KIND_MASK {
        KIND_IP4 => true,
        KIND_IP6 => false,
        _ => vip.address.is_ipv4(),
    };
    if v4 {
        let [a, b, c, d, ..] = real.address;
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(real.address)
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
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
        let vip: VipAddress = "10.0.0.1:80/tcp".parse().unwrap();
        for (address, forward) in [
            ("10.1.0.2", Forward::Ipip),
            ("2001:db8::2", Forward::Ipip),
            ("10.1.0.2", Forward::L2),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let record = sources.record(address, forward, 7);
            assert_eq!(address_of(&record, &vip), address);
            assert_eq!(forward_of(record.flags), forward);
            assert_eq!((record.service, is_dead(record.flags)), (7, false));
        }
    }
}
