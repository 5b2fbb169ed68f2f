//! The flow table: looking a flow up, remembering it.
//!
//! All CPUs and the agent use the table at once and without locks. Each word is read and written whole;
//! an entry is written stamp first, so that a new owner never stands beside a stamp older than its own.

use crate::{
    hash::Place,
    limits::{CLOSING_TICKS, FLOWS_PER_BUCKET, STAMP_TICKS},
    parse::Transport,
    store::{FlowEvent, Tables},
    tables::{
        flow::{Bucket, CLOSING, Flow, RING_BITS, owner, real_of},
        real::{DOWN, KIND_MASK, RESET, Real},
    },
    word::Word,
};

/// A [`Flow`] that others change at the same time.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct SharedFlow {
    /// See [`Flow::owner`].
    pub owner: Word,
    /// See [`Flow::stamp`].
    pub stamp: Word,
}

/// A [`Bucket`] that others change at the same time.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SharedBucket {
    /// See [`Bucket::flows`].
    pub flows: [SharedFlow; FLOWS_PER_BUCKET],
}

const _: () = assert!(size_of::<SharedFlow>() == size_of::<Flow>());
const _: () = assert!(size_of::<SharedBucket>() == size_of::<Bucket>());

/// Ticks since a stamp. The clock wraps, and another CPU's may be a tick ahead: a stamp from the future
/// is as good as now.
#[must_use]
#[inline(always)]
pub const fn age(stamp: u64, now: u32) -> u32 {
    let age = now.wrapping_sub(stamp as u32);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// Whether an entry with this stamp still counts; `window` is its service's.
#[must_use]
#[inline(always)]
pub const fn alive(stamp: u64, now: u32, window: u32) -> bool {
    let limit = if stamp & CLOSING != 0 {
        CLOSING_TICKS
    } else {
        window
    };
    age(stamp, now) <= limit
}

/// Whether a real can be sent to for this service: an index may have been given to another one.
#[must_use]
#[inline(always)]
pub const fn usable(real: &Real, service: u32) -> bool {
    real.flags & KIND_MASK != 0 && real.flags & DOWN == 0 && real.service == service
}

/// Whether a packet of a running flow of this real is answered with a reset. A reset itself goes to the real,
/// should it be able to hear it.
#[must_use]
#[inline(always)]
pub const fn resets(real: &Real, transport: &Transport) -> bool {
    real.flags & RESET != 0 && transport.can_be_reset()
}

/// A flow's entry, and the real it named when it was looked at: the entry may be another flow's by now.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The entry.
    pub flow: &'a SharedFlow,
    /// The flow's real.
    pub real: u16,
}

#[inline(always)]
fn find(bucket: &SharedBucket, tag: u64) -> Option<Entry<'_>> {
    for flow in &bucket.flows {
        let owner = flow.owner.load();
        if owner >> 16 == tag {
            return Some(Entry {
                flow,
                real: real_of(owner),
            });
        }
    }
    None
}

/// Looks a flow up: its entry, wherever it is.
#[inline(always)]
pub fn look_up<T: Tables>(tables: &T, place: Place) -> Option<Entry<'_>> {
    match tables
        .bucket(place.first)
        .and_then(|bucket| find(bucket, place.tag))
    {
        Some(entry) => Some(entry),
        None => find(tables.bucket(place.second)?, place.tag),
    }
}

/// Whether an entry counts, and whether a packet of its flow is to be reset; its stamp is renewed when that is
/// due. `None`: it does not count.
#[inline(always)]
pub fn hit<T: Tables>(
    tables: &T,
    entry: Entry<'_>,
    service: u32,
    window: u32,
    now: u32,
    transport: &Transport,
) -> Option<bool> {
    let stamp = entry.flow.stamp.load();
    if !alive(stamp, now, window) {
        return None;
    }
    let real = tables
        .real(entry.real)
        .filter(|real| usable(real, service))?;
    let reset = resets(real, transport);
    let closing = reset || transport.closes();
    let mark = stamp & CLOSING | if closing { CLOSING } else { 0 };
    // A stamp is renewed about once a second: the line stays shared between CPUs the rest of the time.
    if !tables.simulating() && (age(stamp, now) > STAMP_TICKS || mark != stamp & CLOSING) {
        let kept = stamp & RING_BITS;
        entry.flow.stamp.store(now as u64 | mark | kept);
    }
    Some(reset)
}

/// Remembers a flow's real, in `entry` if it has one already. `ring_hash` is the flow's.
#[inline(always)]
pub fn remember<T: Tables>(
    tables: &T,
    entry: Option<Entry<'_>>,
    place: Place,
    real: u16,
    ring_hash: u64,
    now: u32,
    closing: bool,
) {
    if tables.simulating() {
        return;
    }
    let (flow, evicted) = match entry {
        Some(entry) => (entry.flow, false),
        None => match room(tables, place, now) {
            Some(found) => found,
            None => return,
        },
    };
    let mark = if closing { CLOSING } else { 0 };
    flow.stamp.store(now as u64 | mark | ring_hash & RING_BITS);
    flow.owner.store(owner(place.tag, real));
    tables.count_flow(if evicted {
        FlowEvent::Evicted
    } else {
        FlowEvent::Inserted
    });
}

/// Entries of a bucket that no flow was ever put in.
#[inline(always)]
fn empty(bucket: &SharedBucket) -> u32 {
    let mut empty = 0;
    for flow in &bucket.flows {
        empty += (flow.owner.load() == 0) as u32;
    }
    empty
}

/// An entry to put a flow in, and whether a live one has to give way.
///
/// The emptier bucket comes first, so that both of a flow's buckets are full only where nearly all are. The
/// look-up that failed has read both, so asking costs no access to memory.
#[inline(always)]
fn room<T: Tables>(tables: &T, place: Place, now: u32) -> Option<(&SharedFlow, bool)> {
    let mut first = tables.bucket(place.first)?;
    let mut second = tables.bucket(place.second)?;
    if empty(second) > empty(first) {
        core::mem::swap(&mut first, &mut second);
    }
    let mut oldest = &first.flows[0];
    let mut most = 0;
    for flow in &first.flows {
        let (free, age) = weigh(tables, flow, now);
        if free {
            return Some((flow, false));
        }
        if age > most {
            most = age;
            oldest = flow;
        }
    }
    for flow in &second.flows {
        let (free, age) = weigh(tables, flow, now);
        if free {
            return Some((flow, false));
        }
        if age > most {
            most = age;
            oldest = flow;
        }
    }
    Some((oldest, true))
}

/// Whether an entry is free (empty or past its own service's window), and its age.
#[inline(always)]
fn weigh<T: Tables>(tables: &T, flow: &SharedFlow, now: u32) -> (bool, u32) {
    let owner = flow.owner.load();
    if owner == 0 {
        return (true, 0);
    }
    let stamp = flow.stamp.load();
    // A window is the service's, so one flow must not judge another by its own.
    let service = tables
        .real(real_of(owner))
        .filter(|real| real.flags & KIND_MASK != 0)
        .and_then(|real| tables.service(real.service));
    match service {
        Some(service) => (!alive(stamp, now, service.window), age(stamp, now)),
        // An entry of a real that there is not serves nobody.
        None => (true, 0),
    }
}
