//! Flows that are ended because their real is to have fewer.

use lb_common::limits::CLOSING_TICKS;

use super::{
    Model, checksum,
    choose::{Choice, flow_hash, flow_name, ring_hash},
    flows::Entry,
    parse::{Carried, ETHERNET, Packet},
};

impl Model {
    /// Whether a packet ends its flow; then the flow is remembered as closing.
    pub(super) fn end_flow(&mut self, packet: &Packet, choice: &Choice, service: u32) -> bool {
        let place = self
            .flows
            .place(flow_hash(&self.world, &flow_name(packet, service)));
        let known = self.flows.find(place).copied();
        let Some(real) = self.world.reals[usize::from(choice.real)].as_mut() else {
            return false;
        };
        if real.down || real.reset {
            return false;
        }
        let Carried::Tcp { flags, data, .. } = packet.carries else {
            return false;
        };
        // ACK, and of SYN, FIN and RST none.
        if flags & 0x17 != 0x10 || data == 0 {
            return false;
        }
        let Some(budget) = real.shed.as_mut().filter(|flows| **flows > 0) else {
            return false;
        };
        // It is ended already: this is its data once more.
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
            ring_bits: (ring_hash(&self.world, packet) >> 48) as u16,
            stamp: self.now,
        };
        self.flows.remember(place, entry, &self.world, self.now);
        true
    }
}

/// The frame with its segment as a reset: nothing else of it is different.
pub fn last_segment(packet: &Packet, frame: &[u8]) -> Vec<u8> {
    let Carried::Tcp { offset, .. } = packet.carries else {
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
