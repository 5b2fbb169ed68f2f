//! The flow table: looking a flow up, remembering it.
//!
//! All CPUs and the agent use the table at once and without locks. Each word is read and written whole.

use crate::{
    hash::BucketPair,
    limits::{CLOSING_TICKS, FLOWS_PER_BUCKET, STAMP_TICKS, UDP_CONFIRM_TICKS},
    lookup::{FlowEvent, Step, Tables},
    parse::Transport,
    shared::{SharedU64, is_set},
    tables::{
        flow::{
            Bucket, CLOSING, Flow, HALF_OPEN, OPENING, PROVISIONAL, RING_BITS, owner, real_of,
            turn, turns_since,
        },
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
    let limit = if stamp & (CLOSING | HALF_OPEN) != 0 {
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

/// The real that something else than its flow or the ring gives a packet of a service, if it is the service's and alive; else 0.
#[inline(always)]
pub(crate) fn alive_real<T: Tables>(tables: &T, real: u16, service: u32) -> u16 {
    let is_usable = tables
        .real(real)
        .is_some_and(|state| usable(state, service) && state.flags & RESET == 0);
    if is_usable { real } else { 0 }
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

/// Returns `None` if an entry does not count for a packet, else whether the packet is answered with a reset.
/// Renews the entry's stamp when that is due, and confirms the entry. The time and the flow's ring hash make the stamp.
///
/// A SYN goes where its flow's entry says only if the entry is confirmed: a forged SYN must not move a running
/// flow. A client that has forgotten the connection, and opens another one from the same port, is answered by
/// the real as RFC 9293 section 3.10.7.4 and RFC 5961 say, and loses no time if the real has forgotten it, too.
#[inline(always)]
pub fn hit<T: Tables>(
    tables: &T,
    entry: Entry<'_>,
    service: u32,
    window: u32,
    (now, ring_hash): (u32, u64),
    transport: &Transport,
) -> Option<bool> {
    let stamp = entry.flow.stamp.load();
    tables.note(Step::Entry(entry.real, stamp));
    if !alive(stamp, now, window) {
        return None;
    }
    let real = tables
        .real(entry.real)
        .filter(|real| usable(real, service))?;
    let reset = resets(real, transport);
    if transport.opens() {
        let running = stamp & (PROVISIONAL | CLOSING) == 0 && real.flags & RESET == 0;
        return running.then_some(false);
    }
    let closing = reset || transport.closes();
    let mark = stamp & CLOSING | if closing { CLOSING } else { 0 };
    let age = age(stamp, now);
    let changed = mark != stamp & (CLOSING | PROVISIONAL)
        && (!transport.is_udp() || age >= UDP_CONFIRM_TICKS);
    // A stamp is renewed about once a second: the cache line stays shared between CPUs the rest of the time.
    if age > STAMP_TICKS || changed {
        // From the packet: a program of an earlier build has kept fewer bits of the hash.
        let stamp = now as u64 | mark | ring_hash & RING_BITS;
        tables.stamp_flow(entry.flow, stamp);
    }
    Some(reset)
}

/// A flow that is to be remembered.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer {
    /// Its buckets.
    pub buckets: [u32; 2],
    /// Its service.
    pub service: u32,
    /// Its entry's [`Flow::owner`].
    pub owner: u64,
    /// Its entry's [`Flow::stamp`].
    pub stamp: u64,
}

impl Newcomer {
    /// A flow of a service and a real, with [`CLOSING`], [`PROVISIONAL`], [`OPENING`] and [`HALF_OPEN`] as its entry
    /// gets them.
    #[must_use]
    #[inline(always)]
    pub fn new<T: Tables>(
        tables: &T,
        buckets: BucketPair,
        service: u32,
        real: u16,
        (now, marks, ring_hash): (u32, u64, u64),
    ) -> Newcomer {
        Newcomer {
            buckets: [buckets.first, buckets.second],
            service,
            owner: owner(buckets.tag, real),
            stamp: now as u64 | marks | turn(tables.inserted()) | ring_hash & RING_BITS,
        }
    }
}

/// Remembers a newcomer, in `entry` if the flow has one already. Returns whether there was room.
#[inline(always)]
pub fn remember<T: Tables>(tables: &T, entry: Option<Entry<'_>>, newcomer: &Newcomer) -> bool {
    match entry {
        Some(entry) => {
            put(tables, entry.flow, FlowEvent::Inserted, newcomer);
            true
        }
        None => insert(tables, newcomer),
    }
}

#[inline(always)]
fn put<T: Tables>(tables: &T, flow: &SharedFlow, event: FlowEvent, newcomer: &Newcomer) {
    tables.write_flow(flow, newcomer.stamp, newcomer.owner);
    tables.count_flow(event);
}

/// What makes an entry one that may give way: it is provisional, or its flow has ended.
const EXPENDABLE: u64 = PROVISIONAL | CLOSING;

/// Number of a bucket's entries that must stay, times 8, plus the number of all that are not empty.
#[inline(always)]
fn load(bucket: &SharedBucket) -> u64 {
    let mut load = 0;
    for flow in &bucket.flows {
        let used = is_set(flow.owner.load());
        let stays = is_set(flow.stamp.load() & EXPENDABLE) ^ 1;
        load += used + (used & stays) * 8;
    }
    load
}

/// The entries that may give way to a newcomer.
///
/// An entry is written as one number: from the top its age plus one, the entries made since, and its position in the
/// flow's two buckets. The largest is the oldest entry, 0 is none.
#[derive(Default)]
struct Expendable {
    /// The number of those of the newcomer's own kind, times two, less the number of all. Its own kind is:
    /// provisional, of its service, and opening or not as it is.
    majority: i64,
    oldest: u64,
    oldest_own: u64,
}

impl Expendable {
    /// The entry that gives way.
    ///
    /// A kind that has half of them gives up one of its own: so the flood of one VIP does not take another's
    /// entries, SYNs do not take those of running flows, and the other way round. Any other kind takes the oldest.
    #[inline(always)]
    fn first_to_go(&self) -> u64 {
        if self.majority >= 0 {
            self.oldest_own
        } else {
            self.oldest
        }
    }
}

/// Where a newcomer can be put: the entry's position in the first of its buckets (0 to 3) or in the second (4 to 7),
/// [`FREE`] if no live entry is there, or [`FULL`]. Behind [`Tables::find_room`].
///
/// The bucket with fewer confirmed entries comes first, so that both of a flow's buckets are full only when
/// nearly all are. The look-up that failed has read both, so this costs no access to memory.
#[inline(always)]
pub fn find_room<T: Tables>(tables: &T, newcomer: &Newcomer) -> u64 {
    let (Some(mut first), Some(mut second)) = (
        tables.bucket(newcomer.buckets[0]),
        tables.bucket(newcomer.buckets[1]),
    ) else {
        return FULL;
    };
    let (mut less, mut more) = (load(first), load(second));
    // The position of an entry of the bucket that comes first.
    let mut base = 0;
    if more < less {
        core::mem::swap(&mut first, &mut second);
        core::mem::swap(&mut less, &mut more);
        base = 4;
    }
    let even = less >> 3 == more >> 3;
    let mut expendable = Expendable::default();
    if let Some(free) = search(tables, first, 0, newcomer, &mut expendable) {
        return FREE | free ^ base;
    }
    // A bucket with more confirmed entries gives only a free one, unless the other has none at all.
    let of_first = expendable.first_to_go();
    if let Some(free) = search(tables, second, 4, newcomer, &mut expendable) {
        return FREE | free ^ base;
    }
    let found = if even || is_set(of_first) == 0 {
        expendable.first_to_go()
    } else {
        of_first
    };
    if is_set(found) == 0 {
        return FULL;
    }
    found & 7 ^ base
}

/// A mark in [`find_room`]'s answer: there is no live entry.
pub const FREE: u64 = 8;
/// [`find_room`]'s answer if all entries that the flow might have are confirmed.
pub const FULL: u64 = 16;

/// Puts a newcomer into one of its buckets. Returns false if all entries there are confirmed.
#[inline(always)]
fn insert<T: Tables>(tables: &T, newcomer: &Newcomer) -> bool {
    let place = tables.find_room(newcomer);
    let [first, second] = newcomer.buckets;
    let bucket = if place & 4 == 0 { first } else { second };
    let (false, Some(bucket)) = (place & FULL != 0, tables.bucket(bucket)) else {
        tables.count_flow(FlowEvent::Refused);
        return false;
    };
    let flow = &bucket.flows[(place & 3) as usize];
    let stamp = flow.stamp.load();
    // The entry of a flow that has ended is no loss.
    let event = if place & FREE != 0 || stamp & CLOSING != 0 {
        FlowEvent::Inserted
    } else {
        FlowEvent::Evicted {
            opening: stamp & OPENING != 0,
        }
    };
    put(tables, flow, event, newcomer);
    true
}

const _: () = assert!(FLOWS_PER_BUCKET == 4, "positions take two bits");

/// Returns the position of a bucket's first free entry, and collects those before it that may give way. `position` is
/// that of the bucket's first entry.
#[inline(always)]
fn search<T: Tables>(
    tables: &T,
    bucket: &SharedBucket,
    position: u64,
    newcomer: &Newcomer,
    expendable: &mut Expendable,
) -> Option<u64> {
    // No loop: in one the kernel's verifier takes much longer to recognize what it has seen.
    let [a, b, c, d] = &bucket.flows;
    if is_free(tables, a, position, newcomer, expendable) {
        return Some(position);
    }
    if is_free(tables, b, position + 1, newcomer, expendable) {
        return Some(position + 1);
    }
    if is_free(tables, c, position + 2, newcomer, expendable) {
        return Some(position + 2);
    }
    is_free(tables, d, position + 3, newcomer, expendable).then_some(position + 3)
}

/// Whether an entry is free. One that is not, and may give way, is collected.
#[inline(always)]
fn is_free<T: Tables>(
    tables: &T,
    flow: &SharedFlow,
    position: u64,
    newcomer: &Newcomer,
    expendable: &mut Expendable,
) -> bool {
    let owner = flow.owner.load();
    let stamp = flow.stamp.load();
    let now = newcomer.stamp as u32;
    let Some(service) = holder(tables, owner, stamp, now) else {
        return true;
    };
    let age = age(stamp, now) as u64 + 1;
    let found = age << 16 | turns_since(stamp, newcomer.stamp) << 3 | position;
    // No branches but those of the maxima: the verifier follows each way through all entries.
    let counts = is_set(stamp & EXPENDABLE);
    let kind = (stamp ^ newcomer.stamp) & (PROVISIONAL | OPENING);
    let own = counts & (is_set(kind | (service ^ newcomer.service) as u64) ^ 1);
    expendable.majority += 2 * own as i64 - counts as i64;
    expendable.oldest = expendable.oldest.max(found * counts);
    expendable.oldest_own = expendable.oldest_own.max(found * own);
    false
}

/// The service of a live entry; `None` if the entry is free: empty, or past its own service's window.
#[inline(always)]
fn holder<T: Tables>(tables: &T, owner: u64, stamp: u64, now: u32) -> Option<u32> {
    if owner == 0 {
        return None;
    }
    // An entry whose real does not exist serves no flow.
    let real = tables
        .real(real_of(owner))
        .filter(|real| real.flags & MODE_MASK != 0)?;
    // A window is the service's: an entry is measured by its own service's, not by the newcomer's.
    let service = tables.service(real.service)?;
    alive(stamp, now, service.window).then_some(real.service)
}
