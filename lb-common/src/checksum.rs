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

/// Folds a sum of any number of 32-bit words up to 2^31 to 16 bits.
#[must_use]
#[inline(always)]
pub const fn fold_long(sum: u64) -> u16 {
    // Below 2^33, within the limit of `fold`.
    fold((sum & 0xFFFF_FFFF) + (sum >> 32))
}

/// The checksum after a 16-bit word of what it covers has changed.
///
/// What it covers must not be all zeroes afterwards: the checksum of zeroes is 0xFFFF, and this returns 0x0000,
/// which is that of a sum of 0xFFFF. A sum of headers with a version, a port or an address in them is never
/// zero, that of an echo reply can be.
#[must_use]
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_fold_is_the_remainder() {
        for words in [1_u64, 16, 137, 308, 1 << 31] {
            for word in [1_u64, 0xFFFF, 0x1_0000, 0x8000_0001, 0xFFFF_FFFF] {
                let sum = words * word;
                assert_eq!(
                    u64::from(fold_long(sum)),
                    (sum - 1) % 0xFFFF + 1,
                    "{sum:#x}"
                );
            }
        }
        assert_eq!(fold_long(0), 0);
    }

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
