//! Which real a packet goes to: the ring's slot, and the flow table where the slot is not settled.

use crate::{
    flow_table,
    hash::{Addresses, Place, slot_index},
    parse::Transport,
    reason::{ChosenBy, Reason},
    store::{FlowEvent, Step, Tables},
    tables::{
        real::Real,
        ring::{Previous, Slot, previous_of, real_of},
        service::{RESET_EMPTY, Service, TRACK_ALL},
    },
};

/// Chooses the real of a packet for `service`, the one with `index`: never 0. `opened` is set if an entry
/// is made for a flow that does not tell its beginning itself (UDP).
///
/// # Errors
/// [`Reason::NoReal`] or [`Reason::ResetNoReal`]; [`Reason::ResetDownReal`]; [`Reason::BadTables`] if a slot is
/// missing.
#[inline(always)]
pub fn choose<A: Addresses, T: Tables>(
    tables: &T,
    index: u32,
    service: &Service,
    addresses: A,
    transport: &Transport,
    hash: u64,
    opened: &mut bool,
) -> Result<u16, Reason> {
    // One load: the agent moves a service to another ring with one store.
    let ring = service.ring;
    let slots = (ring >> 32) as u32;
    let slot = if slots == 0 {
        0
    } else {
        tables
            .slot((ring as u32).wrapping_add(slot_index(hash, slots)))
            .ok_or(Reason::BadTables)?
    };
    if previous_of(slot) == Previous::Settled && service.flags & TRACK_ALL == 0 {
        let real = real_of(slot);
        if real == 0 {
            return Err(empty(service, transport));
        }
        tables.note(Step::Real(real, ChosenBy::Ring));
        return Ok(real);
    }
    unsettled(
        tables, index, service, addresses, transport, hash, slot, opened,
    )
}

/// Chooses where the flow table has a say.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "inlined: the second half of `choose`"
)]
fn unsettled<A: Addresses, T: Tables>(
    tables: &T,
    index: u32,
    service: &Service,
    addresses: A,
    transport: &Transport,
    ring_hash: u64,
    slot: Slot,
    opened: &mut bool,
) -> Result<u16, Reason> {
    let next = real_of(slot);
    let previous = previous_of(slot);
    let hash = addresses.flow_hash(tables.flow_secret(), transport.ports, index);
    let place = Place::new(hash, tables.flow_mask());
    let now = tables.now();
    let entry = flow_table::look_up(tables, place);
    let opens = transport.opens();
    if let Some(entry) = entry
        && !opens
        && let Some(reset) = flow_table::hit(tables, entry, index, service.window, now, transport)
    {
        if !tables.simulating() {
            tables.count_flow(FlowEvent::Hit);
        }
        tables.note(Step::Real(entry.real, ChosenBy::Flow));
        if reset {
            return Err(Reason::ResetDownReal);
        }
        return Ok(entry.real);
    }
    if !tables.simulating() {
        tables.count_flow(FlowEvent::Miss);
    }

    let track = service.flags & TRACK_ALL != 0;
    let (real, by, keep) = if opens {
        match previous {
            Previous::Settled => (next, ChosenBy::Ring, false),
            Previous::Exceptions => (next, ChosenBy::NewFlow, false),
            Previous::Real(_) => (next, ChosenBy::NewFlow, true),
        }
    } else {
        match previous {
            Previous::Real(real) => match of_service(tables, real, index) {
                Some(state) => {
                    if flow_table::resets(state, transport) {
                        tables.note(Step::Real(real, ChosenBy::Previous));
                        return Err(Reason::ResetDownReal);
                    }
                    (real, ChosenBy::Previous, true)
                }
                None => (next, ChosenBy::NewFlow, true),
            },
            Previous::Settled | Previous::Exceptions => (next, ChosenBy::Ring, false),
        }
    };
    if real == 0 {
        return Err(empty(service, transport));
    }
    // An entry that does not count any more must not come back to life, so it is overwritten.
    let keep = keep || track || entry.is_some();
    if keep {
        let closes = transport.closes();
        flow_table::remember(tables, entry, place, real, ring_hash, now, closes);
    }
    *opened |= keep && !transport.is_tcp();
    tables.note(Step::Real(real, by));
    Ok(real)
}

/// A slot's previous real, if it counts.
#[inline(always)]
fn of_service<T: Tables>(tables: &T, real: u16, service: u32) -> Option<&Real> {
    tables
        .real(real)
        .filter(|real| flow_table::usable(real, service))
}

/// What becomes of a packet that no real takes.
#[inline(always)]
fn empty(service: &Service, transport: &Transport) -> Reason {
    if service.flags & RESET_EMPTY != 0 && transport.can_be_reset() {
        Reason::ResetNoReal
    } else {
        Reason::NoReal
    }
}
