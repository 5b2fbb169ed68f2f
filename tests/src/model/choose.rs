//! The choice of a packet's real.

use std::net::IpAddr;

use lb_common::{
    hash::{Addresses as _, Addresses4, Addresses6, slot_index},
    limits::UDP_CONFIRM_TICKS,
    reason::{ChosenBy, Reason},
    tables::ring::{Previous, class_of},
};

use super::{
    FlowKey, Model,
    flows::Entry,
    katran,
    parse::{self, Packet},
    testbed::{Hash, Testbed},
};

/// A chosen real.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub real: u16,
    pub by: ChosenBy,
    /// Whether a new flow is counted.
    pub opened: bool,
}

/// The reason why no real gets a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub reason: Reason,
    /// The dead real to which the flow belongs; 0 if no real was chosen.
    pub real: u16,
    pub by: ChosenBy,
}

impl Refusal {
    fn of(reason: Reason) -> Refusal {
        Refusal {
            reason,
            real: 0,
            by: ChosenBy::Nothing,
        }
    }

    fn dead(real: u16, by: ChosenBy) -> Refusal {
        Refusal {
            reason: Reason::ResetDownReal,
            real,
            by,
        }
    }
}

/// Returns the ports of TCP and UDP as the hash uses them.
fn ports(packet: &Packet) -> (u16, u16) {
    parse::ports(packet.payload)
}

/// Returns two ports in the byte order of a packet.
fn in_packet((source, destination): (u16, u16)) -> u32 {
    let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

fn halves(octets: [u8; 16]) -> [u64; 2] {
    let number = |half: &[u8]| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(half);
        u64::from_ne_bytes(bytes)
    };
    [number(&octets[..8]), number(&octets[8..])]
}

/// Returns the ring hash, which `lb_common::hash` defines, of what the service says of a packet, or the one that leads to
/// Katran's slot.
pub(super) fn ring_hash(testbed: &Testbed, packet: &Packet, service: u32) -> u64 {
    let hash = testbed.services[service as usize].hash;
    let none = |address: IpAddr| match address {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let (_, to) = ports(packet);
    let (source, destination, counted, protocol) = match hash {
        Hash::Flow | Hash::Katran => (
            packet.source,
            packet.destination,
            ports(packet),
            packet.protocol,
        ),
        Hash::Source => (packet.source, packet.destination, (0, 0), packet.protocol),
        Hash::SourceGroup => (packet.source, none(packet.destination), (0, 0), 0),
        Hash::Destination => (
            none(packet.source),
            packet.destination,
            (0, to),
            packet.protocol,
        ),
    };
    let (seed, counted, protocol) = (testbed.ring_seed, in_packet(counted), u32::from(protocol));
    let made = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses4 {
            source: u32::from_ne_bytes(source.octets()),
            destination: u32::from_ne_bytes(destination.octets()),
        }
        .ring_hash(seed, counted, protocol),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Addresses6 {
            source: halves(source.octets()),
            destination: halves(destination.octets()),
        }
        .ring_hash(seed, counted, protocol),
        _ => unreachable!("a packet has addresses of one family"),
    };
    if hash == Hash::Katran {
        katran::ring_hash(packet.source, ports(packet), made)
    } else {
        made
    }
}

/// Returns the flow hash, which `lb_common::hash` defines. A flow's tag and buckets derive from it.
#[must_use]
pub fn flow_hash(testbed: &Testbed, flow: &FlowKey) -> u64 {
    let ports = in_packet((flow.source_port, flow.destination_port));
    match flow.source {
        IpAddr::V4(source) => Addresses4 {
            source: u32::from_ne_bytes(source.octets()),
            destination: 0,
        }
        .flow_hash(testbed.flow_secret, ports, flow.service),
        IpAddr::V6(source) => Addresses6 {
            source: halves(source.octets()),
            destination: [0; 2],
        }
        .flow_hash(testbed.flow_secret, ports, flow.service),
    }
}

/// Returns the flow that a packet belongs to.
#[must_use]
pub(super) fn flow_key(packet: &Packet, service: u32) -> FlowKey {
    let (source_port, destination_port) = ports(packet);
    FlowKey {
        service,
        source: packet.source,
        source_port,
        destination_port,
    }
}

impl Model {
    /// Returns the slot of a packet's hash. A service without a ring has no real for new flows.
    fn slot(&self, packet: &Packet, service: u32) -> Result<(u16, Previous), Refusal> {
        let hash = ring_hash(&self.testbed, packet, service);
        let service = self
            .testbed
            .services
            .get(service as usize)
            .ok_or(Refusal::of(Reason::BadTables))?;
        if service.slots == 0 {
            return Ok((0, Previous::Settled));
        }
        let index = service.first_slot + slot_index(hash, service.slots);
        self.testbed
            .slots
            .get(index as usize)
            .copied()
            .ok_or(Refusal::of(Reason::BadTables))
    }

    /// Returns whether a real is up and belongs to this service. Otherwise an entry or a slot's previous real does not
    /// count.
    pub(super) fn serves(&self, real: u16, service: u32) -> bool {
        let real = self.testbed.reals.get(usize::from(real)).copied().flatten();
        real.is_some_and(|real| !real.down && real.service == service)
    }

    /// Returns whether the flows of a real are reset.
    pub(super) fn is_dead(&self, real: u16) -> bool {
        let real = self.testbed.reals.get(usize::from(real)).copied().flatten();
        real.is_some_and(|real| real.reset)
    }

    /// Chooses a real, and remembers the flow if necessary.
    pub(super) fn choose(&mut self, packet: &Packet, service: u32) -> Result<Choice, Refusal> {
        let (current, previous) = self.slot(packet, service)?;
        let track_all = self.testbed.services[service as usize].track_all;
        let (opens, closes) = (packet.payload.opens(), packet.payload.closes());
        let may_reset = packet.can_be_reset();
        let reset_empty = self.testbed.services[service as usize].reset_empty;
        let choice = |real: u16, by| {
            if real == 0 && reset_empty && may_reset {
                Err(Refusal::of(Reason::ResetNoReal))
            } else if real == 0 {
                let is_told = reset_empty && packet.payload.is_udp();
                Err(Refusal::of(if is_told {
                    Reason::UnreachableNoReal
                } else {
                    Reason::NoReal
                }))
            } else {
                Ok(Choice {
                    real,
                    by,
                    opened: opens,
                })
            }
        };
        let ring_hash = ring_hash(&self.testbed, packet, service);
        // Of a flow of another class there is no exception.
        let is_certain = match previous {
            Previous::Settled => true,
            Previous::Exceptions(classes) => !classes.contains(class_of(ring_hash)),
            Previous::Real(_) => false,
        };
        if is_certain && !track_all {
            return choice(current, ChosenBy::Ring);
        }
        let ring_bits = (ring_hash >> 44) as u32;
        let hash = flow_hash(&self.testbed, &flow_key(packet, service));
        let place = self.flows.place(hash);
        let entry = self.flows.find(place).copied();
        // A new connection chooses a real again, unless one with the same ports is known to run.
        if let Some(entry) = entry
            && entry.in_time(&self.testbed, self.now)
            && self.serves(entry.real, service)
            && (!opens || !(entry.is_expendable() || self.is_dead(entry.real)))
        {
            if opens {
                return choice(entry.real, ChosenBy::Flow).map(|choice| Choice {
                    opened: false,
                    ..choice
                });
            }
            let reset = self.is_dead(entry.real) && may_reset;
            // Datagrams that come at once may be one client's first ones.
            let confirms = !packet.payload.is_udp() || entry.age(self.now) >= UDP_CONFIRM_TICKS;
            let renewed = Entry {
                closing: entry.closing || closes || reset,
                provisional: entry.provisional && !confirms,
                opening: entry.opening && !confirms,
                half_open: entry.half_open && !confirms,
                ring_bits,
                stamp: if entry.provisional && !confirms {
                    entry.stamp
                } else {
                    self.now
                },
                ..entry
            };
            self.flows.remember(place, renewed, &self.testbed, self.now);
            if reset {
                return Err(Refusal::dead(entry.real, ChosenBy::Flow));
            }
            return choice(entry.real, ChosenBy::Flow);
        }
        let (mut chosen, in_window) = match previous {
            Previous::Real(_) if opens => (choice(current, ChosenBy::NewFlow)?, true),
            Previous::Exceptions(_) if opens => (choice(current, ChosenBy::NewFlow)?, false),
            // UDP has no SYN: an unknown packet belongs to a running flow.
            Previous::Real(real)
                if self.serves(real, service) && self.is_dead(real) && may_reset =>
            {
                return Err(Refusal::dead(real, ChosenBy::Previous));
            }
            Previous::Real(real) if self.serves(real, service) => {
                (choice(real, ChosenBy::Previous)?, true)
            }
            Previous::Real(_) => (choice(current, ChosenBy::NewFlow)?, true),
            Previous::Settled | Previous::Exceptions(_) => {
                (choice(current, ChosenBy::Ring)?, false)
            }
        };
        // An entry that does not count, or no longer does, must not count again later.
        if (in_window || track_all) && !packet.payload.resets() || entry.is_some() {
            let entry = Entry {
                tag: place.tag,
                real: chosen.real,
                closing: closes,
                provisional: true,
                opening: opens || packet.payload.is_udp() && chosen.by != ChosenBy::Previous,
                half_open: opens,
                ring_bits,
                stamp: self.now,
            };
            let room = self.flows.remember(place, entry, &self.testbed, self.now);
            chosen.opened |= room && packet.payload.is_udp();
            // Its next packets will be taken for those of a running flow.
            if let Previous::Real(previous) = previous
                && opens
                && !room
                && self.serves(previous, service)
                && !self.is_dead(previous)
            {
                (chosen.real, chosen.by) = (previous, ChosenBy::Previous);
            }
        }
        Ok(chosen)
    }
}
