//! Signs of how the reals serve their flows, seen from the clients' side: SYNs that are repeated, resets, and how long
//! flows live. Steering judges readings of load by them.
//!
//! A sample of the TCP flows stands in a small table, from the SYN to the first FIN or RST of the client. Only packets
//! that open or end a flow look at it. Which flows are sampled follows from the room: a SYN takes the entry of its hash
//! if that is free, so all flows are sampled where few are open, and a part of them, whatever their life, where many
//! are. An entry whose flow did not end is free again after [`SAMPLE_NANOSECONDS`].
//!
//! A flood of SYNs fills the table and counts little from then on. It fills the part of its VIP, which one in
//! [`SAMPLE_PARTS`] VIPs shares.

use crate::{
    headers::tcp,
    limits::{SAMPLE_NANOSECONDS, SAMPLE_PARTS, SAMPLES_PER_PART},
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
    let now = tables.nanoseconds();
    if owner != 0 && now.saturating_sub(sample.start.load()) < SAMPLE_NANOSECONDS {
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
    sample.start.store(now);
    sample.owner.store(hash >> 16 << 16 | u64::from(real));
    if let Some(signs) = tables.signs(real) {
        signs.opened.increment();
    }
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
