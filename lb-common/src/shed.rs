//! Ending flows of a real that is to have fewer, one per segment with data, until its budget is spent.
//!
//! On its way to the real the segment becomes a reset with the same sequence number. In order, as nearly every
//! segment is, that is the number the real expects, so it closes the connection at once (RFC 5961 section 3.2).
//! The client still waits for the data to be acknowledged: it sends it again, and the real, which knows no such
//! connection any more, answers with a reset of its own, with the right numbers. So both ends are clean and no
//! answer has to be made up. A segment out of order ends nothing: the real asks for the right one.
//!
//! The flow is remembered as closing. So the data that is sent again is not taken for another flow's and goes to
//! the same real, whatever the ring says by then; a SYN chooses anew as ever.

use crate::{
    checksum,
    flow_table::{alive, look_up, remember},
    frame::{Fields as _, Frame},
    hash::{Addresses, Place},
    parse::{ACK, ETHERNET, FIN, Packet, RST, SYN, TYPE_IP4, packet4, packet6},
    store::Tables,
    tables::{
        flow::CLOSING,
        real::{DOWN, KIND_L2, KIND_MASK, RESET},
    },
};

/// Makes a frame for the real with `index` one that ends its flow, if the real's budget is not spent and the
/// segment will do.
///
/// A function of its own that parses the frame once more: so the packets of a balancer that sheds nothing pay for
/// the look at a flag and nothing else.
///
/// Two CPUs may find the same last flow in the budget: no more flows are ended in excess than there are CPUs.
#[inline(never)]
pub fn end_flow<F: Frame, T: Tables>(frame: &mut F, tables: &T, index: u16) {
    let Some(header) = frame.window::<ETHERNET>(0) else {
        return;
    };
    if header.half::<12>() == TYPE_IP4 {
        if let Ok(packet) = packet4(frame) {
            end(frame, tables, index, &packet);
        }
    } else if let Ok(packet) = packet6(frame) {
        end(frame, tables, index, &packet);
    }
}

#[inline(always)]
fn end<A: Addresses, F: Frame, T: Tables>(
    frame: &mut F,
    tables: &T,
    index: u16,
    packet: &Packet<A>,
) {
    let transport = &packet.transport;
    if !transport.is_tcp() || transport.flags & (ACK | SYN | FIN | RST) != ACK {
        return;
    }
    let (Some(real), Some(budget)) = (tables.real(index), tables.budget(index)) else {
        return;
    };
    // What becomes of a dead real's flows is said elsewhere.
    if real.flags & (DOWN | RESET) != 0 {
        return;
    }
    // What is about to be dropped ends nothing.
    if budget.load() as i64 <= 0 || (packet.ttl <= 1 && real.flags & KIND_MASK != KIND_L2) {
        return;
    }
    let hash = packet
        .addresses
        .flow_hash(tables.flow_secret(), transport.ports, real.service);
    let place = Place::new(hash, tables.flow_mask());
    let now = tables.now();
    let entry = look_up(tables, place);
    if let Some(entry) = entry {
        let stamp = entry.flow.stamp.load();
        if entry.real == index && stamp & CLOSING != 0 && alive(stamp, now, 0) {
            return;
        }
    }
    let Some(segment) = frame.window::<20>(transport.offset as usize) else {
        return;
    };
    let headers = transport.offset - ETHERNET as u32 + u32::from(segment.byte::<12>() >> 4) * 4;
    if packet.length <= headers {
        return;
    }
    let old = segment.half::<12>();
    segment.set_byte::<13>((RST | ACK) as u8);
    let sum = checksum::update(segment.half::<16>(), old, segment.half::<12>());
    segment.set_half::<16>(sum);
    if !tables.simulating() {
        let ring_hash =
            packet
                .addresses
                .ring_hash(tables.ring_seed(), transport.ports, transport.protocol);
        budget.take_one();
        remember(tables, entry, place, index, ring_hash, now, true);
        tables.count_ended(index);
    }
}
