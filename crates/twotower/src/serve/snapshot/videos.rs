//! The facts of each video besides its vector, as columns by position.

mod build;

mod filter;

mod positions;

mod terms;

mod titles;

pub(crate) use build::VideosBuilder;

use positions::Positions;
use terms::Terms;
use titles::Titles;
use twotower_core::index::Attributes;
use uuid::Uuid;

/// The catalogue. The first `sorted` positions ascend by id; videos added since the last full
/// reading follow.
#[derive(Debug, Clone)]
pub(crate) struct Videos {
    ids: Vec<Uuid>,
    sorted: usize,
    positions: Positions,
    titles: Titles,
    makers: Groups,
    performers: Groups,
    terms: Terms,
    attributes: Attributes,
    /// Positions of videos that have a vector but are not in the catalogue, ascending.
    delisted: Vec<u32>,
    /// Positions of videos that count as new, ascending.
    fresh: Vec<u32>,
    /// Hash of everything that was read; equal for equal catalogues.
    digest: u64,
}

/// Terms of each position, concatenated. Kept only if lists are capped by them.
#[derive(Debug, Clone, Default)]
struct Groups {
    terms: Vec<u32>,
    /// End of each position's terms.
    ends: Vec<u32>,
}

impl Groups {
    fn push(&mut self, terms: impl IntoIterator<Item = u32>) {
        self.terms.extend(terms);
        self.ends.push(self.terms.len() as u32);
    }

    fn get(&self, position: u32) -> &[u32] {
        let position = position as usize;
        let Some(&end) = self.ends.get(position) else {
            return &[];
        };
        let start = position
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        &self.terms[start as usize..end as usize]
    }

    fn bytes(&self) -> usize {
        4 * (self.terms.capacity() + self.ends.capacity())
    }
}

impl Videos {
    /// Equal for equal catalogues.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Number of videos V.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Id of the video at `position`.
    pub(crate) fn id(&self, position: u32) -> Uuid {
        self.ids[position as usize]
    }

    /// Title of the video at `position`.
    pub(crate) fn title(&self, position: u32) -> &str {
        self.titles.get(position)
    }

    /// Ids in ascending order, without videos added later.
    pub(crate) fn sorted_ids(&self) -> &[Uuid] {
        &self.ids[..self.sorted]
    }

    /// Position of a video, if it is known here.
    pub(crate) fn position(&self, video: Uuid) -> Option<u32> {
        self.positions.get(video, &self.ids)
    }

    /// Positions of those `videos` that are known here, in the order given.
    pub(crate) fn positions(&self, videos: &[Uuid]) -> Vec<u32> {
        self.positions.all(videos, &self.ids)
    }

    /// The maker's term, for caps.
    pub(crate) fn makers(&self, position: u32) -> &[u32] {
        self.makers.get(position)
    }

    /// The performers' terms, for caps.
    pub(crate) fn performers(&self, position: u32) -> &[u32] {
        self.performers.get(position)
    }

    /// Positions of videos that have left the catalogue.
    pub(crate) fn delisted(&self) -> &[u32] {
        &self.delisted
    }

    /// Positions of new videos.
    pub(crate) fn fresh(&self) -> &[u32] {
        &self.fresh
    }

    /// The attributes that filters test.
    pub(crate) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Approximate memory, bytes.
    pub(crate) fn bytes(&self) -> usize {
        16 * self.ids.capacity()
            + self.positions.bytes()
            + self.titles.bytes()
            + self.makers.bytes()
            + self.performers.bytes()
            + self.terms.bytes()
            + self.attributes.bytes()
            + 4 * (self.delisted.capacity() + self.fresh.capacity())
    }
}
