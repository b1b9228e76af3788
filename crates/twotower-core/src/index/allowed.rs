use super::attributes::{Attributes, Filter, Prepared};
use super::bitset::Bitset;

/// Below one in this many, allowed videos are gathered and all of them scored.
const GATHER: usize = 10;

/// For each video of the base, so many questions whether a gathered one meets a condition or carries a term: more take longer than bits of
/// all videos do.
const ASKED: usize = 4;

/// Videos that are looked at to guess how many pass several conditions at once.
const SAMPLE: usize = 256;

/// The videos that pass a filter, as a search goes about them.
#[derive(Debug)]
pub(super) enum Allowed<'a> {
    /// No filter.
    All,
    /// These alone, each once.
    Few(Vec<u32>),
    /// Many, asked about one at a time.
    Many(Bitset),
    /// Most likely many: whether one passes is found out when its score would matter.
    Lazy(&'a Attributes, Vec<Prepared<'a>>),
}

impl<'a> Allowed<'a> {
    /// Those of `attributes` that meet all `conditions`. `marks` is an empty set, and is left so.
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
            // Of few, only those that pass are ever looked at.
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

    /// How many pass.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none passes.
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
    /// For whoever asks about many: it costs as much as the postings that the filter names are long, whatever the number of videos asked
    /// about, where [`Attributes::predicate`] looks into each of them anew.
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

/// The condition that the fewest videos meet, with at least as many as do: (count, its number).
fn narrowest(attributes: &Attributes, conditions: &[Prepared<'_>]) -> Option<(usize, usize)> {
    conditions
        .iter()
        .enumerate()
        .map(|(n, condition)| (attributes.at_most(*condition), n))
        .min()
}

/// Whether those `count` videos that meet the narrowest condition are asked for the others one at a time.
fn is_gathered(attributes: &Attributes, conditions: &[Prepared<'_>], count: usize) -> bool {
    let len = attributes.base_len();
    let asked: usize = conditions
        .iter()
        .map(super::attributes::Prepared::asks)
        .sum();
    count < len.div_ceil(GATHER) && count * asked <= ASKED * len
}

/// Those that meet the condition numbered `narrowest`, and the others with it. `marks` is an empty set, and is left so.
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
    // A video that was added without a row meets no condition that could be the narrowest.
    positions.extend(
        attributes
            .changed()
            .filter(|&position| attributes.meets(conditions, position)),
    );
    positions
}

/// Those that meet all conditions, found by bits of all videos.
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

/// Whether more than a tenth of the videos pass, by the counts of each condition or else by a sample.
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
        // No narrower than a tenth, or it would have been gathered; terms that overlap are told apart by the bits.
        return failing + attributes.at_most(conditions[0]) == len;
    }
    let passing = (0..SAMPLE)
        .filter(|n| attributes.meets(conditions, (n * len / SAMPLE) as u32))
        .count();
    passing * GATHER > 2 * SAMPLE
}
