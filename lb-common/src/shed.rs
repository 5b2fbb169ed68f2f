//! Ending flows of a real that is to have fewer, one per segment with data, until its budget is spent.
//!
//! On its way to the real the segment becomes a reset with the same sequence number. In order, as nearly every
//! segment is, that is the number the real expects, so it closes the connection at once (RFC 5961 section 3.2).
//! The client still waits for the data to be acknowledged: it sends it again, and the real, which no longer knows
//! the connection, answers with a reset of its own, with the right numbers. So both ends are clean and no answer
//! has to be made up. A segment out of order ends nothing: the real asks for the right one.
//!
//! The flow is remembered as closing, so the data that is sent again goes to the same real, whatever the ring says
//! by then. A SYN chooses again.

use crate::{
    checksum,
    flow_table::{Newcomer, alive, look_up, remember},
    forward,
    frame::{Fields as _, Frame},
    hash::{self, Addresses, BucketPair},
    headers::{IP, ethernet, tcp},
    ip::{Ip, V4, V6},
    lookup::Tables,
    parse::Packet,
    tables::{
        flow::CLOSING,
        real::{DOWN, RESET, Real},
    },
};

/// Makes a frame for the real with `index` one that ends its flow, if the real's budget is not spent and the
/// segment is one that can.
///
/// A kernel program has it as a function of its own ([`Tables::end_flow`]) that parses the frame once more: so the packets
/// of a balancer that sheds nothing pay for one flag and nothing else.
///
/// Returns whether it has ended a flow without an entry, which is then to be remembered.
///
/// Two CPUs may find the same last flow in the budget: no more flows are ended in excess than there are CPUs.
#[inline(always)]
pub fn end_flow<F: Frame, T: Tables>(frame: &mut F, tables: &T, index: u16) -> bool {
    let Some(header) = frame.window::<{ ethernet::LENGTH }>(0) else {
        return false;
    };
    if header.u16_at::<{ ethernet::TYPE }>() == ethernet::TYPE_IPV4 {
        V4::parse(frame).is_ok_and(|packet| end(frame, tables, index, &packet))
    } else {
        V6::parse(frame).is_ok_and(|packet| end(frame, tables, index, &packet))
    }
}

/// Remembers the flow of a packet, which [`end_flow`] has ended and which has no entry.
///
/// Not a part of that function: the stacks of three functions that call each other, this program's, that one's and
/// that of [`Tables::find_room`], do not fit into the kernel's limit of 512 bytes.
#[inline(always)]
pub fn remember_ended<A: Addresses, T: Tables>(
    tables: &T,
    index: u16,
    service: u32,
    packet: &Packet<A>,
    ring_hash: u64,
) {
    let ports = packet.transport.ports;
    let hash = packet
        .addresses
        .flow_hash(tables.flow_secret(), ports, service);
    let buckets = BucketPair::new(hash, tables.flow_mask());
    let terms = (tables.now(), CLOSING, ring_hash);
    // Without an entry the data that is sent again goes where the ring says.
    remember(
        tables,
        None,
        &Newcomer::new(tables, buckets, service, index, terms),
    );
}

/// Whether the real's forwarding mode drops a packet with this TTL.
#[inline(always)]
fn expires(real: &Real, ttl: u32) -> bool {
    ttl <= 1 && forward::decrements_ttl(real.mode())
}

#[inline(always)]
fn end<A: Addresses, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    index: u16,
    packet: &Packet<A>,
) -> bool {
    /// The word of TCP's checksum that holds the flags.
    const FLAGS_WORD: usize = tcp::DATA_OFFSET;
    let transport = &packet.transport;
    let control = tcp::ACK | tcp::SYN | tcp::FIN | tcp::RST;
    if !transport.is_tcp() || transport.flags & control != tcp::ACK {
        return false;
    }
    let (Some(real), Some(budget)) = (tables.real(index), tables.budget(index)) else {
        return false;
    };
    // The flows of a dead real are moved, kept or reset as its VIP says.
    if real.flags & (DOWN | RESET) != 0 {
        return false;
    }
    // A packet that is about to be dropped ends nothing.
    if budget.load() as i64 <= 0 || expires(real, packet.ttl) {
        return false;
    }
    let hash = packet
        .addresses
        .flow_hash(tables.flow_secret(), transport.ports, real.service);
    let buckets = BucketPair::new(hash, tables.flow_mask());
    let now = tables.now();
    let entry = look_up(tables, buckets);
    if let Some(entry) = entry {
        let stamp = entry.flow.stamp.load();
        if entry.real == index && stamp & CLOSING != 0 && alive(stamp, now, 0) {
            return false;
        }
    }
    let Some(segment) = frame.window::<{ tcp::LENGTH }>(transport.offset as usize) else {
        return false;
    };
    let size = u32::from(segment.u8_at::<{ tcp::DATA_OFFSET }>() >> 4) * 4;
    let headers = transport.offset - IP as u32 + size;
    if packet.length <= headers {
        return false;
    }
    let old = segment.u16_at::<FLAGS_WORD>();
    segment.set_u8_at::<{ tcp::FLAGS }>((tcp::RST | tcp::ACK) as u8);
    let new = segment.u16_at::<FLAGS_WORD>();
    let sum = checksum::update(segment.u16_at::<{ tcp::CHECKSUM }>(), old, new);
    segment.set_u16_at::<{ tcp::CHECKSUM }>(sum);
    let flags = tables
        .service(real.service)
        .map_or(0, |service| service.flags);
    let ring_hash = hash::of_flow(
        tables.ring_seed(),
        flags,
        &packet.addresses,
        transport.ports,
        transport.protocol,
    );
    tables.take_from_budget(budget);
    tables.count_ended(index);
    if entry.is_none() {
        return true;
    }
    let terms = (now, CLOSING, ring_hash);
    let newcomer = Newcomer::new(tables, buckets, real.service, index, terms);
    remember(tables, entry, &newcomer);
    false
}
