//! Which real a packet goes to: the ring's slot, and the flow table where the slot is not settled. A packet that names its
//! real, or whose source has a real of its own, goes there, and neither looks up the flow table nor is remembered.

use crate::{
    codegen::apart,
    flow_table::{self, Newcomer},
    frame::Frame,
    hash::{Addresses, BucketPair, slot_index},
    headers::tcp,
    lookup::{FlowEvent, Step, Tables},
    parse::{FRAGMENT, Packet, Transport},
    reason::ChosenBy,
    server_ids::Named,
    tables::{
        flow::{CLOSING, HALF_OPEN, OPENING, PROVISIONAL},
        real::Real,
        ring::{Previous, Slot, previous_of, previous_real_of, real_of},
        service::{ID_MASK, RESET_EMPTY, SOURCE_RULES, Service, TRACK_ALL},
        source_rule::Rule,
    },
};

/// The answer to which real a packet goes to.
///
/// Two numbers and not variants with fields of their own: those are copied as one word, from which the real would have to
/// be extracted before it can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index of the real. It is not 0 if the packet is forwarded.
    pub real: u16,
    /// What is done with the packet.
    pub treatment: Treatment,
}

/// What is done with a service's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Treatment {
    /// It goes to the real. If it opens a TCP connection, a flow begins.
    Forward,
    /// It goes to the real. Its flow is known to run.
    ForwardRunning,
    /// It goes to the real. A flow begins.
    ForwardNew,
    /// It is answered with a reset, because it is for the real, which is dead.
    ResetDownReal,
    /// It is answered with a reset, because the service has no real.
    ResetNoReal,
    /// It is answered with an ICMP error, because the service has no real.
    UnreachableNoReal,
    /// It is dropped, because the service has no real.
    DropNoReal,
    /// It is dropped, because a rule denies its source.
    DropDenied,
    /// It is dropped, because a record is missing.
    DropDamaged,
}

impl Treatment {
    /// Whether a flow begins with the packet that has this transport header.
    #[must_use]
    #[inline(always)]
    pub const fn begins_flow(self, transport: &Transport) -> bool {
        match self {
            Treatment::Forward => transport.opens(),
            Treatment::ForwardNew => true,
            _ => false,
        }
    }
}

/// A record is missing.
const DAMAGED: Choice = Choice {
    real: 0,
    treatment: Treatment::DropDamaged,
};

/// Chooses the real of a packet for the service with `index`. `ring_hash` is the flow's ([`crate::hash::of_flow`]).
#[inline(always)]
pub fn choose<A: Addresses, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    index: u32,
    service: &Service,
    packet: &Packet<A>,
    ring_hash: u64,
) -> Choice {
    if service.flags & (ID_MASK | SOURCE_RULES) != 0
        && let Some(choice) = appointed(frame, tables, index, service, packet)
    {
        return choice;
    }
    // One load: the agent moves a service to another ring with one store.
    let ring = service.ring;
    let slots = (ring >> 32) as u32;
    let slot = if slots == 0 {
        0
    } else {
        let place = (ring as u32).wrapping_add(slot_index(ring_hash, slots));
        match tables.slot(place) {
            Some(slot) => {
                tables.note(Step::Slot(place, slot));
                slot
            }
            None => {
                apart();
                return DAMAGED;
            }
        }
    };
    let transport = &packet.transport;
    if previous_of(slot) == Previous::Settled && service.flags & TRACK_ALL == 0 {
        return of_ring(tables, service, transport, slot);
    }
    unsettled(tables, index, service, packet, slot, ring_hash)
}

/// The choice of services that ask packets for their real, or have rules about their sources.
#[inline(always)]
fn appointed<A: Addresses, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    index: u32,
    service: &Service,
    packet: &Packet<A>,
) -> Option<Choice> {
    let rule = if service.flags & SOURCE_RULES == 0 {
        0
    } else {
        let [source, _] = packet.addresses.wide();
        tables.source_rule(index, source)
    };
    if Rule::denies(rule) {
        return Some(Choice {
            real: 0,
            treatment: Treatment::DropDenied,
        });
    }
    if service.flags & ID_MASK != 0 {
        let named = Named::new(&packet.transport, index, service.flags);
        let mut real = tables.find_named(frame, named);
        if packet.transport.flags & FRAGMENT != 0 {
            let named = tables.named_of_fragment(frame, real);
            real = flow_table::alive_real(tables, named, index);
        }
        if real != 0 {
            tables.note(Step::Real(real, ChosenBy::ServerId));
            return Some(Choice {
                real,
                treatment: Treatment::Forward,
            });
        }
    }
    let real = of_rule(tables, index, rule);
    if real == 0 {
        return None;
    }
    tables.note(Step::Real(real, ChosenBy::SourceRule));
    Some(Choice {
        real,
        treatment: Treatment::Forward,
    })
}

/// The real that a rule about a source names, if it is the service's and alive; else 0.
#[inline(always)]
pub(crate) fn of_rule<T: Tables>(tables: &T, service: u32, rule: u32) -> u16 {
    flow_table::alive_real(tables, Rule::real_of(rule), service)
}

/// The choice where the slot's real is the flow's for certain.
#[inline(always)]
fn of_ring<T: Tables>(tables: &T, service: &Service, transport: &Transport, slot: Slot) -> Choice {
    let real = real_of(slot);
    if real == 0 {
        return empty(service, transport);
    }
    tables.note(Step::Real(real, ChosenBy::Ring));
    Choice {
        real,
        treatment: Treatment::Forward,
    }
}

/// Chooses where the flow table has a say.
#[inline(always)]
fn unsettled<A: Addresses, T: Tables>(
    tables: &T,
    index: u32,
    service: &Service,
    packet: &Packet<A>,
    slot: Slot,
    ring_hash: u64,
) -> Choice {
    let transport = &packet.transport;
    let next = real_of(slot);
    let previous = previous_real_of(slot);
    if !previous_of(slot).may_differ(ring_hash) && service.flags & TRACK_ALL == 0 {
        return of_ring(tables, service, transport, slot);
    }
    let hash = packet
        .addresses
        .flow_hash(tables.flow_secret(), transport.ports, index);
    let buckets = BucketPair::new(hash, tables.flow_mask());
    let now = tables.now();
    let entry = flow_table::look_up(tables, buckets);
    let opens = transport.opens();
    if let Some(entry) = entry
        && let Some(reset) = flow_table::hit(
            tables,
            entry,
            index,
            service.window,
            (now, ring_hash),
            transport,
        )
    {
        tables.count_flow(FlowEvent::Hit);
        tables.count_lookup(index, true);
        tables.note(Step::Real(entry.real, ChosenBy::Flow));
        if reset {
            return Choice {
                real: entry.real,
                treatment: Treatment::ResetDownReal,
            };
        }
        return Choice {
            real: entry.real,
            treatment: Treatment::ForwardRunning,
        };
    }
    tables.count_flow(FlowEvent::Miss);
    tables.count_lookup(index, false);

    let track = service.flags & TRACK_ALL != 0;
    let (real, by, keep) = if opens {
        if previous_of(slot) == Previous::Settled {
            (next, ChosenBy::Ring, false)
        } else {
            (next, ChosenBy::NewFlow, previous != 0)
        }
    } else if previous == 0 {
        (next, ChosenBy::Ring, false)
    } else {
        match of_service(tables, previous, index) {
            Some(state) => {
                if flow_table::resets(state, transport) {
                    tables.note(Step::Real(previous, ChosenBy::Previous));
                    return Choice {
                        real: previous,
                        treatment: Treatment::ResetDownReal,
                    };
                }
                (previous, ChosenBy::Previous, true)
            }
            None => (next, ChosenBy::NewFlow, true),
        }
    };
    if real == 0 {
        return empty(service, transport);
    }
    // An entry that no longer counts must not count again later, so it is overwritten. A flow that begins with a
    // reset is none.
    let keep = (keep || track) && transport.flags & tcp::RST == 0 || entry.is_some();
    let mut kept = false;
    if keep {
        let marks = marks(transport, by);
        let newcomer = Newcomer::new(tables, buckets, index, real, (now, marks, ring_hash));
        kept = flow_table::remember(tables, entry, &newcomer);
        // The next packets of a flow without an entry will be taken for those of a running one, so it begins where
        // they go.
        if !kept
            && opens
            && previous != 0
            && let Some(state) = of_service(tables, previous, index)
            && !flow_table::resets(state, transport)
        {
            tables.note(Step::Real(previous, ChosenBy::Previous));
            return Choice {
                real: previous,
                treatment: Treatment::Forward,
            };
        }
    }
    tables.note(Step::Real(real, by));
    Choice {
        real,
        // A UDP flow does not show its beginning: a new entry counts as one.
        treatment: if kept && transport.is_udp() {
            Treatment::ForwardNew
        } else {
            Treatment::Forward
        },
    }
}

/// The marks of a flow's new entry.
#[inline(always)]
fn marks(transport: &Transport, by: ChosenBy) -> u64 {
    let opening = if transport.opens() {
        OPENING | HALF_OPEN
    } else if transport.is_udp() && by != ChosenBy::Previous {
        OPENING
    } else {
        0
    };
    let closing = if transport.closes() { CLOSING } else { 0 };
    PROVISIONAL | opening | closing
}

/// A slot's previous real, if it counts.
#[inline(always)]
fn of_service<T: Tables>(tables: &T, real: u16, service: u32) -> Option<&Real> {
    tables
        .real(real)
        .filter(|real| flow_table::usable(real, service))
}

/// The choice for a packet that no real takes.
#[inline(always)]
fn empty(service: &Service, transport: &Transport) -> Choice {
    let treatment = if service.flags & RESET_EMPTY == 0 {
        Treatment::DropNoReal
    } else if transport.can_be_reset() {
        Treatment::ResetNoReal
    } else if transport.is_udp() {
        Treatment::UnreachableNoReal
    } else {
        Treatment::DropNoReal
    };
    Choice { real: 0, treatment }
}
