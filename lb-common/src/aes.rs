//! AES-128 on single blocks (FIPS 197), for connection ids of QUIC that are encrypted.
//!
//! By tables, because a program for the kernel has no AES instructions: `bpf_crypto_encrypt` came with Linux 6.10. One table
//! for each direction has each column twice in a word of 64 bits, so that a shift rotates it for the other three rows: 2 KiB
//! of the first-level cache, where four tables would take 4. The tables are computed when the program is compiled, the keys
//! of the rounds by the agent.
//!
//! A block is two numbers, the first byte the highest one of the first number. A state of the cipher is four words, its
//! columns.

/// Rounds of AES-128.
const ROUNDS: usize = 10;
/// Words of the keys of all rounds.
pub const KEY_WORDS: usize = 4 * (ROUNDS + 1);

/// Twice a number of the field GF(2^8).
const fn doubled(number: u8) -> u8 {
    (number << 1) ^ ((number >> 7) * 0x1B)
}

/// The product of two numbers of that field.
const fn product(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut sum) = (a, b, 0);
    while b != 0 {
        sum ^= a * (b & 1);
        a = doubled(a);
        b >>= 1;
    }
    sum
}

/// The substitution of bytes (section 5.1.1).
const fn substitution() -> [u8; 256] {
    let mut table = [0x63; 256];
    // 3 generates all numbers but 0; the powers of its inverse, 0xF6, are their inverses.
    let (mut number, mut inverse) = (1_u8, 1_u8);
    loop {
        let turned = inverse
            ^ inverse.rotate_left(1)
            ^ inverse.rotate_left(2)
            ^ inverse.rotate_left(3)
            ^ inverse.rotate_left(4);
        table[number as usize] = turned ^ 0x63;
        number = product(number, 3);
        inverse = product(inverse, 0xF6);
        if number == 1 {
            return table;
        }
    }
}

/// The inverse substitution (section 5.3.2).
const fn inverted() -> [u8; 256] {
    let forward = substitution();
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[forward[byte] as usize] = byte as u8;
        byte += 1;
    }
    table
}

/// Twice the column that a byte of its first row contributes, after it was substituted and multiplied by this polynomial.
const fn columns(substitution: [u8; 256], polynomial: [u8; 4]) -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = substitution[byte];
        let [a, b, c, d] = polynomial;
        let (a, b) = (product(it, a), product(it, b));
        let (c, d) = (product(it, c), product(it, d));
        table[byte] = u64::from_be_bytes([a, b, c, d, a, b, c, d]);
        byte += 1;
    }
    table
}

static ENCRYPT: [u64; 256] = columns(substitution(), [2, 1, 1, 3]);
static DECRYPT: [u64; 256] = columns(inverted(), [14, 9, 13, 11]);
static INVERTED: [u8; 256] = inverted();

/// The keys of the rounds, in the order in which they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RoundKeys(pub [u32; KEY_WORDS]);

impl RoundKeys {
    /// No keys.
    pub const NONE: RoundKeys = RoundKeys([0; KEY_WORDS]);

    /// Those that encrypt (section 5.2).
    #[must_use]
    pub const fn to_encrypt(key: [u8; 16]) -> RoundKeys {
        let substitution = substitution();
        let mut words = [0; KEY_WORDS];
        let mut constant = 1;
        let mut at = 0;
        while at < KEY_WORDS {
            words[at] = if at < 4 {
                u32::from_be_bytes([
                    key[4 * at],
                    key[4 * at + 1],
                    key[4 * at + 2],
                    key[4 * at + 3],
                ])
            } else {
                let mut word = words[at - 1];
                if at % 4 == 0 {
                    let [a, b, c, d] = word.rotate_left(8).to_be_bytes();
                    word = u32::from_be_bytes([
                        substitution[a as usize] ^ constant,
                        substitution[b as usize],
                        substitution[c as usize],
                        substitution[d as usize],
                    ]);
                    constant = doubled(constant);
                }
                words[at - 4] ^ word
            };
            at += 1;
        }
        RoundKeys(words)
    }

    /// Those that decrypt with the equivalent inverse cipher (section 5.3.5).
    #[must_use]
    pub const fn to_decrypt(key: [u8; 16]) -> RoundKeys {
        let substitution = substitution();
        let columns = columns(inverted(), [14, 9, 13, 11]);
        let forward = RoundKeys::to_encrypt(key).0;
        let mut words = [0; KEY_WORDS];
        let mut at = 0;
        while at < KEY_WORDS {
            let word = forward[KEY_WORDS - 4 - at / 4 * 4 + at % 4];
            words[at] = if at < 4 || at >= 4 * ROUNDS {
                word
            } else {
                let [a, b, c, d] = word.to_be_bytes();
                (columns[substitution[a as usize] as usize]
                    ^ columns[substitution[b as usize] as usize] >> 8
                    ^ columns[substitution[c as usize] as usize] >> 16
                    ^ columns[substitution[d as usize] as usize] >> 24) as u32
            };
            at += 1;
        }
        RoundKeys(words)
    }
}

/// Byte `ROW` of a column, counted from the first row.
#[inline(always)]
const fn row<const ROW: u32>(column: u32) -> usize {
    (column >> (24 - 8 * ROW)) as u8 as usize
}

/// A new column from one byte each of four.
#[inline(always)]
fn mixed(table: &[u64; 256], [a, b, c, d]: [u32; 4], key: u32) -> u32 {
    let first = table[row::<0>(a)] as u32 ^ (table[row::<1>(b)] >> 8) as u32;
    let second = (table[row::<2>(c)] >> 16) as u32 ^ (table[row::<3>(d)] >> 24) as u32;
    first ^ second ^ key
}

/// A last column, whose bytes are substituted and not multiplied.
#[inline(always)]
fn substituted(byte: impl Fn(usize) -> u32, [a, b, c, d]: [u32; 4], key: u32) -> u32 {
    let upper = byte(row::<0>(a)) << 24 | byte(row::<1>(b)) << 16;
    let lower = byte(row::<2>(c)) << 8 | byte(row::<3>(d));
    (upper | lower) ^ key
}

#[inline(always)]
const fn state([high, low]: [u64; 2], keys: &RoundKeys) -> [u32; 4] {
    let keys = &keys.0;
    [
        (high >> 32) as u32 ^ keys[0],
        high as u32 ^ keys[1],
        (low >> 32) as u32 ^ keys[2],
        low as u32 ^ keys[3],
    ]
}

#[inline(always)]
const fn block([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    [(a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64]
}

/// Encrypts a block; `keys` are [`RoundKeys::to_encrypt`].
#[must_use]
#[inline(always)]
pub fn encrypt(keys: &RoundKeys, plain: [u64; 2]) -> [u64; 2] {
    let [mut a, mut b, mut c, mut d] = state(plain, keys);
    for round in 1..ROUNDS {
        let key = 4 * round;
        let mixed = |bytes, at: usize| mixed(&ENCRYPT, bytes, keys.0[key + at]);
        (a, b, c, d) = (
            mixed([a, b, c, d], 0),
            mixed([b, c, d, a], 1),
            mixed([c, d, a, b], 2),
            mixed([d, a, b, c], 3),
        );
    }
    let last = |bytes, at: usize| {
        // The table has the substituted byte itself in its second and third row.
        let byte = |byte: usize| (ENCRYPT[byte] >> 8) as u32 & 0xFF;
        substituted(byte, bytes, keys.0[4 * ROUNDS + at])
    };
    block([
        last([a, b, c, d], 0),
        last([b, c, d, a], 1),
        last([c, d, a, b], 2),
        last([d, a, b, c], 3),
    ])
}

/// Decrypts a block; `keys` are [`RoundKeys::to_decrypt`].
#[must_use]
#[inline(always)]
pub fn decrypt(keys: &RoundKeys, encrypted: [u64; 2]) -> [u64; 2] {
    let [mut a, mut b, mut c, mut d] = state(encrypted, keys);
    for round in 1..ROUNDS {
        let key = 4 * round;
        let mixed = |bytes, at: usize| mixed(&DECRYPT, bytes, keys.0[key + at]);
        (a, b, c, d) = (
            mixed([a, d, c, b], 0),
            mixed([b, a, d, c], 1),
            mixed([c, b, a, d], 2),
            mixed([d, c, b, a], 3),
        );
    }
    let last = |bytes, at: usize| {
        let byte = |byte: usize| u32::from(INVERTED[byte]);
        substituted(byte, bytes, keys.0[4 * ROUNDS + at])
    };
    block([
        last([a, d, c, b], 0),
        last([b, a, d, c], 1),
        last([c, b, a, d], 2),
        last([d, c, b, a], 3),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(block: u128) -> [u64; 2] {
        [(block >> 64) as u64, block as u64]
    }

    /// FIPS 197, appendices B and C.1.
    #[test]
    fn blocks_of_the_standard() {
        for (key, plain, encrypted) in [
            (
                0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128,
                0x3243_f6a8_885a_308d_3131_98a2_e037_0734_u128,
                0x3925_841d_02dc_09fb_dc11_8597_196a_0b32_u128,
            ),
            (
                0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
                0x0011_2233_4455_6677_8899_aabb_ccdd_eeff,
                0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a,
            ),
        ] {
            let key = key.to_be_bytes();
            let (plain, encrypted) = (halves(plain), halves(encrypted));
            assert_eq!(encrypt(&RoundKeys::to_encrypt(key), plain), encrypted);
            assert_eq!(decrypt(&RoundKeys::to_decrypt(key), encrypted), plain);
        }
    }
}
