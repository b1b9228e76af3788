//! Gradients of table rows: collected per row, each row once.

use crate::kernel;
use rayon::prelude::*;

/// Not touched in this step.
const ABSENT: u32 = u32::MAX;

/// Sums of weighted gradients per row of a table, in an order that does not depend on the number of threads.
#[derive(Debug)]
pub(super) struct RowGradients {
    dim: usize,
    /// Slot of each row of the table in this step.
    slots: Vec<u32>,
    /// Touched rows; ascending after [`RowGradients::sum`].
    rows: Vec<u32>,
    counts: Vec<u32>,
    /// (slot, source, weight) in the order of arrival.
    arrivals: Vec<(u32, u32, f32)>,
    /// (source, weight) grouped by slot.
    grouped: Vec<(u32, f32)>,
    sums: Vec<f32>,
}

impl RowGradients {
    /// For a table of `rows` rows of `dim` numbers.
    pub(super) fn new(rows: usize, dim: usize) -> Self {
        Self {
            dim,
            slots: vec![ABSENT; rows],
            rows: Vec::new(),
            counts: Vec::new(),
            arrivals: Vec::new(),
            grouped: Vec::new(),
            sums: Vec::new(),
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

    /// Sums up for each touched row, over its uses, weight · `gradient(source)`.
    pub(super) fn sum<'a>(&mut self, gradient: impl Fn(usize) -> &'a [f32] + Sync) {
        let mut ends: Vec<u32> = Vec::with_capacity(self.counts.len());
        let mut total = 0;
        for &count in &self.counts {
            ends.push(total);
            total += count;
        }
        self.grouped.resize(self.arrivals.len(), (0, 0.0));
        for &(slot, source, weight) in &self.arrivals {
            let end = &mut ends[slot as usize];
            self.grouped[*end as usize] = (source, weight);
            *end += 1;
        }
        self.rows.sort_unstable();
        self.sums.resize(self.rows.len() * self.dim, 0.0);
        let (slots, grouped, counts, rows) = (&self.slots, &self.grouped, &self.counts, &self.rows);
        self.sums
            .par_chunks_mut(self.dim)
            .zip(rows)
            .with_min_len(256)
            .for_each(|(sum, &row)| {
                let slot = slots[row as usize] as usize;
                let end = ends[slot] as usize;
                sum.fill(0.0);
                for &(source, weight) in &grouped[end - counts[slot] as usize..end] {
                    kernel::axpy(weight, gradient(source as usize), sum);
                }
            });
        for &row in &self.rows {
            self.slots[row as usize] = ABSENT;
        }
        self.counts.clear();
        self.arrivals.clear();
    }

    /// The rows that were summed up, ascending, and their sums `[rows, d]`.
    pub(super) fn sums(&self) -> (&[u32], &[f32]) {
        (&self.rows, &self.sums)
    }

    /// Forgets the rows of the step that was just applied.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_once_ascending_with_the_sum_of_its_uses() {
        let mut gradients = RowGradients::new(6, 2);
        for (row, source, weight) in [(5, 0, 1.0), (2, 0, 0.5), (5, 1, 2.0)] {
            gradients.touch(row, source, weight);
        }
        let of = [[1.0, 10.0], [3.0, 30.0]];
        gradients.sum(|source| &of[source]);
        let (rows, sums) = gradients.sums();
        assert_eq!((rows, sums), (&[2, 5][..], &[0.5, 5.0, 7.0, 70.0][..]));
        gradients.clear();
        gradients.touch(0, 1, 1.0);
        gradients.sum(|source| &of[source]);
        let (rows, sums) = gradients.sums();
        assert_eq!((rows, sums), (&[0][..], &[3.0, 30.0][..]));
    }
}
