//! Signs of how the reals serve their flows, seen from the clients' side: SYNs that are repeated, resets, and how long
//! flows live. Steering judges readings of load by them.
//!
//! A sample of the TCP flows stands in a small table, from the SYN to the first FIN or RST of the client. Only packets
//! that open or end a flow look at it. Which flows are sampled follows from the room: a SYN takes the entry of its hash
//! if that is free, so all flows are sampled where few are open, and a part of them, whatever their life, where many
//! are. An entry whose flow did not end is free again after [`SAMPLE_TICKS`].
//!
//! A flood of SYNs fills the table and counts little from then on. It fills the part of its VIP, which one in
//! [`SAMPLE_PARTS`] VIPs shares.

use crate::{
    headers::tcp,
    limits::{SAMPLE_PARTS, SAMPLE_TICKS, SAMPLES_PER_PART, TICK_SHIFT},
    lookup::Tables,
    parse::Transport,
    tables::signs::{life_bucket, real_of},
};

/// What a packet does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// It opens it.
    Opened,
    /// It ends it in an orderly way, with a FIN.
    Ended,
    /// It ends it with a reset.
    Reset,
}

impl FlowChange {
    /// What a TCP packet does that opens or ends its flow.
    #[must_use]
    #[inline(always)]
    pub const fn of(transport: &Transport) -> FlowChange {
        if transport.flags & tcp::RST != 0 {
            FlowChange::Reset
        } else if transport.flags & tcp::FIN != 0 {
            FlowChange::Ended
        } else {
            FlowChange::Opened
        }
    }

    /// Its number, for a function that takes words.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The change with this number; any other number is [`FlowChange::Opened`].
    #[must_use]
    #[inline(always)]
    pub const fn from_number(number: u8) -> FlowChange {
        match number {
            1 => FlowChange::Ended,
            2 => FlowChange::Reset,
            _ => FlowChange::Opened,
        }
    }
}

/// Counts a change of a flow, which has this ring hash, if the flow is sampled. The packet goes to `real`.
///
/// CPUs that change the same entry at the same moment may lose a sample or count a wrong life.
#[inline(always)]
pub fn note<T: Tables>(tables: &T, change: FlowChange, hash: u64, real: u16) {
    let Some(service) = tables.real(real).map(|real| real.service) else {
        return;
    };
    let Some(sample) = tables.sample(place(hash, service)) else {
        return;
    };
    let owner = sample.owner.load();
    let own = owner != 0 && (owner ^ hash) >> 16 == 0;
    if change != FlowChange::Opened {
        if !own {
            return;
        }
        let life = tables.nanoseconds().saturating_sub(sample.start.load());
        sample.owner.store(0);
        if let Some(signs) = tables.signs(real_of(owner)) {
            signs.lives[life_bucket(life)].increment();
            if change == FlowChange::Reset {
                signs.resets.increment();
            }
        }
        return;
    }
    // Where many flows are open, most SYNs find another flow's entry. The coarse clock, which may be a tick behind, is
    // enough for them, at a tenth of the time.
    if owner != 0 && is_open(sample.start.load(), tables.now()) {
        if !own {
            return;
        }
        let before = real_of(owner);
        if let Some(signs) = tables.signs(before) {
            signs.repeated.increment();
        }
        if before == real {
            return;
        }
        // From here on it is a flow of the other real.
    }
    sample.start.store(tables.nanoseconds());
    sample.owner.store(hash >> 16 << 16 | u64::from(real));
    if let Some(signs) = tables.signs(real) {
        signs.opened.increment();
    }
}

/// Whether a sampled flow that began at `start`, in nanoseconds, may still be open in the tick `now`.
#[inline(always)]
const fn is_open(start: u64, now: u32) -> bool {
    // The tick of the start may be one ahead.
    now.wrapping_sub((start >> TICK_SHIFT) as u32)
        .wrapping_add(1)
        < SAMPLE_TICKS
}

/// The entry of a flow.
#[inline(always)]
const fn place(hash: u64, service: u32) -> u32 {
    let part = service % SAMPLE_PARTS;
    part * SAMPLES_PER_PART + (hash as u32 & (SAMPLES_PER_PART - 1))
}

const _: () = assert!(SAMPLES_PER_PART.is_power_of_two());
const _: () = assert!(
    SAMPLES_PER_PART <= 1 << 16,
    "an owner has the bits of the hash that do not choose the entry"
);
