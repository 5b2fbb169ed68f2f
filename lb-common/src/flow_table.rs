//! The flow table: looking a flow up, remembering it.
//!
//! All CPUs and the agent use the table at once and without locks. Each word is read and written whole.

use crate::{
    hash::BucketPair,
    limits::{CLOSING_TICKS, FLOWS_PER_BUCKET, STAMP_TICKS},
    lookup::{FlowEvent, Tables},
    parse::Transport,
    shared::SharedU64,
    tables::{
        flow::{Bucket, CLOSING, Flow, RING_BITS, owner, real_of},
        real::{DOWN, MODE_MASK, RESET, Real},
    },
};

/// A [`Flow`] that other CPUs and the agent change at the same time.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct SharedFlow {
    /// See [`Flow::owner`].
    pub owner: SharedU64,
    /// See [`Flow::stamp`].
    pub stamp: SharedU64,
}

/// A [`Bucket`] that other CPUs and the agent change at the same time.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SharedBucket {
    /// See [`Bucket::flows`].
    pub flows: [SharedFlow; FLOWS_PER_BUCKET],
}

const _: () = assert!(size_of::<SharedFlow>() == size_of::<Flow>());
const _: () = assert!(size_of::<SharedBucket>() == size_of::<Bucket>());

/// Ticks since a stamp. The clock wraps, and another CPU's may be a tick ahead: a stamp from the future
/// has age 0.
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
    real.flags & MODE_MASK != 0 && real.flags & DOWN == 0 && real.service == service
}

/// Whether a packet of a running flow of this real is answered with a reset. A reset itself goes to the real,
/// which may still be able to receive it.
#[must_use]
#[inline(always)]
pub const fn resets(real: &Real, transport: &Transport) -> bool {
    real.flags & RESET != 0 && transport.can_be_reset()
}

/// A flow's entry, and the real it named when it was read: the entry may belong to another flow by now.
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

/// Looks a flow up in both of its buckets.
#[inline(always)]
pub fn look_up<T: Tables>(tables: &T, buckets: BucketPair) -> Option<Entry<'_>> {
    match tables
        .bucket(buckets.first)
        .and_then(|bucket| find(bucket, buckets.tag))
    {
        Some(entry) => Some(entry),
        None => find(tables.bucket(buckets.second)?, buckets.tag),
    }
}

/// Returns `None` if an entry does not count, else whether a packet of its flow is answered with a reset. Renews
/// the entry's stamp when that is due.
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
    // A stamp is renewed about once a second: the cache line stays shared between CPUs the rest of the time.
    if age(stamp, now) > STAMP_TICKS || mark != stamp & CLOSING {
        let kept = stamp & RING_BITS;
        tables.stamp_flow(entry.flow, now as u64 | mark | kept);
    }
    Some(reset)
}

/// Remembers a flow's real, in `entry` if the flow has one already. `ring_hash` is the flow's.
#[inline(always)]
pub fn remember<T: Tables>(
    tables: &T,
    entry: Option<Entry<'_>>,
    buckets: BucketPair,
    real: u16,
    ring_hash: u64,
    now: u32,
    closing: bool,
) {
    let (flow, evicted) = match entry {
        Some(entry) => (entry.flow, false),
        None => match room(tables, buckets, now) {
            Some(found) => found,
            None => return,
        },
    };
    let mark = if closing { CLOSING } else { 0 };
    let stamp = now as u64 | mark | ring_hash & RING_BITS;
    tables.write_flow(flow, stamp, owner(buckets.tag, real));
    tables.count_flow(if evicted {
        FlowEvent::Evicted
    } else {
        FlowEvent::Inserted
    });
}

/// Number of a bucket's entries that no flow was ever put in.
#[inline(always)]
fn empty(bucket: &SharedBucket) -> u32 {
    let mut empty = 0;
    for flow in &bucket.flows {
        empty += (flow.owner.load() == 0) as u32;
    }
    empty
}

/// An entry to put a flow in, and whether a live flow is evicted from it.
///
/// The emptier bucket comes first, so that both of a flow's buckets are full only when nearly all are. The
/// look-up that failed has read both, so this costs no access to memory.
#[inline(always)]
fn room<T: Tables>(tables: &T, buckets: BucketPair, now: u32) -> Option<(&SharedFlow, bool)> {
    let mut first = tables.bucket(buckets.first)?;
    let mut second = tables.bucket(buckets.second)?;
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
    // A window is the service's: an entry is measured by its own service's, not by the new flow's.
    let service = tables
        .real(real_of(owner))
        .filter(|real| real.flags & MODE_MASK != 0)
        .and_then(|real| tables.service(real.service));
    match service {
        Some(service) => (!alive(stamp, now, service.window), age(stamp, now)),
        // An entry whose real does not exist serves no flow.
        None => (true, 0),
    }
}
