//! Serial numbers of zones.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// The serial number of a zone. Secondary servers transfer a zone if its number is later than theirs, by the arithmetic of
/// RFC 1982: of two numbers, the later one is at most 2³¹ - 1 steps ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Serial(u32);

impl Serial {
    /// Takes a number that was stored.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        // Some tools take 0 for "no number".
        Serial(if number == 0 { 1 } else { number })
    }

    /// Returns the seconds since 1970. A zone whose last number is lost goes on from there: it is later than that of any
    /// zone that began so and changed less than once a second.
    #[must_use]
    pub fn now() -> Self {
        let elapsed = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Serial numbers wrap around, and so may the time.
        Serial::new(elapsed.as_secs() as u32)
    }

    /// Returns the number, to store it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Serial::new(self.0.wrapping_add(1))
    }

    /// Returns whether this number is later than the other. Of two numbers that are exactly 2³¹ apart neither is.
    #[must_use]
    pub const fn is_later_than(self, other: Serial) -> bool {
        let ahead = self.0.wrapping_sub(other.0);
        ahead != 0 && ahead < 1 << 31
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_number_after_the_last_is_later() {
        let last = Serial::new(u32::MAX);
        assert_eq!(last.next(), Serial::new(1));
        assert!(last.next().is_later_than(last));
        assert!(!last.is_later_than(last.next()));
        let zero = Serial::new(1);
        assert!(!zero.is_later_than(zero));
        let opposite = Serial::new((1 << 31) + 1);
        assert!(!zero.is_later_than(opposite) && !opposite.is_later_than(zero));
        assert!(Serial::now().is_later_than(Serial::new(1_700_000_000)));
    }

    proptest! {
        #[test]
        fn each_step_is_later(number: u32, steps in 1_usize..100) {
            let first = Serial::new(number);
            let mut serial = first;
            for _ in 0..steps {
                let next = serial.next();
                prop_assert!(next.is_later_than(serial) && !serial.is_later_than(next));
                serial = next;
            }
            prop_assert!(serial.is_later_than(first));
            prop_assert_ne!(serial.get(), 0);
        }
    }
}
