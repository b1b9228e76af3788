//! Which rows of a table a step uses, each row once, and the sums of their gradients.

use crate::kernel::{self, Rows};

/// Not used in this step.
const ABSENT: u32 = u32::MAX;

/// The uses of a table's rows in one step, grouped by row. A row's gradient is the weighted sum of the gradients of the
/// inputs that used it, in the order of these, whatever the number of threads.
#[derive(Debug, Default)]
pub(super) struct RowUses {
    /// Slot of each row of the table in this step.
    slots: Vec<u32>,
    /// Used rows; ascending after [`RowUses::group`].
    rows: Vec<u32>,
    /// Uses of each slot.
    counts: Vec<u32>,
    /// (slot, source, weight) in the order of arrival.
    arrivals: Vec<(u32, u32, f32)>,
    /// Sources and weights, grouped by slot.
    sources: Vec<u32>,
    weights: Vec<f32>,
    /// Where the group of each slot ends.
    ends: Vec<u32>,
}

impl RowUses {
    /// For a table of `rows` rows.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            slots: vec![ABSENT; rows],
            ..Self::default()
        }
    }

    /// Row `row` was used with `weight` by the input `source`.
    pub(super) fn touch(&mut self, row: u32, source: usize, weight: f32) {
        let slot = &mut self.slots[row as usize];
        if *slot == ABSENT {
            *slot = self.rows.len() as u32;
            self.rows.push(row);
            self.counts.push(0);
        }
        self.counts[*slot as usize] += 1;
        self.arrivals.push((*slot, source as u32, weight));
    }

    /// Groups the uses by row, after the last of them.
    pub(super) fn group(&mut self) {
        self.ends.clear();
        let mut total = 0;
        for &count in &self.counts {
            self.ends.push(total);
            total += count;
        }
        self.sources.resize(self.arrivals.len(), 0);
        self.weights.resize(self.arrivals.len(), 0.0);
        for &(slot, source, weight) in &self.arrivals {
            let end = &mut self.ends[slot as usize];
            self.sources[*end as usize] = source;
            self.weights[*end as usize] = weight;
            *end += 1;
        }
        self.rows.sort_unstable();
    }

    /// The used rows, ascending.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Writes the gradient of the `n`-th of [`RowUses::rows`], of which each source's is a row of `gradients`.
    pub(super) fn gradient(&self, n: usize, gradients: Rows<'_>, sum: &mut [f32]) {
        let slot = self.slots[self.rows[n] as usize] as usize;
        let end = self.ends[slot] as usize;
        let uses = end - self.counts[slot] as usize..end;
        let (sources, weights) = (&self.sources[uses.clone()], &self.weights[uses]);
        kernel::weighted_sum(gradients, sources, weights, sum);
    }

    /// Forgets the step.
    pub(super) fn clear(&mut self) {
        for row in self.rows.drain(..) {
            self.slots[row as usize] = ABSENT;
        }
        self.counts.clear();
        self.arrivals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_once_ascending_with_the_sum_of_its_uses() {
        let mut uses = RowUses::new(6);
        let of = Rows {
            data: &[0.0, 1.0, 10.0, 0.0, 3.0, 30.0],
            stride: 3,
            offset: 1,
        };
        let gradient = |uses: &RowUses, n| {
            let mut sum = [0.0; 2];
            uses.gradient(n, of, &mut sum);
            sum
        };
        for (row, source, weight) in [(5, 0, 1.0), (2, 0, 0.5), (5, 1, 2.0)] {
            uses.touch(row, source, weight);
        }
        uses.group();
        assert_eq!(uses.rows(), [2, 5]);
        assert_eq!(
            [gradient(&uses, 0), gradient(&uses, 1)],
            [[0.5, 5.0], [7.0, 70.0]]
        );
        uses.clear();
        uses.touch(0, 1, 1.0);
        uses.group();
        assert_eq!((uses.rows(), gradient(&uses, 0)), (&[0][..], [3.0, 30.0]));
    }
}
