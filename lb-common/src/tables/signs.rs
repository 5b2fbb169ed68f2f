//! Signs of how the reals serve their flows, counted over a sample of the TCP flows; see [`crate::signs`].

use crate::{limits::LIFE_BUCKETS, shared::SharedU64};

/// An entry of [`super::names::SIGNS`]: totals over the sampled flows of a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Signs {
    /// Sampled flows that were opened.
    pub opened: u64,
    /// SYNs that repeat the one of a sampled flow: its client got no answer.
    pub repeated: u64,
    /// Sampled flows that their client ended with a reset.
    pub resets: u64,
    /// Sampled flows that their client ended, by life; see [`life_bucket`].
    pub lives: [u64; LIFE_BUCKETS],
}

/// One unit of lives in nanoseconds: 1.05 ms.
pub const LIFE_UNIT: u64 = 1 << 20;

#[cfg(any(test, feature = "std"))]
impl Signs {
    /// Sampled flows that their client ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.lives.iter().sum()
    }

    /// How long the ended flows lived, all together. Each counts with the middle of its bucket, so this is right to a
    /// factor of 1.5, as long as flows live for less than 34 s.
    #[must_use]
    pub fn lived(&self) -> core::time::Duration {
        let lives = self.lives.iter().enumerate();
        lives
            .map(|(bucket, count)| {
                let nanoseconds = u128::from(middle(bucket)) * u128::from(*count);
                core::time::Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
            })
            .fold(
                core::time::Duration::ZERO,
                core::time::Duration::saturating_add,
            )
    }

    /// The middle of the bucket in which half of the ended flows have ended; `None` if none has.
    #[must_use]
    pub fn median_life(&self) -> Option<core::time::Duration> {
        let half = self.ended().div_ceil(2);
        let mut count = 0;
        let bucket = self.lives.iter().position(|lives| {
            count += lives;
            half > 0 && count >= half
        })?;
        Some(core::time::Duration::from_nanos(middle(bucket)))
    }
}

/// The middle of a bucket of lives, in nanoseconds.
#[cfg(any(test, feature = "std"))]
const fn middle(bucket: usize) -> u64 {
    // From half of 2^bucket units to 2^bucket units; the first one begins at 0.
    if bucket == 0 {
        LIFE_UNIT / 2
    } else {
        ((LIFE_UNIT * 3) << bucket) / 4
    }
}

/// The same as words, which all CPUs add to.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedSigns {
    /// [`Signs::opened`].
    pub opened: SharedU64,
    /// [`Signs::repeated`].
    pub repeated: SharedU64,
    /// [`Signs::resets`].
    pub resets: SharedU64,
    /// [`Signs::lives`].
    pub lives: [SharedU64; LIFE_BUCKETS],
}

impl SharedSigns {
    /// A copy. Its words may be of different moments.
    #[must_use]
    pub fn record(&self) -> Signs {
        Signs {
            opened: self.opened.load(),
            repeated: self.repeated.load(),
            resets: self.resets.load(),
            lives: self.lives.each_ref().map(SharedU64::load),
        }
    }

    /// Starts all totals from zero.
    #[cfg(not(target_arch = "bpf"))]
    pub fn clear(&self) {
        for word in [&self.opened, &self.repeated, &self.resets]
            .into_iter()
            .chain(&self.lives)
        {
            word.store(0);
        }
    }
}

/// An entry of [`super::names::SAMPLES`]: a sampled flow, from its SYN to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// The upper 48 bits of the flow's ring hash, and its real in the lower 16; 0: the entry is empty.
    pub owner: u64,
    /// When the flow began, in nanoseconds.
    pub start: u64,
}

/// The same as words, which all CPUs write.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedSample {
    /// [`Sample::owner`].
    pub owner: SharedU64,
    /// [`Sample::start`].
    pub start: SharedU64,
}

impl SharedSample {
    /// Empties the entry if its flow is one of this real. A packet that takes the entry at this moment loses its
    /// sample.
    #[cfg(not(target_arch = "bpf"))]
    pub fn forget(&self, real: u16) {
        let owner = self.owner.load();
        if owner != 0 && real_of(owner) == real {
            self.owner.store(0);
        }
    }
}

/// The real of a sample's owner.
#[must_use]
#[inline(always)]
pub const fn real_of(owner: u64) -> u16 {
    owner as u16
}

/// The bucket of a life in nanoseconds: bucket i has lives of less than 2^i units of [`LIFE_UNIT`], and at least half
/// of that; the last one has all longer ones, too.
#[must_use]
#[inline(always)]
pub const fn life_bucket(nanoseconds: u64) -> usize {
    const LONGEST: u64 = (1 << (LIFE_BUCKETS - 1)) - 1;
    let units = nanoseconds / LIFE_UNIT;
    let units = if units > LONGEST { LONGEST } else { units };
    (u32::BITS - (units as u32).leading_zeros()) as usize & (LIFE_BUCKETS - 1)
}

const _: () = assert!(LIFE_BUCKETS.is_power_of_two());
const _: () = assert!(size_of::<Signs>() == size_of::<SharedSigns>());
const _: () = assert!(size_of::<Sample>() == 16 && size_of::<SharedSample>() == 16);
