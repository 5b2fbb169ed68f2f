//! Shedding: ending flows of a real that should have fewer.

use lb_common::limits::CLOSING_TICKS;

use super::{
    Model, checksum,
    choose::{Choice, flow_hash, flow_key, ring_hash},
    flows::Entry,
    parse::{ETHERNET, Packet, Part, Payload},
};

impl Model {
    /// Ends a packet's flow if the real has to shed flows, and remembers it as closing. Returns whether it ended the flow.
    pub(super) fn end_flow(&mut self, packet: &Packet, choice: &Choice, service: u32) -> bool {
        let place = self
            .flows
            .place(flow_hash(&self.testbed, &flow_key(packet, service)));
        let known = self.flows.find(place).copied();
        let Some(real) = self.testbed.reals[usize::from(choice.real)].as_mut() else {
            return false;
        };
        if real.down || real.reset {
            return false;
        }
        let Payload::Tcp { flags, data, .. } = packet.payload else {
            return false;
        };
        // A segment in fragments is not looked at.
        if packet.part != Part::Whole {
            return false;
        }
        // Only segments with ACK, without SYN, FIN and RST, count.
        if flags & 0x17 != 0x10 || data == 0 {
            return false;
        }
        let Some(budget) = real.shed.as_mut().filter(|flows| **flows > 0) else {
            return false;
        };
        // The flow has been ended already, and this is a retransmission of its data.
        if let Some(entry) = known
            && entry.real == choice.real
            && entry.closing
            && entry.age(self.now) <= CLOSING_TICKS
        {
            return false;
        }
        *budget -= 1;
        self.ended += 1;
        let entry = Entry {
            tag: place.tag,
            real: choice.real,
            closing: true,
            provisional: false,
            opening: false,
            half_open: false,
            ring_bits: (ring_hash(&self.testbed, packet, service) >> 44) as u32,
            stamp: self.now,
        };
        self.flows.remember(place, entry, &self.testbed, self.now);
        true
    }
}

/// Returns the frame with its segment turned into a reset, and otherwise unchanged.
pub fn last_segment(packet: &Packet, frame: &[u8]) -> Vec<u8> {
    let Payload::Tcp { offset, .. } = packet.payload else {
        unreachable!("only TCP flows are ended");
    };
    let mut frame = frame.to_vec();
    let header = &mut frame[ETHERNET + offset..][..20];
    let word = |header: &[u8], at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let old = word(header, 12);
    header[13] = 0x14;
    let sum = checksum::update(word(header, 16), old, word(header, 12));
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    frame
}
