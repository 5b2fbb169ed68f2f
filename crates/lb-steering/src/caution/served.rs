//! How a real served its flows lately, from the totals that the data plane samples.

use super::{
    super::observation::{LIFE_BUCKETS, Signs},
    repeats::LEAST_REPEATED,
};

/// Factors by which counts decay per period: a window that follows at once, one for pools with few flows, and one for
/// what is counted of hardly any flow.
const DECAYS: [f64; 3] = [0.5, 0.93, 0.985];
/// The windows in which lives are compared.
pub const LIFE_WINDOWS: usize = 2;
/// Fraction of the flows that may have waited where their lives tell how the real serves one.
const MOST_HURRIED: f64 = 0.2;
/// Flows that must have ended before their lives are compared.
const LEAST_ENDED: f64 = 20.0;
/// The lowest variance of the logarithm (base 2) of a life: lives within one bucket are not all the same.
const LEAST_VARIANCE: f64 = 0.25;

/// A unit of lives, seconds: 2^20 ns.
pub const UNIT: f64 = 1_048_576e-9;
/// A flow whose client gets no answer, and which so never ends, shows this many repeated SYNs at least.
const LEAST_REPEATS: f64 = 2.0;
/// The life of flows is known if this fraction of those that were opened ended, ...
const LEAST_SHORT: f64 = 0.9;
/// ... and at most this fraction of them lived longer than the buckets tell.
const MOST_LONG: f64 = 0.02;

/// Counts of flows, of which older ones count less.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Flows opened.
    pub opened: f64,
    /// SYNs repeated.
    pub repeated: f64,
    /// Flows reset by their client.
    pub resets: f64,
    lives: [f64; LIFE_BUCKETS],
    /// Flows that ended while the real was busy: they may have waited.
    hurried: f64,
    /// Each real's is compared with all others', so it is computed once a period.
    life: Option<LogLife>,
}

/// The typical life of flows.
#[derive(Clone, Copy, Debug)]
pub struct LogLife {
    /// Mean logarithm (base 2) of lives, in units of 2^20 ns.
    pub mean: f64,
    /// Variance of that mean.
    pub variance: f64,
}

impl Window {
    /// Whether its lives tell how the real serves a flow: hardly any waited, and few clients tried in vain.
    pub fn is_calm(&self) -> bool {
        let ended: f64 = self.lives.iter().sum();
        self.hurried <= MOST_HURRIED * ended && self.repeated <= LEAST_REPEATED * self.opened
    }

    /// The typical life of the flows that ended, if these are enough.
    pub const fn life(&self) -> Option<LogLife> {
        self.life
    }

    /// Computes that.
    fn typical_life(&self) -> Option<LogLife> {
        let ended: f64 = self.lives.iter().sum();
        if ended < LEAST_ENDED {
            return None;
        }
        let mean_of = |value: &dyn Fn(f64) -> f64| {
            let weighted = self.lives.iter().enumerate();
            weighted
                .map(|(bucket, count)| count * value(bucket as f64 - 0.5))
                .sum::<f64>()
                / ended
        };
        let mean = mean_of(&|log| log);
        let variance = mean_of(&|log| (log - mean).powi(2)).max(LEAST_VARIANCE);
        Some(LogLife {
            mean,
            variance: variance / ended,
        })
    }

    /// For each bucket, the fraction of the flows that ended by then, and how many ended; `None` if these are few.
    pub fn ended_by(&self) -> Option<([f64; LIFE_BUCKETS], f64)> {
        let ended: f64 = self.lives.iter().sum();
        let mut sum = 0.0;
        (ended >= LEAST_ENDED).then(|| {
            let by = self.lives.map(|count| {
                sum += count;
                sum / ended
            });
            (by, ended)
        })
    }

    /// Flows that ended within 2^`log` units, as a fraction of those opened.
    pub fn ended_within(&self, log: f64) -> f64 {
        let within = self.lives.iter().enumerate();
        let ended: f64 = within
            .filter(|(bucket, _)| *bucket as f64 <= log)
            .map(|(_, count)| count)
            .sum();
        ended / self.opened.max(1.0)
    }
}

/// The mean life of the flows of several reals, seconds, at most: `None` unless nearly all of them end, and soon.
pub fn mean_life<'a>(windows: impl Iterator<Item = &'a Window>) -> Option<f64> {
    let (mut opened, mut ended, mut lives, mut long) = (0.0, 0.0, 0.0, 0.0);
    for window in windows {
        opened += (window.opened - window.repeated / LEAST_REPEATS).max(0.0);
        for (bucket, count) in window.lives.iter().enumerate() {
            ended += count;
            lives += count * (bucket as f64).exp2() * UNIT;
        }
        long += window.lives[LIFE_BUCKETS - 1];
    }
    let is_known = ended >= LEAST_ENDED && ended >= LEAST_SHORT * opened;
    (is_known && long <= MOST_LONG * ended).then(|| lives / ended)
}

/// What was counted of a real.
#[derive(Clone, Debug, Default)]
pub struct Served {
    last: Option<Signs>,
    windows: [Window; DECAYS.len()],
}

impl Served {
    /// Records a period, in which the real was busy or not.
    pub fn observe(&mut self, signs: Option<Signs>, busy: bool) {
        let Some(signs) = signs else {
            *self = Served::default();
            return;
        };
        let Some(before) = self.last.replace(signs) else {
            return;
        };
        // A smaller total has started over.
        let increase = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now) as f64;
        for (window, decay) in self.windows.iter_mut().zip(DECAYS) {
            let add = |sum: &mut f64, increase: f64| *sum = *sum * decay + increase;
            add(&mut window.opened, increase(signs.opened, before.opened));
            add(
                &mut window.repeated,
                increase(signs.repeated, before.repeated),
            );
            add(&mut window.resets, increase(signs.resets, before.resets));
            let ended = |signs: &Signs| signs.lives.iter().sum();
            let ended = increase(ended(&signs), ended(&before));
            add(&mut window.hurried, if busy { ended } else { 0.0 });
            for (sum, (now, before)) in window
                .lives
                .iter_mut()
                .zip(signs.lives.into_iter().zip(before.lives))
            {
                add(sum, increase(now, before));
            }
            window.life = window.typical_life();
        }
    }

    /// The windows, the shortest first; `None` where the data plane does not count this real's flows.
    pub fn windows(&self) -> Option<&[Window]> {
        self.last.is_some().then_some(&self.windows[..])
    }
}
