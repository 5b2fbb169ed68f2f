//! The ring hash of services that have Katran's hash of flows, from its description: Bob Jenkins' lookup3
//! (`hashlittle`) of the client's address and both ports, and its remainder by 65,537.

use std::net::IpAddr;

/// Slots of Katran's rings.
const SLOTS: u64 = 65_537;

/// lookup3 of some bytes, which are words with the lowest byte first.
fn lookup3(bytes: &[u8], seed: u32) -> u32 {
    let word = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0, |word, byte| word << 8 | u32::from(*byte))
    };
    let words: Vec<u32> = bytes.chunks(4).map(word).collect();
    let start = 0xDEAD_BEEF_u32
        .wrapping_add(bytes.len() as u32)
        .wrapping_add(seed);
    let mut state = [start; 3];
    let blocks: Vec<&[u32]> = words.chunks(3).collect();
    for (number, block) in blocks.iter().enumerate() {
        for (word, added) in state.iter_mut().zip(*block) {
            *word = word.wrapping_add(*added);
        }
        if number + 1 < blocks.len() {
            // Each step takes the next word.
            for (step, rotation) in [4, 6, 8, 16, 19, 4].into_iter().enumerate() {
                let [at, next, last] = [step % 3, (step + 1) % 3, (step + 2) % 3];
                state[at] = state[at].wrapping_sub(state[last]) ^ state[last].rotate_left(rotation);
                state[last] = state[last].wrapping_add(state[next]);
            }
        }
    }
    for (step, rotation) in [14, 11, 25, 16, 4, 14, 24].into_iter().enumerate() {
        let [at, last] = [(step + 2) % 3, (step + 1) % 3];
        state[at] = (state[at] ^ state[last]).wrapping_sub(state[last].rotate_left(rotation));
    }
    state[2]
}

/// Returns the slot of a flow in Katran's ring.
fn slot(client: IpAddr, (from, to): (u16, u16)) -> u64 {
    let address = match client {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => lookup3(&address.octets(), 512).to_le_bytes(),
    };
    let flow = [&address[..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
    u64::from(lookup3(&flow, 512 * SLOTS as u32)) % SLOTS
}

/// Returns the ring hash that leads to the flow's slot: of the numbers of 20 bits with which only hashes of this slot
/// begin, the one that the high half of `other` chooses, and the other bits of `other`.
pub(super) fn ring_hash(client: IpAddr, ports: (u16, u16), other: u64) -> u64 {
    let slot = slot(client, ports);
    let slot_of = |high: u64| (high * SLOTS) >> 32;
    let first = (slot << 20) / SLOTS;
    let beginnings: Vec<u64> = (first..first + 17)
        .filter(|number| [number << 12, (number << 12) + 0xFFF].map(slot_of) == [slot; 2])
        .collect();
    let chosen = (u128::from(other >> 32) * beginnings.len() as u128) >> 32;
    beginnings[chosen as usize] << 44 | other & (u64::MAX >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_lookup3() {
        // The author's examples.
        let text = b"Four score and seven years ago";
        assert_eq!(
            [0, 1].map(|seed| lookup3(text, seed)),
            [0x1777_0551, 0xCD62_8161]
        );
        assert_eq!(slot("172.16.0.1".parse().unwrap(), (31_337, 80)), 43_349);
        // From a third implementation, in another language.
        assert_eq!(slot("fc00:2::1".parse().unwrap(), (31_337, 80)), 37_505);
    }

    #[test]
    fn each_slot_has_fifteen_beginnings() {
        for port in 0..2_000 {
            let client = "198.51.100.7".parse().unwrap();
            let slot = slot(client, (port, 80));
            let [least, most] = [0, u64::MAX].map(|other| ring_hash(client, (port, 80), other));
            assert_eq!((most >> 44) - (least >> 44), 14);
            for hash in [least, most] {
                assert_eq!(((hash >> 32) * SLOTS) >> 32, slot);
            }
        }
    }
}
