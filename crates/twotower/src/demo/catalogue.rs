use super::GeneratorOptions;
use super::latent::{DIM, Vector, add, add_mean, direction, normalised};
use super::random::{exponential, generator, normal, pick, skewed, unit};
use super::text::Subject;
use super::words::{self, GENRES, MOODS, TOPICS, Word};
use rand::{Rng, RngExt};
use rand_pcg::Pcg64;
use twotower_core::feature::Video;
use twotower_core::time::MINUTE_US;
use uuid::Uuid;

const MAKERS: usize = 60;
const PERFORMERS: usize = 240;
/// Days from the publication of the oldest video to the first possible like.
const BACK_CATALOGUE_DAYS: f32 = 1_000.0;
/// Share of the catalogue that is published during the period of likes.
const NEW: f32 = 0.12;

/// Weights of the parts that determine a video's position.
mod weight {
    pub(super) const GENRE: f32 = 0.55;
    pub(super) const TOPICS: f32 = 0.60;
    pub(super) const MAKER: f32 = 0.35;
    pub(super) const PERFORMERS: f32 = 0.40;
    pub(super) const MOODS: f32 = 0.20;
    pub(super) const INDIVIDUAL: f32 = 0.35;
}

/// A person who makes videos or appears in them.
struct Contributor {
    name: Name,
    genre: usize,
    vector: Vector,
}

/// A name in one of the two languages.
struct Name {
    text: String,
    japanese: bool,
}

/// The people, subjects and companies that videos are composed of.
struct World {
    genres: Vec<Vector>,
    topics: Vec<Vector>,
    moods: Vec<Vector>,
    makers: Vec<Contributor>,
    performers: Vec<Contributor>,
}

/// A video, its position, and its general appeal.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) video: Video,
    pub(super) vector: Vector,
    /// Standard normal.
    pub(super) appeal: f32,
}

/// Videos, ascending by id.
pub(super) fn items(options: &GeneratorOptions) -> Vec<Item> {
    let world = World::new(&mut generator(options.seed, 1));
    let mut random = generator(options.seed, 2);
    let mut items: Vec<Item> = (0..options.videos)
        .map(|_| world.item(options, &mut random))
        .collect();
    items.sort_by_key(|item| item.video.id);
    items
}

impl World {
    fn new(random: &mut Pcg64) -> Self {
        let mut vectors = |n: usize| (0..n).map(|_| direction(random)).collect::<Vec<_>>();
        let genres = vectors(GENRES.len());
        let topics = vectors(GENRES.len() * TOPICS);
        let moods = vectors(MOODS.len());
        Self {
            genres,
            topics,
            moods,
            makers: contributors(random, MAKERS, &words::MAKER_FIRST, &words::MAKER_SECOND),
            performers: contributors(
                random,
                PERFORMERS,
                &words::STAGE_FIRST,
                &words::STAGE_SECOND,
            ),
        }
    }

    fn item(&self, options: &GeneratorOptions, random: &mut Pcg64) -> Item {
        let genre = skewed(random, GENRES.len());
        let maker = choose(random, &self.makers, genre, 0.85);
        let japanese = self.makers[maker].name.japanese;

        let mut topics: Vec<usize> = (0..=skewed(random, 3))
            .map(|_| {
                let genre = if unit(random) < 0.93 {
                    genre
                } else {
                    random.random_range(0..GENRES.len())
                };
                genre * TOPICS + skewed(random, TOPICS)
            })
            .collect();
        let about = topics[0];
        topics.sort_unstable();
        topics.dedup();
        let moods: Vec<usize> = (0..usize::from(unit(random) < 0.6))
            .map(|_| random.random_range(0..MOODS.len()))
            .collect();
        let mut performers: Vec<usize> = (0..skewed(random, 4))
            .map(|_| choose(random, &self.performers, genre, 0.85))
            .collect();
        performers.sort_unstable();
        performers.dedup();

        let mut vector = [0.0; DIM];
        add(&mut vector, weight::GENRE, &self.genres[genre]);
        add_mean(
            &mut vector,
            weight::TOPICS,
            topics.iter().map(|t| &self.topics[*t]),
        );
        add(&mut vector, weight::MAKER, &self.makers[maker].vector);
        let cast = performers.iter().map(|p| &self.performers[*p].vector);
        add_mean(&mut vector, weight::PERFORMERS, cast);
        add_mean(
            &mut vector,
            weight::MOODS,
            moods.iter().map(|m| &self.moods[*m]),
        );
        add(&mut vector, weight::INDIVIDUAL, &direction(random));

        let mut tags: Vec<String> = topics
            .iter()
            .map(|topic| tag(&GENRES[topic / TOPICS].topics[topic % TOPICS]))
            .chain(moods.iter().map(|mood| tag(&MOODS[*mood])))
            .collect();
        tags.sort();
        tags.dedup();
        let mut cast: Vec<String> = performers
            .iter()
            .map(|performer| self.performers[*performer].name.text.clone())
            .collect();
        cast.sort();
        cast.dedup();

        let subject = Subject {
            genre: &GENRES[genre].name,
            topic: &GENRES[about / TOPICS].topics[about % TOPICS],
            place: pick(random, &words::PLACES),
            mood: moods.first().map(|mood| &MOODS[*mood]),
            cast: &cast,
        };
        let minutes = GENRES[genre].typical_minutes * (0.5 * normal(random)).exp();
        let video = Video {
            id: random_uuid(random),
            title: subject.title(random, japanese),
            description: subject.description(japanese),
            genre: Some(GENRES[genre].name.en.to_owned()),
            maker: Some(self.makers[maker].name.text.clone()),
            price: Some(price(random, maker)),
            duration_seconds: Some((minutes * 60.0).round().max(30.0)),
            published_at_us: Some(published(options, random)),
            thumbnail_url: None,
            tags,
            performers: cast,
        };
        Item {
            video,
            vector: normalised(vector),
            appeal: normal(random),
        }
    }
}

/// Distinct names, half of them Japanese, each with a genre.
fn contributors(
    random: &mut Pcg64,
    count: usize,
    first: &[Word],
    second: &[Word],
) -> Vec<Contributor> {
    let mut pairs: Vec<(usize, usize)> = (0..first.len())
        .flat_map(|a| (0..second.len()).map(move |b| (a, b)))
        .collect();
    for end in (1..pairs.len()).rev() {
        pairs.swap(end, random.random_range(0..=end));
    }
    pairs
        .into_iter()
        .take(count)
        .enumerate()
        .map(|(number, (a, b))| {
            let japanese = unit(random) < 0.5;
            let text = if japanese {
                format!("{}{}", first[a].ja, second[b].ja)
            } else {
                format!("{} {}", first[a].en, second[b].en)
            };
            Contributor {
                name: Name { text, japanese },
                genre: number % GENRES.len(),
                vector: direction(random),
            }
        })
        .collect()
}

/// A contributor of `genre` with probability `own`, otherwise any.
fn choose(random: &mut Pcg64, contributors: &[Contributor], genre: usize, own: f32) -> usize {
    let each = contributors.len() / GENRES.len();
    if unit(random) < own {
        let position = genre + GENRES.len() * skewed(random, each);
        debug_assert_eq!(contributors[position].genre, genre);
        position
    } else {
        random.random_range(0..contributors.len())
    }
}

/// Tags mix languages as real ones do, but each tag has one name.
fn tag(word: &Word) -> String {
    let japanese = word.en.len() % 2 == 1;
    if japanese { word.ja } else { word.en }.to_owned()
}

/// Each maker has a price level, and gives some videos away.
fn price(random: &mut Pcg64, maker: usize) -> f32 {
    let level = [0.0, 300.0, 500.0, 980.0, 1_480.0, 1_980.0];
    match unit(random) {
        u if u < 0.25 => 0.0,
        u if u < 0.85 => level[maker % level.len()],
        _ => *pick(random, &level),
    }
}

fn published(options: &GeneratorOptions, random: &mut Pcg64) -> i64 {
    let days = if unit(random) < NEW {
        unit(random) * options.days as f32
    } else {
        -(exponential(random) * BACK_CATALOGUE_DAYS / 3.0).min(BACK_CATALOGUE_DAYS)
    };
    // Whole minutes, for realistic publication times.
    let minutes = (f64::from(days) * 1_440.0) as i64;
    options.start_us() + minutes * MINUTE_US
}

/// A random (version 4) UUID.
pub(super) fn random_uuid(random: &mut Pcg64) -> Uuid {
    let mut bytes = [0; 16];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
