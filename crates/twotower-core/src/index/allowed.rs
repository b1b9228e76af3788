use super::attributes::{Attributes, Filter, Prepared};
use super::bitset::Bitset;

/// If fewer than one in this many videos are allowed, they are gathered and all scored.
const GATHER: usize = 10;

/// At most this many look-ups per video of the base to check gathered videos: more would take
/// longer than bitsets of all videos.
const ASKED: usize = 4;

/// Videos sampled to estimate how many pass several conditions.
const SAMPLE: usize = 256;

/// The videos that pass a filter, in the form that a search uses.
#[derive(Debug)]
pub(super) enum Allowed<'a> {
    /// No filter.
    All,
    /// Only these, each once.
    Few(Vec<u32>),
    /// Many, in a bitset.
    Many(Bitset),
    /// Probably many: a video is checked when its score matters.
    Lazy(&'a Attributes, Vec<Prepared<'a>>),
}

impl<'a> Allowed<'a> {
    /// The videos of `attributes` that meet all `conditions`. `marks` is an empty set before and
    /// after.
    pub(super) fn new(
        attributes: &'a Attributes,
        conditions: Vec<Prepared<'a>>,
        marks: &mut Bitset,
    ) -> Self {
        let few = |count: usize| count < attributes.base_len().div_ceil(GATHER);
        match narrowest(attributes, &conditions) {
            None => Self::All,
            Some((count, n)) if is_gathered(attributes, &conditions, count) => {
                Self::Few(gather(attributes, &conditions, n, marks))
            }
            Some((count, _)) if !few(count) && many(attributes, &conditions) => {
                Self::Lazy(attributes, conditions)
            }
            Some(_) => {
                let set = restricted(attributes, &conditions);
                if few(set.len()) {
                    Self::Few(set.iter().collect())
                } else {
                    Self::Many(set)
                }
            }
        }
    }

    /// Whether the video at `position` passes.
    #[inline]
    pub(super) fn contains(&self, position: u32) -> bool {
        match self {
            // Only videos that pass are searched.
            Self::All | Self::Few(_) => true,
            Self::Many(set) => set.contains(position),
            Self::Lazy(attributes, conditions) => attributes.meets(conditions, position),
        }
    }
}

/// The videos that pass a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passing(Bitset);

impl Passing {
    /// Whether the video at `position` passes.
    #[inline]
    pub fn contains(&self, position: u32) -> bool {
        self.0.contains(position)
    }

    /// Number of videos that pass.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no video passes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their positions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter()
    }
}

impl Attributes {
    /// All videos that pass `filter`; none if it does not fit.
    ///
    /// For callers that ask about many videos: the cost is that of the postings that the filter
    /// names, whatever the number of videos asked about, whereas [`Attributes::predicate`] checks
    /// each video separately.
    pub fn passing(&self, filter: &Filter) -> Passing {
        let Ok(conditions) = self.prepare(filter) else {
            return Passing::default();
        };
        Passing(match narrowest(self, &conditions) {
            Some((count, n)) if is_gathered(self, &conditions, count) => {
                let mut set = Bitset::new(self.len());
                set.mark(&gather(self, &conditions, n, &mut Bitset::default()));
                set
            }
            _ => restricted(self, &conditions),
        })
    }
}

/// The condition that the fewest videos meet: (upper bound on their number, index of the
/// condition).
fn narrowest(attributes: &Attributes, conditions: &[Prepared<'_>]) -> Option<(usize, usize)> {
    conditions
        .iter()
        .enumerate()
        .map(|(n, condition)| (attributes.at_most(*condition), n))
        .min()
}

/// Whether the `count` videos that meet the narrowest condition are gathered and checked one at a
/// time.
fn is_gathered(attributes: &Attributes, conditions: &[Prepared<'_>], count: usize) -> bool {
    let len = attributes.base_len();
    let asked: usize = conditions
        .iter()
        .map(super::attributes::Prepared::asks)
        .sum();
    count < len.div_ceil(GATHER) && count * asked <= ASKED * len
}

/// Videos that meet the condition at `narrowest` and all others. `marks` is an empty set before and
/// after.
fn gather(
    attributes: &Attributes,
    conditions: &[Prepared<'_>],
    narrowest: usize,
    marks: &mut Bitset,
) -> Vec<u32> {
    marks.reserve(attributes.base_len());
    let condition = conditions[narrowest];
    let mut positions = Vec::with_capacity(attributes.at_most(condition));
    let once = match condition {
        Prepared::AnyOf(terms) => terms.len() < 2,
        Prepared::NoneOf(_) | Prepared::Between(..) => true,
    };
    attributes.for_each(condition, |position| {
        if once || marks.insert(position) {
            positions.push(position);
        }
    });
    if !once {
        marks.unmark(&positions);
    }
    if conditions.len() > 1 {
        positions.retain(|&position| attributes.meets(conditions, position));
    }
    positions.retain(|&position| !attributes.is_changed(position));
    // A video that was added without a row does not meet any condition that could be the narrowest.
    positions.extend(
        attributes
            .changed()
            .filter(|&position| attributes.meets(conditions, position)),
    );
    positions
}

/// The videos that meet all conditions, as a bitset.
fn restricted(attributes: &Attributes, conditions: &[Prepared<'_>]) -> Bitset {
    let len = attributes.base_len();
    let mut set = Bitset::full(len);
    for condition in conditions {
        attributes.restrict(&mut set, *condition);
    }
    set.reserve(attributes.len());
    let added = (len..attributes.len()).map(|position| position as u32);
    for position in attributes.changed().chain(added) {
        if attributes.meets(conditions, position) {
            set.insert(position);
        } else {
            set.remove(position);
        }
    }
    set
}

/// Whether more than a tenth of the videos pass, by the counts of each condition or else by a
/// sample.
fn many(attributes: &Attributes, conditions: &[Prepared<'_>]) -> bool {
    let len = attributes.base_len();
    let failing: usize = conditions
        .iter()
        .map(|condition| attributes.failing_at_most(*condition))
        .sum();
    if failing + len.div_ceil(GATHER) <= len {
        return true;
    }
    if conditions.len() == 1 && !matches!(conditions[0], Prepared::NoneOf(_)) {
        // The condition is not narrower than a tenth, or it would have been gathered. For
        // overlapping terms the bitsets decide.
        return failing + attributes.at_most(conditions[0]) == len;
    }
    let passing = (0..SAMPLE)
        .filter(|n| attributes.meets(conditions, (n * len / SAMPLE) as u32))
        .count();
    passing * GATHER > 2 * SAMPLE
}
