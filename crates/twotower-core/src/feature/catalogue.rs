use super::packed::{Lists, Texts};
use super::video::{Names, Video, VideoRef};
use std::collections::HashMap;
use thiserror::Error;
use uuid::Uuid;

/// All videos in ascending order of id. A video's position is its internal id.
///
/// Memory is little more than the texts: 112 bytes per video, 4 per name of a tag or performer, and
/// the titles, descriptions and addresses themselves.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    rows: Vec<Row>,
    /// Title, description and address of the n-th video in the order of arrival are numbers 3 n to
    /// 3 n + 2.
    texts: Texts,
    /// Genres, makers, tags and performers, ascending and distinct.
    names: Texts,
    tags: Lists,
    performers: Lists,
}

/// The single-valued fields of a video.
#[derive(Debug, Clone)]
struct Row {
    id: Uuid,
    /// Number of videos that arrived before it.
    arrival: u32,
    genre: Option<u32>,
    maker: Option<u32>,
    price: Option<f32>,
    duration_seconds: Option<f32>,
    published_at_us: Option<i64>,
    has_thumbnail: bool,
}

/// Videos that cannot form a catalogue.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CatalogueError {
    /// Two videos share an id.
    #[error("video {0} is listed twice")]
    Duplicate(Uuid),
}

impl Catalogue {
    /// Makes a catalogue of `videos`, in any order.
    ///
    /// # Errors
    /// [`CatalogueError::Duplicate`] if two of them share an id.
    pub fn new(videos: impl IntoIterator<Item = Video>) -> Result<Self, CatalogueError> {
        let mut builder = CatalogueBuilder::default();
        for video in videos {
            builder.video(&video);
        }
        builder.finish()
    }

    /// Number of videos.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no video.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Number of distinct names of genres, makers, tags and performers.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// The videos in ascending order of id.
    pub fn videos(&self) -> impl ExactSizeIterator<Item = VideoRef<'_>> + Clone {
        (0..self.len()).map(|position| self.video(position))
    }

    /// The video at `position`.
    ///
    /// # Panics
    /// If there is no such position.
    pub fn video(&self, position: usize) -> VideoRef<'_> {
        let row = &self.rows[position];
        let text = |n| self.texts.get(3 * row.arrival as usize + n);
        let name = |number| self.names.get(number as usize);
        let names = |numbers| Names::numbered(&self.names, numbers);
        VideoRef {
            id: row.id,
            title: text(0),
            description: text(1),
            genre: row.genre.map(name),
            maker: row.maker.map(name),
            price: row.price,
            duration_seconds: row.duration_seconds,
            published_at_us: row.published_at_us,
            thumbnail_url: row.has_thumbnail.then(|| text(2)),
            tags: names(self.tags.get(position)),
            performers: names(self.performers.get(position)),
        }
    }

    /// Id of the video at `position`.
    ///
    /// # Panics
    /// If there is no such position.
    pub fn id(&self, position: usize) -> Uuid {
        self.rows[position].id
    }

    /// Position of the video `id`, if there is one.
    pub fn position(&self, id: Uuid) -> Option<u32> {
        self.rows
            .binary_search_by_key(&id, |row| row.id)
            .ok()
            .map(|position| position as u32)
    }
}

/// Makes a [`Catalogue`] of videos and their names, in any order; names may arrive apart from their
/// video.
///
/// Videos are normalised here, whether they come from a database or from files: surrounding white
/// space of texts and names is removed, empty names are dropped, and a negative or non-finite price
/// or length becomes `None`.
#[derive(Debug, Default)]
pub struct CatalogueBuilder {
    rows: Vec<Row>,
    texts: Texts,
    names: Numbers,
    /// (video, name)
    tags: Vec<(u32, u32)>,
    performers: Vec<(u32, u32)>,
    /// Filled when the first separate name arrives.
    arrivals: HashMap<Uuid, u32>,
    orphans: u64,
}

/// Gives each name a number.
#[derive(Debug, Default)]
struct Numbers(HashMap<String, u32>);

impl Numbers {
    fn of(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.0.get(name) {
            return number;
        }
        let number = self.0.len() as u32;
        self.0.insert(name.to_owned(), number);
        number
    }

    /// The names in ascending order, and the rank of each number.
    fn ranked(self) -> (Texts, Vec<u32>) {
        let mut names: Vec<(String, u32)> = self.0.into_iter().collect();
        names.sort_unstable();
        let (mut texts, mut ranks) = (Texts::default(), vec![0; names.len()]);
        for (name, number) in names {
            ranks[number as usize] = texts.len() as u32;
            texts.push(&name);
        }
        (texts, ranks)
    }
}

impl CatalogueBuilder {
    /// Adds a video with its names.
    pub fn video(&mut self, video: &Video) {
        let arrival = self.rows.len() as u32;
        let thumbnail = video.thumbnail_url.as_deref().and_then(tidy);
        for text in [&video.title, &video.description, thumbnail.unwrap_or("")] {
            self.texts.push(text.trim());
        }
        for (names, pairs) in [
            (&video.tags, &mut self.tags),
            (&video.performers, &mut self.performers),
        ] {
            let names = names.iter().filter_map(|name| tidy(name));
            pairs.extend(names.map(|name| (arrival, self.names.of(name))));
        }
        let mut number = |name: &Option<String>| {
            let name = name.as_deref().and_then(tidy);
            name.map(|name| self.names.of(name))
        };
        self.rows.push(Row {
            id: video.id,
            arrival,
            genre: number(&video.genre),
            maker: number(&video.maker),
            price: video.price.and_then(amount),
            duration_seconds: video.duration_seconds.and_then(amount),
            published_at_us: video.published_at_us,
            has_thumbnail: thumbnail.is_some(),
        });
    }

    /// Adds a tag to a video that has arrived.
    pub fn tag(&mut self, video: Uuid, name: &str) {
        if let Some(pair) = self.pair(video, name) {
            self.tags.push(pair);
        }
    }

    /// Adds a performer to a video that has arrived.
    pub fn performer(&mut self, video: Uuid, name: &str) {
        if let Some(pair) = self.pair(video, name) {
            self.performers.push(pair);
        }
    }

    fn pair(&mut self, video: Uuid, name: &str) -> Option<(u32, u32)> {
        let known = self.arrivals.len();
        let new = self.rows.get(known..).unwrap_or_default();
        self.arrivals
            .extend(new.iter().map(|row| (row.id, row.arrival)));
        let Some(&arrival) = self.arrivals.get(&video) else {
            self.orphans += 1;
            return None;
        };
        Some((arrival, self.names.of(tidy(name)?)))
    }

    /// Number of names that arrived for no video.
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// The catalogue: videos in order, each with ascending, distinct names.
    ///
    /// # Errors
    /// [`CatalogueError::Duplicate`] if two videos share an id.
    pub fn finish(self) -> Result<Catalogue, CatalogueError> {
        let Self {
            mut rows,
            texts,
            names,
            tags,
            performers,
            ..
        } = self;
        rows.sort_unstable_by_key(|row| row.id);
        if let Some(pair) = rows.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(CatalogueError::Duplicate(pair[0].id));
        }
        let (names, ranks) = names.ranked();
        let mut positions = vec![0; rows.len()];
        for (position, row) in (0..).zip(&mut rows) {
            positions[row.arrival as usize] = position;
            for number in [&mut row.genre, &mut row.maker].into_iter().flatten() {
                *number = ranks[*number as usize];
            }
        }
        let lists = |mut pairs: Vec<(u32, u32)>| {
            for (video, name) in &mut pairs {
                *video = positions[*video as usize];
                *name = ranks[*name as usize];
            }
            Lists::of_pairs(positions.len(), pairs)
        };
        Ok(Catalogue {
            tags: lists(tags),
            performers: lists(performers),
            rows,
            texts,
            names,
        })
    }
}

/// The text without surrounding white space; `None` if nothing is left.
pub fn tidy(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// A price or length; `None` if it is negative or not finite. -0 becomes 0.
pub fn amount(number: f32) -> Option<f32> {
    (number.is_finite() && number >= 0.0).then_some(number + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;

    fn any_video() -> impl Strategy<Value = Video> {
        let names = || btree_set("[a-dé]{1,2}", 0..4).prop_map(|names| names.into_iter().collect());
        let text = || "([a-z映]([a-z 映]{0,7}[a-z映])?)?";
        let texts = (text(), text(), option::of("[a-z]{1,5}"));
        let terms = (
            option::of("[a-d]{1,2}"),
            option::of("[a-d]{1,2}"),
            names(),
            names(),
        );
        let numbers = (
            option::of(0f32..9.0),
            option::of(0f32..9.0),
            option::of(any::<i64>()),
        );
        (texts, terms, numbers).prop_map(|(texts, terms, numbers)| Video {
            id: Uuid::nil(),
            title: texts.0,
            description: texts.1,
            thumbnail_url: texts.2,
            genre: terms.0,
            maker: terms.1,
            tags: terms.2,
            performers: terms.3,
            price: numbers.0,
            duration_seconds: numbers.1,
            published_at_us: numbers.2,
        })
    }

    /// Videos with distinct ids, ascending.
    fn any_videos() -> impl Strategy<Value = Vec<Video>> {
        btree_map(any::<u128>(), any_video(), 0..9).prop_map(|videos| {
            let with_id = |(id, video)| Video {
                id: Uuid::from_u128(id),
                ..video
            };
            videos.into_iter().map(with_id).collect()
        })
    }

    fn unpacked(catalogue: &Catalogue) -> Vec<Video> {
        catalogue.videos().map(VideoRef::to_video).collect()
    }

    proptest! {
        #[test]
        fn a_catalogue_gives_back_the_videos_it_was_made_of(
            videos in any_videos(), shuffle in vec(any::<u64>(), 9),
        ) {
            let mut shuffled: Vec<_> = shuffle.into_iter().zip(videos.clone()).collect();
            shuffled.sort_by_key(|&(key, _)| key);
            let catalogue = Catalogue::new(shuffled.into_iter().map(|(_, video)| video)).unwrap();
            prop_assert_eq!(unpacked(&catalogue), videos.clone());
            for (position, video) in videos.iter().enumerate() {
                prop_assert_eq!(catalogue.video(position), VideoRef::from(video));
                prop_assert_eq!(catalogue.id(position), video.id);
                prop_assert_eq!(catalogue.position(video.id), Some(position as u32));
            }
        }

        #[test]
        fn white_space_around_a_text_does_not_count(videos in any_videos(), around in "[ \t\n\u{3000}]{0,2}") {
            let spaced = |text: &str| format!("{around}{text}{around}");
            let all = |names: &[String]| {
                // Each name twice, and an empty one.
                let names = names.iter().flat_map(|name| [name.clone(), spaced(name)]);
                names.chain([around.clone()]).collect()
            };
            let some = |name: &Option<String>| name.as_deref().map(spaced).or(Some(around.clone()));
            let untidy = videos.iter().map(|video| Video {
                title: spaced(&video.title),
                description: spaced(&video.description),
                genre: some(&video.genre),
                maker: some(&video.maker),
                thumbnail_url: some(&video.thumbnail_url),
                tags: all(&video.tags),
                performers: all(&video.performers),
                ..video.clone()
            });
            prop_assert_eq!(unpacked(&Catalogue::new(untidy).unwrap()), videos);
        }

        #[test]
        fn names_that_come_later_in_any_order_and_twice_are_the_same(videos in any_videos()) {
            let mut builder = CatalogueBuilder::default();
            for video in videos.iter().rev() {
                let bare = Video { tags: Vec::new(), performers: Vec::new(), ..video.clone() };
                builder.video(&bare);
            }
            for video in &videos {
                for name in video.tags.iter().rev().chain(&video.tags) {
                    builder.tag(video.id, name);
                }
                for name in video.performers.iter().rev() {
                    builder.performer(video.id, &format!(" {name}\n"));
                }
                builder.tag(video.id, " ");
            }
            prop_assert_eq!(builder.orphans(), 0);
            prop_assert_eq!(unpacked(&builder.finish().unwrap()), videos);
        }
    }

    #[test]
    fn what_is_no_amount_is_not_known() {
        for number in [-1.0, f32::NAN, f32::INFINITY] {
            let video = Video {
                price: Some(number),
                duration_seconds: Some(number),
                ..Video::default()
            };
            let catalogue = Catalogue::new([video]).unwrap();
            let video = catalogue.video(0);
            assert_eq!((video.price, video.duration_seconds), (None, None));
        }
        assert_eq!(amount(-0.0).map(f32::to_bits), Some(0));
    }

    #[test]
    fn a_video_that_comes_twice_is_refused_and_names_of_none_are_counted() {
        let video = |n| Video {
            id: Uuid::from_u128(n),
            ..Video::default()
        };
        assert_eq!(
            Catalogue::new([video(2), video(1), video(2)]).unwrap_err(),
            CatalogueError::Duplicate(Uuid::from_u128(2))
        );
        let mut builder = CatalogueBuilder::default();
        builder.tag(Uuid::from_u128(1), "early");
        builder.video(&video(1));
        builder.tag(Uuid::from_u128(1), "drama");
        builder.performer(Uuid::from_u128(9), "nobody");
        assert_eq!(builder.orphans(), 2);
        let catalogue = builder.finish().unwrap();
        assert_eq!(
            catalogue.video(0).tags.iter().collect::<Vec<_>>(),
            ["drama"]
        );
        assert_eq!(catalogue.position(Uuid::from_u128(9)), None);
    }
}
