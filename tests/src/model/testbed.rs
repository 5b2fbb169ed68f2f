//! The contents of the tables in plain types, and conversion to records.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lb_common::forward::{GUE, IPIP, L2};
use lb_common::tables::{
    config::{ANY_PORT_V4, ANY_PORT_V6, Config},
    next_hop::NextHop,
    real::{self, outer_checksum},
    ring::{self, Previous},
    server_id::{QuicLb, ServerIdKey, quic_lb_key},
    service::{
        self, HASH_DESTINATION, HASH_KATRAN, HASH_SOURCE, HASH_SOURCE_GROUP, RESET_EMPTY,
        SOURCE_RULES, TRACK_ALL, ring_place,
    },
    source_rule::SourceKey,
};

use super::{
    named::{CONFIGS, Ids},
    sources::SourceRule,
};

/// A key of the VIP tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VipName {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 means any port, or echo requests.
    pub port: u16,
    /// IP protocol.
    pub protocol: u8,
}

/// A service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// First slot of its ring.
    pub first_slot: u32,
    /// Slots of its ring; 0 if the service has no real.
    pub slots: u32,
    /// Whether every flow gets an entry.
    pub track_all: bool,
    /// Whether TCP packets are answered with a reset if there is no real.
    pub reset_empty: bool,
    /// What the ring hash of its flows is made of.
    pub hash: Hash,
    /// Where its packets name their real.
    pub ids: Ids,
    /// Whether there are rules about its sources.
    pub has_rules: bool,
    /// The window in ticks.
    pub window: u32,
}

/// What the ring hash of a flow is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hash {
    /// Addresses, ports and protocol.
    #[default]
    Flow,
    /// Addresses and protocol.
    Source,
    /// The client's address.
    SourceGroup,
    /// Destination address and port, and protocol.
    Destination,
    /// The slot by the client's address and ports, as Katran has it; the rest as with `Flow`.
    Katran,
}

/// How a packet reaches a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With the real's MAC address as destination.
    L2,
    /// In an outer header of the address's family.
    Ipip,
    /// In an outer header of the address's family and a UDP header.
    Gue,
}

/// A real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Real {
    /// Its service.
    pub service: u32,
    /// How a packet reaches it.
    pub mode: Mode,
    /// Whether entries of the flow table that name it count as misses.
    pub down: bool,
    /// Whether the real is dead and its TCP flows are reset.
    pub reset: bool,
    /// Flows that are still to be shed; `None` if the real sheds none.
    pub shed: Option<i64>,
    /// Index of the next hop; 0 if it is unknown.
    pub next_hop: u32,
    /// The outer destination.
    pub address: IpAddr,
    /// The prefix of the outer source, with the same family.
    pub source: IpAddr,
    /// Mask of the host bits of the source that vary by flow: of the IPv4 address, or of the last 32 bits of the IPv6
    /// address.
    pub source_mask: u32,
    /// Bytes of the largest packet that the way to it takes, outer header not counted; 0: not known.
    pub largest: u32,
}

/// All tables but the flows.
#[derive(Clone, Debug, Default)]
pub struct Testbed {
    /// The index of each VIP's service.
    pub vips: HashMap<VipName, u32>,
    /// Whether IPv4 VIPs with port 0 are looked up.
    pub any_port_v4: bool,
    /// Whether IPv6 VIPs with port 0 are looked up.
    pub any_port_v6: bool,
    /// Services by index; service 0 answers echo requests.
    pub services: Vec<Service>,
    /// The ring table.
    pub slots: Vec<(u16, Previous)>,
    /// Reals by index; entry 0 is unused.
    pub reals: Vec<Option<Real>>,
    /// Next hops by index; entry 0 is unused.
    pub next_hops: Vec<Option<NextHop>>,
    /// The interface that frames arrive on.
    pub interface: u32,
    /// MAC addresses that it receives by, its own first; none: they are not known.
    pub stations: Vec<[u8; 6]>,
    /// Seed of the ring hash.
    pub ring_seed: u64,
    /// The flow table's secret.
    pub flow_secret: [u64; 2],
    /// The real that has an id of a service.
    pub server_ids: BTreeMap<(u32, u128), u16>,
    /// Rules about the sources of packets.
    pub source_rules: Vec<SourceRule>,
    /// UDP port of the mode `Gue`.
    pub gue_port: u16,
}

impl Testbed {
    /// Returns the record of `CONFIG`.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        if self.any_port_v4 {
            config.flags |= ANY_PORT_V4;
        }
        if self.any_port_v6 {
            config.flags |= ANY_PORT_V6;
        }
        config
    }

    /// Returns the records of `SERVICES`.
    pub fn service_records(&self) -> impl Iterator<Item = service::Service> {
        self.services.iter().map(|service| service::Service {
            ring: ring_place(service.first_slot, service.slots),
            flags: if service.track_all { TRACK_ALL } else { 0 }
                | if service.reset_empty { RESET_EMPTY } else { 0 }
                | service.ids.flag()
                | if service.has_rules { SOURCE_RULES } else { 0 }
                | match service.hash {
                    Hash::Flow => 0,
                    Hash::Source => HASH_SOURCE,
                    Hash::SourceGroup => HASH_SOURCE_GROUP,
                    Hash::Destination => HASH_DESTINATION,
                    Hash::Katran => HASH_KATRAN,
                },
            window: service.window,
            ..service::Service::default()
        })
    }

    /// Returns the entries of `SERVER_IDS`.
    pub fn server_id_records(&self) -> impl Iterator<Item = (ServerIdKey, u32)> {
        self.server_ids
            .iter()
            .map(|(&(service, id), &real)| (ServerIdKey::new(service, id), u32::from(real)))
    }

    /// Returns the entries of `SOURCE_RULES`.
    pub fn source_rule_records(&self) -> impl Iterator<Item = (SourceKey, u32)> {
        self.source_rules.iter().map(SourceRule::record)
    }

    /// Returns the entries of `QUIC_LB`.
    pub fn quic_lb_records(&self) -> impl Iterator<Item = (u32, QuicLb)> {
        let services = (0..).zip(&self.services);
        services
            .filter(|(_, service)| service.ids == Ids::QuicLb)
            .flat_map(|(service, _)| {
                CONFIGS.iter().map(move |config| {
                    let record = QuicLb::new(config.id as u32, config.nonce as u32, config.key);
                    (quic_lb_key(service, config.number), record)
                })
            })
    }

    /// Returns the slots of `RINGS`.
    pub fn slot_records(&self) -> impl Iterator<Item = ring::Slot> {
        self.slots
            .iter()
            .map(|(real, previous)| ring::slot(*real, *previous))
    }

    /// Returns the records of `REALS`.
    pub fn real_records(&self) -> impl Iterator<Item = real::Real> {
        self.reals
            .iter()
            .map(|real| real.as_ref().map_or_else(real::Real::default, record))
    }

    /// Returns the records of `BUDGETS`.
    pub fn budget_records(&self) -> impl Iterator<Item = real::Budget> {
        self.reals.iter().map(|real| real::Budget {
            flows: real.and_then(|real| real.shed).unwrap_or(0),
        })
    }

    /// Returns the records of `NEXT_HOPS`.
    pub fn next_hop_records(&self) -> impl Iterator<Item = NextHop> {
        self.next_hops.iter().map(|hop| hop.unwrap_or_default())
    }
}

fn record(real: &Real) -> real::Real {
    let mode = match real.mode {
        Mode::L2 => L2.number,
        Mode::Ipip => IPIP.number,
        Mode::Gue => GUE.number,
    };
    let family = match real.address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => real::ADDRESS_V6,
    };
    let checksum = match (real.mode, real.source, real.address) {
        (Mode::Ipip | Mode::Gue, IpAddr::V4(source), IpAddr::V4(destination)) => {
            outer_checksum(source.octets(), destination.octets())
        }
        _ => 0,
    };
    real::Real {
        flags: mode
            | family
            | if real.down { real::DOWN } else { 0 }
            | if real.reset { real::RESET } else { 0 }
            | if real.shed.is_some() { real::SHED } else { 0 },
        next_hop: real.next_hop,
        address: sixteen(real.address),
        source: sixteen(real.source),
        source_mask: real.source_mask.to_be_bytes(),
        checksum,
        service: real.service,
        lost: 0,
        port: [0; 2],
        pad: [0; 2],
        largest: real.largest,
    }
}

/// Returns an address in the form of the records, with IPv4 in the first four bytes.
fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}
