//! Packets that name their real: server ids, read byte by byte as the documents describe them.

use std::net::IpAddr;

use lb_common::tables::service::{ID_QUIC_KATRAN, ID_QUIC_LB, ID_TCP_OPTION, ID_UDP_STABLE};

use super::{
    Model,
    parse::{ETHERNET, Packet, Part, Payload},
    random::Random,
};

/// Where packets of a service name their real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// Nowhere.
    #[default]
    None,
    /// In connection ids of QUIC-LB, of the configurations in [`CONFIGS`].
    QuicLb,
    /// In connection ids of Katran's servers.
    QuicKatran,
    /// In the first bytes of a datagram.
    UdpStable,
    /// In an option of TCP.
    TcpOption,
}

impl Ids {
    /// The flag of the service's record.
    #[must_use]
    pub const fn flag(self) -> u32 {
        match self {
            Ids::None => 0,
            Ids::QuicLb => ID_QUIC_LB,
            Ids::QuicKatran => ID_QUIC_KATRAN,
            Ids::UdpStable => ID_UDP_STABLE,
            Ids::TcpOption => ID_TCP_OPTION,
        }
    }
}

/// A configuration of QUIC-LB.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Its number.
    pub number: u32,
    /// Bytes of the server id.
    pub id: usize,
    /// Bytes of the nonce.
    pub nonce: usize,
    /// The key.
    pub key: Option<[u8; 16]>,
}

const KEY: Option<[u8; 16]> = Some(*b"the key of model");

/// Plain; in one pass; in four, of even and odd lengths, with ids that are shorter and longer than the nonce.
pub const CONFIGS: [Config; 6] = [
    config(0, 2, 4, None),
    config(1, 8, 8, KEY),
    config(2, 3, 4, KEY),
    config(3, 4, 4, KEY),
    config(4, 10, 5, KEY),
    config(6, 15, 4, KEY),
];

const fn config(number: u32, id: usize, nonce: usize, key: Option<[u8; 16]>) -> Config {
    Config {
        number,
        id,
        nonce,
        key,
    }
}

impl Model {
    /// The live real that a packet names. One that names another is counted.
    pub(super) fn named(&mut self, packet: &Packet, frame: &[u8], service: u32) -> Option<u16> {
        let ids = self.testbed.services.get(service as usize)?.ids;
        // Those behind the first fragment are what that one named.
        if ids == Ids::None {
            return None;
        }
        if let Part::Later(name) = packet.part {
            let named = self.fragments.get(&name)?.named;
            return named.filter(|real| self.serves(*real, service) && !self.is_dead(*real));
        }
        let ip = &frame[ETHERNET..][..packet.length];
        let id = match (ids, packet.payload) {
            (Ids::TcpOption, Payload::Tcp { flags, offset, .. }) if flags & 0x02 == 0 => {
                of_options(&ip[offset..])
            }
            (_, Payload::Udp { .. }) => {
                let header = &ip[udp_offset(ip, packet.source)..];
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                of_datagram(ids, header.get(8..length).unwrap_or(&header[8..]))
            }
            _ => None,
        }?;
        let real = self.testbed.server_ids.get(&(service, id)).copied();
        let real = real.filter(|real| self.serves(*real, service) && !self.is_dead(*real));
        let counters = &mut self.server_ids[service as usize];
        match real {
            Some(_) => counters.known += 1,
            None => counters.unknown += 1,
        }
        if let (Part::First(name), Some(_)) = (packet.part, real)
            && let Some(first) = self.fragments.get_mut(&name)
        {
            first.named = real;
        }
        real
    }
}

/// The offset of UDP's header in an IP packet that has one.
fn udp_offset(ip: &[u8], source: IpAddr) -> usize {
    if source.is_ipv4() {
        return usize::from(ip[0] & 0xF) * 4;
    }
    let (mut next, mut at) = (ip[6], 40);
    while next != 17 {
        let length = if next == 44 { 0 } else { ip[at + 1] };
        next = ip[at];
        at += 8 * (usize::from(length) + 1);
    }
    at
}

fn number(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Option 0xB7 of length 6, among the first fifteen.
fn of_options(tcp: &[u8]) -> Option<u128> {
    let mut options = &tcp[20..usize::from(tcp[12] >> 4) * 4];
    for _ in 0..15 {
        // What is shorter than the option is not it.
        if options.len() < 6 {
            return None;
        }
        let length = match options[0] {
            0 => return None,
            1 => 1,
            0xB7 if options[1] == 6 => {
                let mut id = options[2..6].to_vec();
                id.reverse();
                return Some(number(&id));
            }
            0xB7 => return None,
            _ => usize::from(options[1]),
        };
        options = options.get(length..)?;
    }
    None
}

fn of_datagram(ids: Ids, data: &[u8]) -> Option<u128> {
    if ids == Ids::UdpStable {
        let data = data.get(..4)?;
        return (data[0] == 0x52).then(|| number(&data[1..]));
    }
    if !matches!(ids, Ids::QuicLb | Ids::QuicKatran) || data.len() < 2 {
        return None;
    }
    // The connection id, all that may be of it, and what is left of the datagram.
    let (connection, left) = if data[0] & 0x80 == 0 {
        (&data[1..], &data[1..])
    } else {
        let header = data.get(..6)?;
        let kind = data[0] >> 4 & 3;
        let is_version_2 = header[1..5] == [0x6B, 0x33, 0x43, 0xCF];
        let opens: &[u8] = if is_version_2 { &[1, 2] } else { &[0, 1] };
        if opens.contains(&kind) {
            return None;
        }
        let left = &data[6..];
        (left.get(..usize::from(header[5]))?, left)
    };
    if ids == Ids::QuicKatran {
        if connection.len() < 8 {
            return None;
        }
        return match connection[0] >> 6 {
            1 => Some(number(&connection[..3]) >> 6 & 0xFFFF),
            2 => Some(number(&connection[1..4])),
            3 => Some(number(&connection[1..5])),
            _ => None,
        };
    }
    // A packet of QUIC has as many bytes.
    if left.len() < 20 {
        return None;
    }
    let config = CONFIGS
        .iter()
        .find(|config| config.number == u32::from(left[0] >> 5))?;
    if connection.len() <= config.id + config.nonce {
        return None;
    }
    let plain = config.opened(&left[1..=config.id + config.nonce]);
    Some(number(&plain[..config.id]))
}

impl Config {
    /// A connection id of this configuration, as a server makes it.
    #[must_use]
    pub fn connection_id(&self, id: u128, random: &mut Random) -> Vec<u8> {
        let mut plain = id.to_be_bytes()[16 - self.id..].to_vec();
        plain.extend(random.bytes(self.nonce));
        let mut bytes = vec![(self.number as u8) << 5 | random.byte() & 0x1F];
        bytes.extend(match self.key {
            None => plain,
            Some(key) if plain.len() == 16 => aes::encrypted(&key, &plain).to_vec(),
            Some(key) => {
                let [mut left, mut right] = split(&plain);
                for pass in [1, 3] {
                    mix(&key, &mut right, &left, plain.len(), pass, true);
                    mix(&key, &mut left, &right, plain.len(), pass + 1, false);
                }
                joined(&left, &right, plain.len())
            }
        });
        bytes
    }

    /// Id and nonce.
    fn opened(&self, bytes: &[u8]) -> Vec<u8> {
        match self.key {
            None => bytes.to_vec(),
            Some(key) if bytes.len() == 16 => aes::decrypted(&key, bytes).to_vec(),
            Some(key) => {
                let [mut left, mut right] = split(bytes);
                for pass in [4, 2] {
                    mix(&key, &mut left, &right, bytes.len(), pass, false);
                    mix(&key, &mut right, &left, bytes.len(), pass - 1, true);
                }
                joined(&left, &right, bytes.len())
            }
        }
    }
}

/// A payload that names a real by a number like this one, in one of the ways of UDP, or nearly does.
pub(super) fn datagram(random: &mut Random, id: u128) -> Vec<u8> {
    let connection = match random.below(4) {
        0 => {
            let id = (id as u32).to_be_bytes();
            return [&[0x52], &id[1..], &random.bytes(5)].concat();
        }
        1 => {
            // Katran's three ways, and a fourth that there is not.
            let version = random.below(4) as u8;
            let id = (id as u32).to_be_bytes();
            let mut bytes = random.bytes(8);
            match version {
                1 => {
                    (bytes[0], bytes[1], bytes[2]) =
                        (id[2] >> 2, id[2] << 6 | id[3] >> 2, id[3] << 6);
                }
                2 => bytes[1..4].copy_from_slice(&id[1..]),
                _ => bytes[1..5].copy_from_slice(&id),
            }
            bytes[0] = bytes[0] & 0x3F | version << 6;
            bytes
        }
        _ => {
            let config = *random.pick(&CONFIGS);
            config.connection_id(id, random)
        }
    };
    let mut data = if random.chance(50) {
        vec![0x40 | random.byte() & 0x3F]
    } else {
        let version: [u8; 4] =
            *random.pick(&[[0, 0, 0, 1], [0x6B, 0x33, 0x43, 0xCF], [0xFF, 0, 0, 0x1D]]);
        let first = 0xC0 | random.byte() & 0x3F;
        let length = if random.chance(90) {
            connection.len() as u8
        } else {
            random.byte() & 0x1F
        };
        [&[first][..], &version, &[length]].concat()
    };
    data.extend(connection);
    let behind = random.below(40);
    data.extend(random.bytes(behind));
    data
}

/// Options of TCP, in whole words, one of which names a real.
pub(super) fn options(random: &mut Random, id: u32) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..random.below(5) {
        match random.below(4) {
            0 => options.extend([8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
            1 => options.extend([2, 4, 5, 0xB4]),
            _ => options.push(1),
        }
    }
    options.extend([0xB7, 6]);
    options.extend(id.to_le_bytes());
    if random.chance(15) {
        let at = random.below(options.len());
        options[at] = random.byte();
    }
    options.truncate(40);
    options.resize(options.len().next_multiple_of(4), 1);
    options
}

/// Both halves; of an odd number of bytes each has four bits of the one in the middle.
fn split(bytes: &[u8]) -> [Vec<u8>; 2] {
    let half = bytes.len().div_ceil(2);
    let mut left = bytes[..half].to_vec();
    let mut right = bytes[bytes.len() - half..].to_vec();
    if bytes.len() % 2 == 1 {
        left[half - 1] &= 0xF0;
        right[0] &= 0x0F;
    }
    [left, right]
}

fn joined(left: &[u8], right: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = left.to_vec();
    if length % 2 == 1 {
        *bytes.last_mut().expect("a half has bytes") |= right[0];
        bytes.extend(&right[1..]);
    } else {
        bytes.extend(right);
    }
    bytes
}

/// One pass: what the other half encrypts to is added to a half, which is the right one or not.
fn mix(key: &[u8; 16], half: &mut [u8], other: &[u8], length: usize, pass: u8, is_right: bool) {
    let mut block = other.to_vec();
    block.resize(14, 0);
    block.extend([length as u8, pass]);
    let encrypted = aes::encrypted(key, &block);
    for (byte, more) in half.iter_mut().zip(encrypted) {
        *byte ^= more;
    }
    if length % 2 == 1 {
        if is_right {
            half[0] &= 0x0F;
        } else if let Some(last) = half.last_mut() {
            *last &= 0xF0;
        }
    }
}

/// AES-128, as FIPS 197 writes it.
mod aes {
    use std::sync::LazyLock;

    fn product(a: u8, b: u8) -> u8 {
        let carryless = (0..8)
            .filter(|bit| b >> bit & 1 == 1)
            .fold(0_u16, |sum, bit| sum ^ u16::from(a) << bit);
        let reduced = (8..15).rev().fold(carryless, |sum, bit| {
            if sum >> bit & 1 == 1 {
                sum ^ 0x11B << (bit - 8)
            } else {
                sum
            }
        });
        reduced as u8
    }

    static SUBSTITUTION: LazyLock<[u8; 256]> = LazyLock::new(|| {
        std::array::from_fn(|byte| {
            let byte = byte as u8;
            let inverse = (0..=255).find(|other| product(byte, *other) == 1);
            let inverse: u8 = inverse.unwrap_or(0);
            (0..5).fold(0x63, |sum, turn| sum ^ inverse.rotate_left(turn))
        })
    });

    fn round_keys(key: &[u8; 16], substitution: &[u8; 256]) -> Vec<[u8; 16]> {
        let mut words: Vec<[u8; 4]> = key
            .chunks(4)
            .map(|word| [word[0], word[1], word[2], word[3]])
            .collect();
        let mut constant = 1;
        for at in 4..44 {
            let mut word = words[at - 1];
            if at % 4 == 0 {
                word.rotate_left(1);
                word = word.map(|byte| substitution[usize::from(byte)]);
                word[0] ^= constant;
                constant = product(constant, 2);
            }
            let before = words[at - 4];
            words.push(std::array::from_fn(|i| word[i] ^ before[i]));
        }
        words
            .chunks(4)
            .map(|words| std::array::from_fn(|i| words[i / 4][i % 4]))
            .collect()
    }

    fn added(state: [u8; 16], key: &[u8; 16]) -> [u8; 16] {
        std::array::from_fn(|i| state[i] ^ key[i])
    }

    fn mixed(state: [u8; 16], polynomial: [u8; 4]) -> [u8; 16] {
        std::array::from_fn(|i| {
            (0..4).fold(0, |sum, row| {
                sum ^ product(state[i / 4 * 4 + row], polynomial[(row + 4 - i % 4) % 4])
            })
        })
    }

    /// A block, encrypted.
    pub fn encrypted(key: &[u8; 16], block: &[u8]) -> [u8; 16] {
        let substitution = &*SUBSTITUTION;
        let keys = round_keys(key, substitution);
        let mut state = added(std::array::from_fn(|i| block[i]), &keys[0]);
        for (round, key) in keys.iter().enumerate().skip(1) {
            let old = state.map(|byte| substitution[usize::from(byte)]);
            // Row r is turned by r columns.
            state = std::array::from_fn(|i| old[(i + 4 * (i % 4)) % 16]);
            if round < 10 {
                state = mixed(state, [2, 3, 1, 1]);
            }
            state = added(state, key);
        }
        state
    }

    /// A block, decrypted.
    pub fn decrypted(key: &[u8; 16], block: &[u8]) -> [u8; 16] {
        let substitution = &*SUBSTITUTION;
        let keys = round_keys(key, substitution);
        let mut state: [u8; 16] = std::array::from_fn(|i| block[i]);
        for (round, key) in keys.iter().enumerate().skip(1).rev() {
            state = added(state, key);
            if round < 10 {
                state = mixed(state, [14, 11, 13, 9]);
            }
            let old = state;
            state = std::array::from_fn(|i| old[(i + 16 - 4 * (i % 4)) % 16]);
            state = state.map(|byte| {
                let found = substitution.iter().position(|other| *other == byte);
                found.expect("a substitution has every byte") as u8
            });
        }
        added(state, &keys[0])
    }
}
