//! The tables' clock: ticks of 2^`TICK_SHIFT` ns in 32 bits, which wrap.

/// Whether the clock has reached `end`; the two are less than half the clock's range apart.
#[must_use]
pub(crate) fn reached(now: u32, end: u32) -> bool {
    now.wrapping_sub(end) <= u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_may_wrap() {
        assert!(reached(5, 5) && reached(6, 5) && !reached(4, 5));
        assert!(reached(3, u32::MAX - 3) && !reached(u32::MAX - 3, 3));
    }
}
