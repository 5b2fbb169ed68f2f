//! The weights of instances, prepared for drawing.

/// Ids and weights of instances. Weights of 0 are left out by who makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    ids: Vec<u64>,
    weights: Vec<u32>,
    /// The sum of the weights up to and with each instance.
    sums: Vec<u64>,
}

impl Weights {
    /// Prepares instances: a number that stays with the instance, and its weight.
    #[must_use]
    pub fn new(instances: impl IntoIterator<Item = (u64, u32)>) -> Self {
        let mut made = Weights::default();
        let mut sum = 0;
        for (id, weight) in instances {
            sum += u64::from(weight);
            made.ids.push(id);
            made.weights.push(weight);
            made.sums.push(sum);
        }
        made
    }

    /// Returns the number of instances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Returns whether there is nothing to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Returns the sum of all weights.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// Returns the weight of an instance.
    #[must_use]
    pub fn of(&self, index: usize) -> u32 {
        self.weights[index]
    }

    /// Returns the number that stays with an instance.
    #[must_use]
    pub fn id(&self, index: usize) -> u64 {
        self.ids[index]
    }

    /// Returns the numbers of all instances.
    #[must_use]
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Returns the instance at a point between 0 and the total; each has as many points as its weight.
    #[must_use]
    pub fn at(&self, point: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_belongs_to_one_instance() {
        let weights = Weights::new([(7, 2), (8, 1), (9, 3)]);
        let at: Vec<_> = (0..weights.total())
            .map(|point| weights.at(point))
            .collect();
        assert_eq!(at, [0, 0, 1, 2, 2, 2]);
    }
}
