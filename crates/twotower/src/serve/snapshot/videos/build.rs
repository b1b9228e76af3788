use super::positions::Positions;
use super::terms::{TermKind, Terms};
use super::titles::Titles;
use super::{Groups, Videos};
use crate::serve::snapshot::Catalogue;
use std::hash::{DefaultHasher, Hash, Hasher};
use twotower_core::index::{Attributes, AttributesError, Column, Postings, Row};
use twotower_core::time::DAY_US;
use twotower_store::VideoFacts;
use uuid::Uuid;

/// Column of prices, in the application's currency.
pub(super) const PRICE: usize = 0;

/// Column of times of publication, days since 1970.
pub(super) const PUBLISHED: usize = 1;

/// Builds [`Videos`] from rows in ascending order of id.
#[derive(Debug)]
pub(crate) struct VideosBuilder {
    /// The videos that have a vector; `None` without a model, when all videos are taken.
    wanted: Option<Vec<Uuid>>,
    catalogue: Catalogue,
    ids: Vec<Uuid>,
    titles: Titles,
    makers: Groups,
    performers: Groups,
    terms: Terms,
    pairs: Vec<(u32, u32)>,
    prices: Vec<Option<f32>>,
    published_days: Vec<Option<f32>>,
    delisted: Vec<u32>,
    fresh: Vec<u32>,
    digest: DefaultHasher,
}

impl VideosBuilder {
    /// A builder for exactly the videos `wanted`, ascending, or for all videos.
    pub(crate) fn new(wanted: Option<Vec<Uuid>>, catalogue: Catalogue) -> Self {
        Self {
            wanted,
            catalogue,
            ids: Vec::new(),
            titles: Titles::default(),
            makers: Groups::default(),
            performers: Groups::default(),
            terms: Terms::default(),
            pairs: Vec::new(),
            prices: Vec::new(),
            published_days: Vec::new(),
            delisted: Vec::new(),
            fresh: Vec::new(),
            digest: DefaultHasher::new(),
        }
    }

    /// Takes the next video.
    pub(crate) fn push(&mut self, facts: &VideoFacts) {
        if self.reach(facts.id) {
            self.add(facts.id, Some(facts));
        }
    }

    /// Whether the video `id` is wanted. Adds earlier wanted videos that did not come, as delisted.
    fn reach(&mut self, id: Uuid) -> bool {
        loop {
            let next = match &self.wanted {
                None => return true,
                Some(wanted) => wanted.get(self.ids.len()).copied(),
            };
            match next {
                Some(next) if next < id => self.add(next, None),
                // `next` may be `None`: the newest uploads, for example, may have no vectors yet.
                next => return next == Some(id),
            }
        }
    }

    fn add(&mut self, id: Uuid, facts: Option<&VideoFacts>) {
        let position = self.ids.len() as u32;
        digest(id, facts, &mut self.digest);
        let unknown = VideoFacts::default();
        let row = Described::new(facts.unwrap_or(&unknown), &mut self.terms);
        if facts.is_none() {
            self.delisted.push(position);
        } else if self.catalogue.is_fresh(row.published_days) {
            self.fresh.push(position);
        }
        self.ids.push(id);
        self.titles.push(&facts.unwrap_or(&unknown).title);
        if self.catalogue.groups {
            self.makers.push(row.maker);
            self.performers.push(row.performers.iter().copied());
        }
        let carried = row.all().map(|term| (term, position));
        self.pairs.extend(carried);
        self.prices.push(row.price);
        self.published_days.push(row.published_days);
    }

    /// Completes the catalogue.
    ///
    /// # Errors
    /// Never, since the columns are as long as the ids.
    pub(crate) fn finish(mut self) -> Result<Videos, AttributesError> {
        while let Some(next) = self
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.get(self.ids.len()).copied())
        {
            self.add(next, None);
        }
        let len = self.ids.len();
        let postings = Postings::new(len, self.terms.len(), self.pairs.iter().copied());
        let columns = vec![
            Column::floats(self.prices),
            Column::floats(self.published_days),
        ];
        Ok(Videos {
            attributes: Attributes::new(len, postings, columns)?,
            sorted: len,
            positions: Positions::new(&self.ids),
            ids: self.ids,
            titles: self.titles,
            makers: self.makers,
            performers: self.performers,
            terms: self.terms,
            delisted: self.delisted,
            fresh: self.fresh,
            digest: self.digest.finish(),
        })
    }
}

impl Videos {
    /// The same catalogue with added videos, and their attributes. Their positions follow the last
    /// one. A video without facts is not in the catalogue.
    ///
    /// # Errors
    /// Never, since the rows have as many numbers as there are columns.
    pub(crate) fn with_added(
        &self,
        added: &[(Uuid, Option<VideoFacts>)],
        catalogue: Catalogue,
    ) -> Result<(Self, Vec<(u32, Row)>), AttributesError> {
        let mut videos = self.clone();
        let mut rows = Vec::with_capacity(added.len());
        let mut digests = DefaultHasher::new();
        self.digest.hash(&mut digests);
        for (id, facts) in added {
            let position = videos.ids.len() as u32;
            digest(*id, facts.as_ref(), &mut digests);
            let unknown = VideoFacts::default();
            let row = Described::new(facts.as_ref().unwrap_or(&unknown), &mut videos.terms);
            if facts.is_none() {
                videos.delisted.push(position);
            } else if catalogue.is_fresh(row.published_days) {
                videos.fresh.push(position);
            }
            videos.ids.push(*id);
            videos.positions.insert(position, &videos.ids);
            videos
                .titles
                .push(&facts.as_ref().unwrap_or(&unknown).title);
            if catalogue.groups {
                videos.makers.push(row.maker);
                videos.performers.push(row.performers.iter().copied());
            }
            let mut numbers = vec![None; 2];
            numbers[PRICE] = row.price.map(f64::from);
            numbers[PUBLISHED] = row.published_days.map(f64::from);
            let terms = row.all().collect();
            rows.push((position, Row { terms, numbers }));
        }
        videos.digest = digests.finish();
        videos.attributes = self.attributes.with_changes(&rows, videos.ids.len())?;
        Ok((videos, rows))
    }
}

/// Hashes the facts; equal for equal facts.
fn digest(id: Uuid, facts: Option<&VideoFacts>, hasher: &mut DefaultHasher) {
    id.hash(hasher);
    if let Some(facts) = facts {
        (&facts.title, &facts.genre, &facts.maker).hash(hasher);
        (&facts.tags, &facts.performers).hash(hasher);
        (facts.price.map(f32::to_bits), facts.published_at_us).hash(hasher);
    }
}

/// A video as terms and numbers of its columns.
struct Described {
    maker: Option<u32>,
    performers: Vec<u32>,
    others: Vec<u32>,
    price: Option<f32>,
    published_days: Option<f32>,
}

impl Described {
    fn new(facts: &VideoFacts, terms: &mut Terms) -> Self {
        let maker = facts
            .maker
            .as_ref()
            .map(|name| terms.intern(TermKind::Maker, name));
        let performers = facts.performers.iter();
        let performers = performers
            .map(|name| terms.intern(TermKind::Performer, name))
            .collect();
        let tags = facts.tags.iter().map(|name| (TermKind::Tag, name));
        let genre = facts.genre.iter().map(|name| (TermKind::Genre, name));
        let others = tags
            .chain(genre)
            .map(|(kind, name)| terms.intern(kind, name))
            .collect();
        Self {
            maker,
            performers,
            others,
            price: facts.price,
            published_days: facts
                .published_at_us
                .map(|at_us| (at_us as f64 / DAY_US as f64) as f32),
        }
    }

    fn all(&self) -> impl Iterator<Item = u32> {
        let performers = self.performers.iter().copied();
        self.maker
            .into_iter()
            .chain(performers)
            .chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const CATALOGUE: Catalogue = Catalogue {
        groups: false,
        fresh_from_day: 0.0,
    };

    fn ids(numbers: &BTreeSet<u8>) -> Vec<Uuid> {
        let ids = numbers.iter().map(|&n| Uuid::from_u128(n.into()));
        ids.collect()
    }

    /// The catalogue of the videos with a vector, given the videos that come.
    fn built(wanted: Option<Vec<Uuid>>, coming: &[Uuid]) -> Videos {
        let mut builder = VideosBuilder::new(wanted, CATALOGUE);
        for &id in coming {
            builder.push(&VideoFacts {
                id,
                title: id.to_string(),
                ..VideoFacts::default()
            });
        }
        builder.finish().unwrap()
    }

    #[test]
    fn uploads_without_a_vector_are_left_out_wherever_they_sort() {
        let vectored = ids(&[3, 5, 8].into());
        for without in [1, 4, 6, 9] {
            let coming = ids(&[3, 5, 8, without].into());
            let videos = built(Some(vectored.clone()), &coming);
            assert_eq!(videos.sorted_ids(), vectored, "{without}");
            assert_eq!(videos.attributes().len(), 3, "{without}");
            assert_eq!(videos.delisted(), [0; 0], "{without}");
        }
    }

    proptest! {
        #[test]
        fn exactly_the_videos_with_a_vector_are_there(
            vectored in btree_set(0u8..40, 0..20), coming in btree_set(0u8..40, 0..20),
        ) {
            let (wanted, coming_ids) = (ids(&vectored), ids(&coming));
            let videos = built(Some(wanted.clone()), &coming_ids);
            prop_assert_eq!(videos.sorted_ids(), &wanted[..]);
            prop_assert_eq!(videos.attributes().len(), wanted.len());
            let gone = (0..).zip(&vectored).filter(|(_, n)| !coming.contains(n));
            let gone: Vec<u32> = gone.map(|(position, _)| position).collect();
            prop_assert_eq!(videos.delisted(), &gone[..]);
            for (position, id) in (0..).zip(&wanted) {
                let title = if gone.contains(&position) { String::new() } else { id.to_string() };
                prop_assert_eq!(videos.title(position), title);
            }
            let all = built(None, &coming_ids);
            prop_assert_eq!(all.sorted_ids(), &coming_ids[..]);
        }
    }
}
