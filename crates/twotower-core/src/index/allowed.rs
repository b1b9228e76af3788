use super::attributes::{Attributes, Prepared};
use super::bitset::Bitset;

/// Below one in this many, allowed videos are gathered and all of them scored.
const GATHER: usize = 10;

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
        let len = attributes.base_len();
        let narrowest = conditions
            .iter()
            .enumerate()
            .map(|(n, condition)| (attributes.at_most(*condition), n))
            .min();
        match narrowest {
            None => Self::All,
            Some((count, n)) if count < len.div_ceil(GATHER) => {
                Self::gather(attributes, &conditions, n, marks)
            }
            Some(_) if many(attributes, &conditions) => Self::Lazy(attributes, conditions),
            Some(_) => {
                let mut set = Bitset::full(len);
                for condition in &conditions {
                    attributes.restrict(&mut set, *condition);
                }
                set.reserve(attributes.len());
                let added = (len..attributes.len()).map(|position| position as u32);
                for position in attributes.changed().chain(added) {
                    if attributes.meets(&conditions, position) {
                        set.insert(position);
                    } else {
                        set.remove(position);
                    }
                }
                if set.len() < len.div_ceil(GATHER) {
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

    /// Those that meet the condition numbered `narrowest`, and the others with it.
    fn gather(
        attributes: &Attributes,
        conditions: &[Prepared<'_>],
        narrowest: usize,
        marks: &mut Bitset,
    ) -> Self {
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
        Self::Few(positions)
    }
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
