//! The rows of a table that a step uses, each row once, and the sums of their gradients.

use crate::kernel::Uses;

/// Bits of a row's number that one pass of the sort looks at: the counters of a pass fit the
/// first-level cache.
const DIGIT: u32 = 11;

/// One use of a row.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    row: u32,
    source: u32,
    weight: f32,
}

/// The uses of a table's rows in one step, grouped by row. A row's gradient is the weighted sum of
/// the gradients of the inputs that used it, always in the order of the inputs, with any number of
/// threads.
#[derive(Debug, Default)]
pub(super) struct RowUses {
    /// In the order of arrival; after [`RowUses::group`] in the order of rows.
    uses: Vec<Use>,
    /// Target of a pass of the sort.
    moved: Vec<Use>,
    /// Used rows, ascending.
    rows: Vec<u32>,
    /// For each used row, the end of its uses.
    ends: Vec<usize>,
    /// Sources and weights of the uses.
    sources: Vec<u32>,
    weights: Vec<f32>,
}

impl RowUses {
    /// Records that the input `source` used row `row` with `weight`.
    pub(super) fn touch(&mut self, row: u32, source: usize, weight: f32) {
        self.uses.push(Use {
            row,
            source: source as u32,
            weight,
        });
    }

    /// Groups the uses by row. Call it after the last use.
    pub(super) fn group(&mut self) {
        self.sort();
        let uses = &self.uses;
        // No branch depends on the rows, because nothing could predict it: each use writes its row
        // and end, and those of a row's last use stay.
        self.rows.resize(uses.len(), 0);
        self.ends.resize(uses.len(), 0);
        let mut last = 0;
        for (place, used) in uses.iter().enumerate() {
            let before = uses[place.saturating_sub(1)];
            last += usize::from(before.row != used.row);
            self.rows[last] = used.row;
            self.ends[last] = place + 1;
        }
        self.rows.truncate(last + 1);
        self.ends.truncate(last + 1);
        self.sources.extend(uses.iter().map(|used| used.source));
        self.weights.extend(uses.iter().map(|used| used.weight));
    }

    /// Sorts by row: a stable radix sort from the lowest digit on.
    fn sort(&mut self) {
        let largest = self.uses.iter().map(|used| used.row).max().unwrap_or(0);
        self.moved.resize(self.uses.len(), Use::default());
        for shift in (0..u32::BITS - largest.leading_zeros()).step_by(DIGIT as usize) {
            let digit = |used: &Use| (used.row >> shift) as usize & ((1 << DIGIT) - 1);
            let mut places = [0; 1 << DIGIT];
            for used in &self.uses {
                places[digit(used)] += 1;
            }
            let mut before = 0;
            for place in &mut places {
                (before, *place) = (before + *place, before);
            }
            for used in &self.uses {
                let place = &mut places[digit(used)];
                self.moved[*place] = *used;
                *place += 1;
            }
            std::mem::swap(&mut self.uses, &mut self.moved);
        }
    }

    /// The used rows, ascending, and the inputs that used them.
    pub(super) fn grouped(&self) -> Uses<'_> {
        Uses {
            rows: &self.rows,
            ends: &self.ends,
            begin: 0,
            sources: &self.sources,
            weights: &self.weights,
        }
    }

    /// Clears the uses.
    pub(super) fn clear(&mut self) {
        self.uses.clear();
        self.rows.clear();
        self.ends.clear();
        self.sources.clear();
        self.weights.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{self, Rows};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_row_once_ascending_with_the_sum_of_its_uses() {
        let mut uses = RowUses::default();
        let of = Rows {
            data: &[0.0, 1.0, 10.0, 0.0, 3.0, 30.0],
            stride: 3,
            offset: 1,
        };
        let gradient = |uses: &RowUses, n| {
            let mut sum = [0.0; 2];
            let (sources, weights) = uses.grouped().of(n);
            kernel::weighted_sum(of, sources, weights, &mut sum);
            sum
        };
        for (row, source, weight) in [(5, 0, 1.0), (2, 0, 0.5), (5, 1, 2.0)] {
            uses.touch(row, source, weight);
        }
        uses.group();
        assert_eq!(uses.grouped().rows, [2, 5]);
        assert_eq!(
            [gradient(&uses, 0), gradient(&uses, 1)],
            [[0.5, 5.0], [7.0, 70.0]]
        );
        uses.clear();
        uses.touch(0, 1, 1.0);
        uses.group();
        assert_eq!(
            (uses.grouped().rows, gradient(&uses, 0)),
            (&[0][..], [3.0, 30.0])
        );
    }

    proptest! {
        #[test]
        fn uses_are_grouped_by_row_in_the_order_of_arrival(
            arrivals in vec((prop_oneof![0u32..20, any::<u32>()], 0usize..1000, -1.0f32..1.0), 0..200),
        ) {
            let (mut uses, mut expected) = (RowUses::default(), BTreeMap::new());
            for &(row, source, weight) in &arrivals {
                uses.touch(row, source, weight);
                expected.entry(row).or_insert_with(Vec::new).push((source as u32, weight));
            }
            uses.group();
            let whole = uses.grouped();
            let parts = whole.chunks(2).flat_map(|part| (0..part.rows.len()).map(move |n| part.of(n)));
            let each = (0..whole.rows.len()).map(|n| whole.of(n));
            prop_assert_eq!(parts.collect::<Vec<_>>(), each.collect::<Vec<_>>());
            let expected_rows: Vec<u32> = expected.keys().copied().collect();
            prop_assert_eq!(uses.grouped().rows, expected_rows);
            let ends = expected.values().scan(0, |end, uses| {
                *end += uses.len();
                Some(*end)
            });
            prop_assert_eq!(&uses.ends, &ends.collect::<Vec<_>>());
            let grouped = uses.sources.iter().copied().zip(uses.weights.iter().copied());
            let expected: Vec<(u32, f32)> = expected.into_values().flatten().collect();
            prop_assert_eq!(grouped.collect::<Vec<_>>(), expected);
        }
    }
}
