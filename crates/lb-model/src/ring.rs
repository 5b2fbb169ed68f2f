//! Algorithms and sizes of rings.

use lb_common::limits::{KATRAN_RING_SLOTS, MAX_RING_SLOTS, MIN_RING_SLOTS};

crate::choice! {
    /// How a ring is built.
    pub enum Algorithm = Rendezvous {
        /// Weighted rendezvous hashing with a cap: it moves the fewest flows when a weight changes.
        Rendezvous = "rendezvous",
        /// Maglev's permutations, with weights: the most even shares, but more flows move.
        Maglev = "maglev",
        /// The ring and the hash of flows of Katran, 65,537 slots: a flow has the real that a Katran beside the balancer
        /// gives it.
        MaglevKatran = "maglev-katran",
    }
}

impl Algorithm {
    /// The one number of slots that such a ring has; `None` if the VIP's settings say it.
    #[must_use]
    pub const fn fixed_slots(self) -> Option<u32> {
        match self {
            Algorithm::Rendezvous | Algorithm::Maglev => None,
            Algorithm::MaglevKatran => Some(KATRAN_RING_SLOTS),
        }
    }
}

/// A slot without a real.
pub const NO_REAL: u16 = u16::MAX;

/// Default number of slots per real, up to the largest ring. The figures of `rendezvous` were measured with it.
const SLOTS_PER_REAL: u32 = 1_024;
/// Size of the smallest default ring. With a handful of reals, its unevenness is far below the random variation of
/// connections.
const MIN_DEFAULT_SLOTS: u32 = 4_096;

const _: () = assert!(MIN_DEFAULT_SLOTS >= MIN_RING_SLOTS && MIN_DEFAULT_SLOTS <= MAX_RING_SLOTS);

/// Returns the default size of the ring for this many reals: a power of two, 4,096 to 65,536.
#[must_use]
pub fn default_slots(reals: usize) -> u32 {
    let most = MAX_RING_SLOTS / SLOTS_PER_REAL;
    let reals = u32::try_from(reals).map_or(most, |reals| reals.min(most));
    (reals * SLOTS_PER_REAL)
        .next_power_of_two()
        .clamp(MIN_DEFAULT_SLOTS, MAX_RING_SLOTS)
}
