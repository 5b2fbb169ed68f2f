//! Names of the API's values as they are typed and printed, and VIPs between text and wire.

use clap::ValueEnum;
use lb_model::vip::{Protocol, VipAddress};
use lb_proto::v1;

/// Printed for a value that this client does not know: a newer agent's.
const UNKNOWN: &str = "unknown";

/// How a packet reaches a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forward {
    /// In an outer IP header
    Ipip,
    /// With the real's MAC address
    L2,
}

impl From<Forward> for v1::Forward {
    fn from(forward: Forward) -> Self {
        match forward {
            Forward::Ipip => v1::Forward::Ipip,
            Forward::L2 => v1::Forward::L2,
        }
    }
}

/// How a ring is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ring {
    /// Weighted rendezvous: moves the fewest flows
    Rendezvous,
    /// Maglev
    Maglev,
}

impl From<Ring> for v1::RingAlgorithm {
    fn from(ring: Ring) -> Self {
        match ring {
            Ring::Rendezvous => v1::RingAlgorithm::Rendezvous,
            Ring::Maglev => v1::RingAlgorithm::Maglev,
        }
    }
}

/// Which flows are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Track {
    /// Only flows whose real is not what the ring says
    Exceptions,
    /// Every flow: live flows are exact
    All,
}

impl From<Track> for v1::Track {
    fn from(track: Track) -> Self {
        match track {
            Track::Exceptions => v1::Track::Exceptions,
            Track::All => v1::Track::All,
        }
    }
}

/// What becomes of the flows of a real that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnDown {
    /// They move to the other reals at once
    Rehash,
    /// Their clients are told by a TCP reset, and connect anew
    Reset,
    /// They stay with it
    Keep,
}

impl From<OnDown> for v1::OnDown {
    fn from(on_down: OnDown) -> Self {
        match on_down {
            OnDown::Rehash => v1::OnDown::Rehash,
            OnDown::Reset => v1::OnDown::Reset,
            OnDown::Keep => v1::OnDown::Keep,
        }
    }
}

/// The name of what becomes of a dead real's flows.
#[must_use]
pub fn on_down(on_down: v1::OnDown) -> &'static str {
    match on_down {
        v1::OnDown::Unspecified => UNKNOWN,
        v1::OnDown::Rehash => "rehash",
        v1::OnDown::Reset => "reset",
        v1::OnDown::Keep => "keep",
    }
}

/// The name of a forwarding mode.
#[must_use]
pub fn forward(forward: v1::Forward) -> &'static str {
    match forward {
        v1::Forward::Unspecified => UNKNOWN,
        v1::Forward::Ipip => "ipip",
        v1::Forward::L2 => "l2",
    }
}

/// The name of a ring's algorithm.
#[must_use]
pub fn ring(ring: v1::RingAlgorithm) -> &'static str {
    match ring {
        v1::RingAlgorithm::Unspecified => UNKNOWN,
        v1::RingAlgorithm::Rendezvous => "rendezvous",
        v1::RingAlgorithm::Maglev => "maglev",
    }
}

/// The name of what is tracked.
#[must_use]
pub fn track(track: v1::Track) -> &'static str {
    match track {
        v1::Track::Unspecified => UNKNOWN,
        v1::Track::Exceptions => "exceptions",
        v1::Track::All => "all",
    }
}

/// The name of a real's state.
#[must_use]
pub fn state(state: v1::RealState) -> &'static str {
    match state {
        v1::RealState::Unspecified => UNKNOWN,
        v1::RealState::Active => "active",
        v1::RealState::Draining => "draining",
        v1::RealState::Held => "held",
        v1::RealState::Unreachable => "unreachable",
        v1::RealState::Down => "down",
    }
}

/// A VIP for the wire.
#[must_use]
pub fn vip_id(vip: VipAddress) -> v1::VipId {
    let protocol = match vip.protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
    };
    v1::VipId {
        address: vip.address.to_string(),
        port: u32::from(vip.port),
        protocol: protocol.into(),
    }
}

/// A VIP from the wire as text; an absent one is empty.
#[must_use]
pub fn vip(id: Option<&v1::VipId>) -> String {
    let Some(id) = id else {
        return String::new();
    };
    let protocol = match id.protocol() {
        v1::Protocol::Unspecified => UNKNOWN,
        v1::Protocol::Tcp => "tcp",
        v1::Protocol::Udp => "udp",
    };
    if id.address.contains(':') {
        format!("[{}]:{}/{protocol}", id.address, id.port)
    } else {
        format!("{}:{}/{protocol}", id.address, id.port)
    }
}

/// Reads a VIP. Whether one can have the address is the agent's answer, with the field's name.
///
/// # Errors
/// Says what a VIP looks like.
pub fn read_vip(text: &str) -> Result<VipAddress, String> {
    VipAddress::from_form(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_go_over_the_wire_and_back() {
        for text in [
            "10.0.0.1:80/tcp",
            "[2001:db8::1]:443/udp",
            "10.0.0.1:0/tcp",
            "224.0.0.1:80/tcp",
        ] {
            let id = vip_id(read_vip(text).unwrap());
            assert_eq!(vip(Some(&id)), text);
        }
        assert_eq!(vip(None), "");
    }

    #[test]
    fn what_is_no_vip_is_refused() {
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1:80",
            "10.0.0:80/tcp",
            "10.0.0.1:65536/tcp",
            "2001:db8::1:80/tcp",
        ] {
            assert!(
                read_vip(text).unwrap_err().contains("write a VIP as"),
                "{text}"
            );
        }
        assert!(
            read_vip("10.0.0.1:80/sctp")
                .unwrap_err()
                .contains("must be tcp or udp")
        );
    }
}
