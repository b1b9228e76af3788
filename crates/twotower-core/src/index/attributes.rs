use super::bitset::Bitset;
use super::column::{Bounds, Column};
use super::postings::Postings;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use thiserror::Error;

/// Attributes that filters use: the terms that each video carries, and its numbers.
///
/// Terms and columns are numbered by the caller. Positions are those of the vectors.
#[derive(Debug, Clone)]
pub struct Attributes {
    base: Arc<Base>,
    /// Rows that were changed or added since the build.
    changes: Arc<Changes>,
    /// Number of videos, including those added.
    len: usize,
}

#[derive(Debug)]
struct Base {
    len: usize,
    postings: Postings,
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Default)]
struct Changes {
    rows: BTreeMap<u32, Row>,
    /// The positions of the base that are in `rows`.
    of_base: Bitset,
}

/// The attributes of one video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Terms that it carries.
    pub terms: Vec<u32>,
    /// One number per column.
    pub numbers: Vec<Option<f64>>,
}

/// A video passes if it meets all conditions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// In any order.
    pub conditions: Vec<Condition>,
}

/// One condition of a [`Filter`].
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// It carries at least one of these terms. Unknown terms are carried by no video.
    AnyOf(Vec<u32>),
    /// It carries none of these terms.
    NoneOf(Vec<u32>),
    /// Its number in a column is present and within the bounds. Integers are compared exactly up to
    /// 2^53.
    Between {
        /// The column.
        column: usize,
        /// Inclusive; infinite without a bound.
        values: RangeInclusive<f64>,
    },
}

/// Attributes that do not fit together, or a filter that does not fit them.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AttributesError {
    /// A column is longer or shorter than the catalogue.
    #[error("column {column} has {actual} numbers, expected {expected}")]
    Length {
        /// The column.
        column: usize,
        /// Number of videos.
        expected: usize,
        /// Numbers in the column.
        actual: usize,
    },
    /// A row has more or fewer numbers than there are columns.
    #[error("the video at position {position} has {actual} numbers, expected {expected}")]
    Numbers {
        /// Position of the video.
        position: u32,
        /// Number of columns.
        expected: usize,
        /// Numbers in the row.
        actual: usize,
    },
    /// A row is of a video that does not exist.
    #[error("there is no video at position {position}, only {len} videos")]
    Position {
        /// Position asked for.
        position: u32,
        /// Number of videos.
        len: usize,
    },
    /// A filter asks about a column that does not exist.
    #[error("the filter asks about column {column}, there are {columns}")]
    Column {
        /// Column asked for.
        column: usize,
        /// Number of columns.
        columns: usize,
    },
}

/// A condition with its bounds converted to the column's type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Prepared<'a> {
    AnyOf(&'a [u32]),
    NoneOf(&'a [u32]),
    Between(usize, Bounds),
}

impl Prepared<'_> {
    /// Number of look-ups to decide whether a video meets it.
    pub(super) fn asks(&self) -> usize {
        match self {
            Self::AnyOf(terms) | Self::NoneOf(terms) => terms.len().max(1),
            Self::Between(..) => 1,
        }
    }
}

impl Filter {
    /// Number of look-ups to decide whether a video passes: one for each term or range.
    pub fn asks(&self) -> usize {
        let asks = |condition: &Condition| match condition {
            Condition::AnyOf(terms) | Condition::NoneOf(terms) => terms.len().max(1),
            Condition::Between { .. } => 1,
        };
        self.conditions.iter().map(asks).sum()
    }
}

impl Attributes {
    /// `postings` and `columns` of `len` videos.
    ///
    /// # Errors
    /// [`AttributesError::Length`] if a column has another length.
    pub fn new(
        len: usize,
        postings: Postings,
        columns: Vec<Column>,
    ) -> Result<Self, AttributesError> {
        if let Some((column, other)) = columns
            .iter()
            .enumerate()
            .find(|(_, column)| column.len() != len)
        {
            return Err(AttributesError::Length {
                column,
                expected: len,
                actual: other.len(),
            });
        }
        Ok(Self {
            base: Arc::new(Base {
                len,
                postings,
                columns,
            }),
            changes: Arc::default(),
            len,
        })
    }

    /// `len` videos without attributes.
    pub fn none(len: usize) -> Self {
        Self {
            base: Arc::new(Base {
                len,
                postings: Postings::default(),
                columns: Vec::new(),
            }),
            changes: Arc::default(),
            len,
        }
    }

    /// Number of videos.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no video.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same with other rows, and `len` videos in all. Shares what has not changed. An added
    /// video without a row has no terms and no numbers.
    ///
    /// # Errors
    /// [`AttributesError::Position`] and [`AttributesError::Numbers`] of the first row that does
    /// not fit.
    pub fn with_changes(&self, rows: &[(u32, Row)], len: usize) -> Result<Self, AttributesError> {
        let mut changes = Changes::clone(&self.changes);
        changes.of_base.reserve(self.base.len);
        for (position, row) in rows {
            if *position as usize >= len {
                return Err(AttributesError::Position {
                    position: *position,
                    len,
                });
            }
            if row.numbers.len() != self.base.columns.len() {
                return Err(AttributesError::Numbers {
                    position: *position,
                    expected: self.base.columns.len(),
                    actual: row.numbers.len(),
                });
            }
            if (*position as usize) < self.base.len {
                changes.of_base.insert(*position);
            }
            changes.rows.insert(*position, row.clone());
        }
        Ok(Self {
            base: Arc::clone(&self.base),
            changes: Arc::new(changes),
            len,
        })
    }

    /// A function that tells whether the video at a position passes `filter`. No video passes a
    /// filter that does not fit.
    pub fn predicate<'a>(&'a self, filter: &'a Filter) -> impl Fn(u32) -> bool + 'a {
        let conditions = self.prepare(filter);
        move |position| {
            (position as usize) < self.len
                && conditions
                    .as_ref()
                    .is_ok_and(|conditions| self.meets(conditions, position))
        }
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        let rows = self.changes.rows.values().map(|row| {
            size_of::<(u32, Row)>()
                + size_of_val(row.terms.as_slice())
                + size_of_val(row.numbers.as_slice())
        });
        self.base.postings.bytes()
            + self.base.columns.iter().map(Column::bytes).sum::<usize>()
            + rows.sum::<usize>()
            + self.changes.of_base.bytes()
    }

    /// Number of videos in the base; later positions were added.
    pub(super) fn base_len(&self) -> usize {
        self.base.len
    }

    /// Converts the bounds of the filter's conditions to their columns' types.
    pub(super) fn prepare<'a>(
        &self,
        filter: &'a Filter,
    ) -> Result<Vec<Prepared<'a>>, AttributesError> {
        let prepare = |condition: &'a Condition| match condition {
            Condition::AnyOf(terms) => Ok(Prepared::AnyOf(terms)),
            Condition::NoneOf(terms) => Ok(Prepared::NoneOf(terms)),
            Condition::Between { column, values } => match self.base.columns.get(*column) {
                Some(numbers) => Ok(Prepared::Between(*column, numbers.bounds(values))),
                None => Err(AttributesError::Column {
                    column: *column,
                    columns: self.base.columns.len(),
                }),
            },
        };
        filter.conditions.iter().map(prepare).collect()
    }

    /// Whether the video at `position` meets all `conditions`.
    pub(super) fn meets(&self, conditions: &[Prepared<'_>], position: u32) -> bool {
        if position as usize >= self.base.len || self.changes.of_base.contains(position) {
            self.row_meets(conditions, position)
        } else {
            conditions
                .iter()
                .all(|condition| self.base_meets(*condition, position))
        }
    }

    /// Positions of videos with changed or added rows, ascending.
    pub(super) fn changed(&self) -> impl Iterator<Item = u32> {
        self.changes.rows.keys().copied()
    }

    /// Whether the base's attributes of `position` are outdated.
    pub(super) fn is_changed(&self, position: u32) -> bool {
        self.changes.of_base.contains(position)
    }

    /// Upper bound on the number of videos of the base that meet the condition.
    pub(super) fn at_most(&self, condition: Prepared<'_>) -> usize {
        match condition {
            Prepared::AnyOf(terms) => self.counts(terms).min(self.base.len),
            Prepared::NoneOf(_) => self.base.len,
            Prepared::Between(column, bounds) => self.base.columns[column].within(bounds).len(),
        }
    }

    /// Upper bound on the number of videos of the base that fail the condition.
    pub(super) fn failing_at_most(&self, condition: Prepared<'_>) -> usize {
        match condition {
            Prepared::AnyOf(terms) => {
                let most = terms.iter().map(|&term| self.base.postings.count(term));
                self.base.len - most.max().unwrap_or(0)
            }
            Prepared::NoneOf(terms) => self.counts(terms).min(self.base.len),
            Prepared::Between(column, bounds) => {
                self.base.len - self.base.columns[column].within(bounds).len()
            }
        }
    }

    /// Calls `visit` with the videos of the base that meet a condition other than
    /// [`Prepared::NoneOf`]; a video that carries several of its terms comes several times.
    pub(super) fn for_each(&self, condition: Prepared<'_>, mut visit: impl FnMut(u32)) {
        match condition {
            Prepared::AnyOf(terms) => terms
                .iter()
                .for_each(|&term| self.base.postings.for_each(term, &mut visit)),
            Prepared::NoneOf(_) => {}
            Prepared::Between(column, bounds) => self.base.columns[column]
                .within(bounds)
                .iter()
                .copied()
                .for_each(visit),
        }
    }

    /// Removes the videos of the base that fail the condition from `set`.
    pub(super) fn restrict(&self, set: &mut Bitset, condition: Prepared<'_>) {
        let mut named = Bitset::new(self.base.len);
        match condition {
            Prepared::AnyOf(terms) | Prepared::NoneOf(terms) => terms
                .iter()
                .for_each(|&term| self.base.postings.add_to(term, &mut named)),
            Prepared::Between(..) => self.for_each(condition, |position| {
                named.insert(position);
            }),
        }
        if matches!(condition, Prepared::NoneOf(_)) {
            set.subtract(&named);
        } else {
            set.intersect(&named);
        }
    }

    fn counts(&self, terms: &[u32]) -> usize {
        terms
            .iter()
            .map(|&term| self.base.postings.count(term))
            .sum()
    }

    fn base_meets(&self, condition: Prepared<'_>, position: u32) -> bool {
        let carries = |terms: &[u32]| {
            terms
                .iter()
                .any(|&term| self.base.postings.contains(term, position))
        };
        match condition {
            Prepared::AnyOf(terms) => carries(terms),
            Prepared::NoneOf(terms) => !carries(terms),
            Prepared::Between(column, bounds) => {
                self.base.columns[column].contains(position, bounds)
            }
        }
    }

    fn row_meets(&self, conditions: &[Prepared<'_>], position: u32) -> bool {
        let (terms, numbers) = match self.changes.rows.get(&position) {
            Some(row) => (row.terms.as_slice(), row.numbers.as_slice()),
            None => (&[] as &[u32], &[] as &[Option<f64>]),
        };
        conditions.iter().all(|condition| match condition {
            Prepared::AnyOf(asked) => asked.iter().any(|term| terms.contains(term)),
            Prepared::NoneOf(asked) => !asked.iter().any(|term| terms.contains(term)),
            Prepared::Between(column, bounds) => numbers
                .get(*column)
                .copied()
                .flatten()
                .is_some_and(|value| bounds.contain(value)),
        })
    }
}
