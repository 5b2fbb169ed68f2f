//! One's complement sums over bytes, as RFC 1071 defines them.

/// Returns the folded one's complement sum of big-endian 16-bit words. An odd last byte counts as if a zero followed.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// Returns the checksum of bytes whose checksum field is zero.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// Returns whether bytes that contain their checksum have the right one.
#[must_use]
pub fn is_right(bytes: &[u8]) -> bool {
    sum(bytes) == 0xFFFF
}

/// Returns the checksum after one of the covered words has changed from `old` to `new`: RFC 1624, equation 3,
/// HC' = ~(~HC + ~m + m').
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000.
        assert_eq!(update(0xDD2F, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: 00 01 f2 03 f4 f5 f6 f7 sums to ddf2.
        assert_eq!(
            sum(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]),
            0xDDF2
        );
    }
}
