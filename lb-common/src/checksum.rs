//! One's complement checksums, incrementally (RFC 1624).
//!
//! The sum does not depend on byte order (RFC 1071 section 2), so words are taken as they lie in memory
//! and nothing is swapped.

/// Folds a sum of at most 16 32-bit words (below 2^36) to 16 bits.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    // Below 2^32 + 16, so the next sum is at most 0x1_FFFE, and adding its carry makes no second carry.
    let sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// The checksum after a 16-bit word of what it covers has changed.
#[must_use]
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_is_the_remainder() {
        let words = [
            0,
            1,
            0xFFFE,
            0xFFFF,
            0x1_0000,
            0x7FFF_8000,
            0xFFFE_FFFF,
            0xFFFF_0000,
            0xFFFF_FFFF,
        ];
        for a in words {
            for b in words {
                for times in [0, 1, 2, 7, 14] {
                    let sum: u64 = a + b * times;
                    // 0xFFFF stands for zero, as a sum of anything but zeroes does.
                    let expected = if sum == 0 { 0 } else { (sum - 1) % 0xFFFF + 1 };
                    assert_eq!(u64::from(fold(sum)), expected, "{sum:#x}");
                }
            }
        }
    }
}
