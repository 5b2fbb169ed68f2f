//! The rings of a series: how long a row stands for, and how many there are.

/// A ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Seconds that a row stands for.
    pub step: u64,
    /// Rows.
    pub rows: u64,
}

impl Ring {
    /// Seconds that the ring goes back.
    #[must_use]
    pub const fn span(self) -> u64 {
        self.step * self.rows
    }
}

/// The rings, the finest first: ten seconds for an hour, a minute for a day, ten minutes for ninety days.
pub const RINGS: [Ring; 3] = [
    Ring {
        step: 10,
        rows: 360,
    },
    Ring {
        step: 60,
        rows: 1_440,
    },
    Ring {
        step: 600,
        rows: 12_960,
    },
];

/// Seconds of a step: figures of a series are written once in this time.
pub const STEP: u64 = RINGS[0].step;

/// Rows of all rings.
pub const ROWS: u64 = RINGS[0].rows + RINGS[1].rows + RINGS[2].rows;

// A row of a longer ring is made from rows of the first that are still there.
const _: () = assert!(RINGS[2].step <= RINGS[0].span() / 2);
const _: () = assert!(RINGS[1].step.is_multiple_of(STEP) && RINGS[2].step.is_multiple_of(STEP));

/// The row of the file in which a time stands, in a ring.
#[must_use]
pub const fn row_of(ring: usize, slot: u64) -> u64 {
    let mut first = 0;
    let mut at = 0;
    while at < ring {
        first += RINGS[at].rows;
        at += 1;
    }
    first + slot % RINGS[ring].rows
}
