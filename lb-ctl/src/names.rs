//! Names of the API's values as operators type and read them, and conversion of VIPs.

use lb_model::vip::VipKey;
use lb_proto::v1;

/// The name of a value that only a newer agent knows.
const UNKNOWN: &str = "unknown";

/// Returns the name of a ring's algorithm.
#[must_use]
pub fn ring(ring: v1::RingAlgorithm) -> &'static str {
    match ring {
        v1::RingAlgorithm::Unspecified => UNKNOWN,
        v1::RingAlgorithm::Rendezvous => "rendezvous",
        v1::RingAlgorithm::Maglev => "maglev",
        v1::RingAlgorithm::MaglevKatran => "maglev-katran",
    }
}

/// Returns the name of a real's state.
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

/// Converts a VIP to a message.
#[must_use]
pub fn vip_id(vip: VipKey) -> v1::VipId {
    lb_proto::vip::vip_id(&vip)
}

/// Converts a message to the name of a VIP; the name is empty if there is no message.
#[must_use]
pub fn vip(id: Option<&v1::VipId>) -> String {
    let Some(id) = id else {
        return String::new();
    };
    // A newer agent may have VIPs that this program cannot name.
    lb_proto::vip::vip_of(id).map_or_else(
        || format!("{}:{}/{UNKNOWN}", id.address, id.port),
        |vip| vip.to_string(),
    )
}

/// Reads the name of a VIP. The agent checks whether a VIP may have the address.
///
/// # Errors
/// Returns the form of a name.
pub fn read_vip(text: &str) -> Result<VipKey, String> {
    VipKey::from_form(text).map_err(|error| error.to_string())
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
            read_vip("10.0.0.1:80/icmp")
                .unwrap_err()
                .contains("must be tcp, udp, sctp or tcp+udp")
        );
    }
}
