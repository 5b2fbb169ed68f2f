//! What can be set on a VIP and on a real.

use std::time::Duration;

use lb_common::limits::{KATRAN_RING_SLOTS, MAX_RING_SLOTS, MAX_WEIGHT, MIN_RING_SLOTS};

use super::WhenEmpty;
use crate::{
    check::{Check, CheckOverride},
    flow_limits::FlowLimits,
    load::{LoadSource, SourceOverride},
    options::{Forward, Hash, NatSource, OnDown, Track},
    ring::Algorithm,
    server_id::{QuicLbConfig, ServerId, ServerIdMethod},
    settings::{FieldError, check_description},
    shedding::Shedding,
    source_rule::SourceRule,
    steering::Steering,
    vip::Protocol,
};

/// Weight of a real that sets none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// Window of a TCP VIP that sets none: MQTT clients are silent for long.
pub const DEFAULT_TCP_WINDOW: Duration = Duration::from_secs(3_600);
/// Window of a UDP VIP that sets none.
pub const DEFAULT_UDP_WINDOW: Duration = Duration::from_secs(120);
/// Window of an SCTP VIP that sets none.
pub const DEFAULT_SCTP_WINDOW: Duration = Duration::from_secs(600);
/// Shortest window.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Longest window.
pub const MAX_WINDOW: Duration = Duration::from_secs(30 * 24 * 3_600);

crate::settings! {
    /// What can be set on a VIP.
    pub struct VipSpec {
        /// How packets reach the reals that have no `mode` of their own.
        forward: Forward = Forward::Ipip;
        /// The source of what mode `nat` sends to the reals: the balancer, to which they answer, or the client. Other modes keep
        /// the client's anyway.
        source: NatSource = NatSource::Balancer;
        /// How the ring is built.
        ring: Algorithm = Algorithm::Rendezvous;
        /// What of a packet decides which slot its flow has, and so its real.
        hash: Hash = Hash::Flow;
        /// Where packets name their real by its `server_id`, so that a connection keeps it when the client's address changes:
        /// one method of UDP, one of TCP. Packets that name none go by `hash`.
        server_ids: Vec<ServerIdMethod> = Vec::new();
        /// How connection ids are read for the method `quic-lb`: the configuration's number (0 to 6), bytes of the server id,
        /// bytes of the nonce, and the key in hexadecimal digits if they are encrypted.
        quic_lb: Vec<QuicLbConfig> = Vec::new();
        /// Clients that are refused or have a real of their own: of the prefixes that hold a client's address the longest counts.
        /// Clients of none are served.
        source_rules: Vec<SourceRule> = Vec::new();
        /// Which flows have an entry in the flow table.
        track: Track = Track::Exceptions;
        /// How long an idle flow keeps its real through changes of the ring; without it 1 h for TCP, 2 min for UDP, 10 min for SCTP.
        window: Option<Duration> = None, MIN_WINDOW..=MAX_WINDOW;
        /// Slots of the ring, a power of two; without it the ring grows with the number of reals. A ring `maglev-katran` has
        /// 65537.
        slots: Option<u32> = None, MIN_RING_SLOTS..=KATRAN_RING_SLOTS;
        /// The health check of the reals; without it they count as up.
        check: Option<Check> = None;
        /// What happens to the running flows of a real that goes down.
        on_down: OnDown = OnDown::Rehash;
        /// What happens to packets while all reals are down: `drop`, `reset` (TCP), or the VIP whose reals stand in.
        when_empty: WhenEmpty = WhenEmpty::Drop;
        /// Where the load of the reals is read, 8 sources at most.
        load: Vec<LoadSource> = Vec::new();
        /// How health and load become weights; without it the defaults.
        steering: Option<Steering> = None;
        /// How connections are ended that are to be shed.
        shed: Shedding = Shedding::default();
        /// Limits of the TCP connections that begin; without it any number may.
        flow_limits: Option<FlowLimits> = None;
        /// Free text about the VIP, shown in lists.
        description: Option<String> = None;
    }
    validate(spec) {
        check_description(spec.description.as_deref())?;
        let refuse = |slots, advice| Err(FieldError::new("slots", slots, advice));
        match (spec.slots, spec.ring.fixed_slots()) {
            (Some(slots), Some(fixed)) if slots != fixed => {
                let advice = format!("a ring {} has {fixed} slots; leave slots away, or give {fixed}", spec.ring);
                refuse(slots, advice)
            }
            (Some(slots), None) if !slots.is_power_of_two() => {
                let advice = format!("give a power of two from {MIN_RING_SLOTS} to {MAX_RING_SLOTS}");
                refuse(slots, advice)
            }
            _ => Ok(()),
        }
    }
}

crate::settings! {
    /// What can be set on a real.
    pub struct RealSpec {
        /// Share of new flows relative to the other reals; 0 takes no new flows and keeps the old ones.
        weight: u32 = DEFAULT_WEIGHT, 0..=MAX_WEIGHT;
        /// How packets reach this real, and its health checks with them; without it as the VIP's `forward` says.
        mode: Option<Forward> = None;
        /// Takes no new flows, whatever the weight.
        drained: bool = false;
        /// While it is drained: ends its connections at the VIP's `shed_rate`, so that the clients reconnect elsewhere.
        evacuated: bool = false;
        /// The number by which packets name the real, if the VIP has `server_ids`; no other real of the VIP has it.
        server_id: Option<ServerId> = None;
        /// Settings of the VIP's check that differ for this real.
        check: CheckOverride = CheckOverride::default();
        /// Settings of the VIP's load sources that differ for this real.
        load: Vec<SourceOverride> = Vec::new();
    }
}

impl Default for VipSpec {
    fn default() -> Self {
        crate::settings::defaults()
    }
}

impl Default for RealSpec {
    fn default() -> Self {
        crate::settings::defaults()
    }
}

impl VipSpec {
    /// Whether the supervisor watches its reals.
    #[must_use]
    pub fn supervised(&self) -> bool {
        self.check.is_some() || !self.load.is_empty() || self.steering.is_some()
    }
}

/// Window of a VIP that sets none.
#[must_use]
pub const fn default_window(protocol: Protocol) -> Duration {
    match protocol {
        Protocol::Tcp | Protocol::TcpUdp => DEFAULT_TCP_WINDOW,
        Protocol::Udp => DEFAULT_UDP_WINDOW,
        // An association has heartbeats (RFC 9260 section 8.3), every 30 s by default.
        Protocol::Sctp => DEFAULT_SCTP_WINDOW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings as _;

    #[test]
    fn defaults_have_the_right_values() {
        let spec = VipSpec::default();
        assert_eq!((spec.window, spec.slots, &spec.check), (None, None, &None));
        assert_eq!(spec.shed.way.kind, "reset");
        assert!(!spec.supervised());
        let real = RealSpec::default();
        assert_eq!((real.weight, real.mode, real.drained), (100, None, false));
        assert_eq!(real.check, CheckOverride::default());
    }

    #[test]
    fn a_description_is_one_line() {
        let read = |text: &str| {
            let map = serde_json::json!({ "description": text });
            crate::settings::from_map::<VipSpec>(map.as_object().unwrap())
        };
        assert_eq!(
            read("the web shop").unwrap().description.as_deref(),
            Some("the web shop")
        );
        assert_eq!(read("a\nb").unwrap_err().field, "description");
    }

    #[test]
    fn every_setting_has_help() {
        for field in VipSpec::fields().into_iter().chain(RealSpec::fields()) {
            assert!(field.help.ends_with('.'), "{}: {}", field.name, field.help);
        }
    }
}
