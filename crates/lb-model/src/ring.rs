//! How a ring is made, and how large.

use lb_common::limits::{MAX_RING_SLOTS, MIN_RING_SLOTS};

/// How a ring is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Weighted rendezvous hashing with a cap.
    #[default]
    Rendezvous,
    /// Maglev's permutations, with weights.
    Maglev,
}

impl Algorithm {
    /// The name used in the API and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Rendezvous => "rendezvous",
            Algorithm::Maglev => "maglev",
        }
    }
}

/// A slot without a real.
pub const NO_REAL: u16 = u16::MAX;

/// Slots per real, where the largest ring allows it: at this grain the figures of `rendezvous` hold.
const SLOTS_PER_REAL: u32 = 1_024;
/// Smallest ring that is chosen without being asked for. With a handful of reals the ring's own
/// unevenness stays well below that of the connections.
const MIN_DEFAULT_SLOTS: u32 = 4_096;

const _: () = assert!(MIN_DEFAULT_SLOTS >= MIN_RING_SLOTS && MIN_DEFAULT_SLOTS <= MAX_RING_SLOTS);

/// Size of the ring for a pool of this many reals: a power of two, 4,096 to 65,536.
#[must_use]
pub fn default_slots(reals: usize) -> u32 {
    let most = MAX_RING_SLOTS / SLOTS_PER_REAL;
    let reals = u32::try_from(reals).map_or(most, |reals| reals.min(most));
    (reals * SLOTS_PER_REAL)
        .next_power_of_two()
        .clamp(MIN_DEFAULT_SLOTS, MAX_RING_SLOTS)
}
