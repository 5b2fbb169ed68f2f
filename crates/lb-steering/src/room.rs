//! Whether the other reals could carry what a real gives up. Then a lower capacity of it may be believed without proof: if
//! that is wrong, the others have room.

use super::pool::{Member, estimated_capacities};

/// A lower capacity is believed without proof if the pool is used to this at most with it.
const MOST_USED: f64 = 0.85;

/// The room of a pool.
#[derive(Debug)]
pub struct Room {
    /// What all reals carry.
    carried: f64,
    /// What all of them can carry.
    capacity: f64,
}

impl Room {
    /// Measures it. `carried` tells what a real carries.
    pub fn new(pool: &[Member<'_>], carried: impl Fn(&Member<'_>) -> Option<f64>) -> Self {
        let mut room = Room {
            carried: 0.0,
            capacity: 0.0,
        };
        for (member, capacity) in pool.iter().zip(estimated_capacities(pool)) {
            if member.is_eligible() {
                room.carried += carried(member).unwrap_or(0.0);
                room.capacity += capacity;
            }
        }
        room
    }

    /// Whether there is some if a real's capacity changes like this; `None` is one that is not known.
    pub fn is_left_by(&self, before: Option<f64>, after: Option<f64>) -> bool {
        self.carried <= (self.capacity + difference(before, after)) * MOST_USED
    }

    /// Notes that a real's capacity changed.
    pub fn change(&mut self, before: Option<f64>, after: Option<f64>) {
        self.capacity += difference(before, after);
    }
}

/// How much a capacity grows. One that is not known counts as a typical one, before and after.
fn difference(before: Option<f64>, after: Option<f64>) -> f64 {
    before
        .zip(after)
        .map_or(0.0, |(before, after)| after - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_takes_room_from_the_next() {
        let mut room = Room {
            carried: 2_000.0,
            capacity: 4_000.0,
        };
        let halves = (Some(1_000.0), Some(500.0));
        for _ in 0..3 {
            assert!(room.is_left_by(halves.0, halves.1));
            room.change(halves.0, halves.1);
        }
        // 2,000 of 2,000 would be used.
        assert!(!room.is_left_by(halves.0, halves.1));
        assert!(room.is_left_by(None, Some(500.0)));
    }
}
