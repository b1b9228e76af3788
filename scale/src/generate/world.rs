use super::random::{Random, mix};
use twotower_core::feature::Video;
use uuid::Uuid;

/// Topics that videos are of and users have a taste for.
const TOPICS: u32 = 64;
/// Topics that a user likes.
const TASTES: u32 = 3;

const VIDEO: u64 = 1 << 40;
const USER: u64 = 2 << 40;

/// Who is there and what they like.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    users: u32,
    videos: u32,
}

impl World {
    pub(super) fn new(seed: u64, users: u32, videos: u32) -> Self {
        Self {
            seed,
            users,
            videos,
        }
    }

    fn id(&self, number: u64) -> Uuid {
        let mut random = Random::new(self.seed, number);
        let [high, low] = [random.next(), random.next()];
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
            .into_uuid()
    }

    /// Videos from number `videos` on are not in the catalogue.
    pub(super) fn video_id(&self, video: u32) -> Uuid {
        self.id(VIDEO + u64::from(video))
    }

    pub(super) fn user_id(&self, user: u32) -> Uuid {
        self.id(USER + u64::from(user))
    }

    /// Someone, the active more often than others.
    pub(super) fn user(&self, random: &mut Random) -> u32 {
        let unit = random.unit();
        // Between u and u²: the first tenth of the users does about a quarter of what is done.
        let skewed = unit * (0.4 + 0.6 * unit);
        ((skewed * f64::from(self.users)) as u32).min(self.users - 1)
    }

    /// A video for `user`: of their tastes, or now and then of any topic.
    pub(super) fn video(&self, user: u32, random: &mut Random, of_taste: f64) -> u32 {
        let topics = TOPICS.min(self.videos);
        let topic = if random.unit() < of_taste {
            let taste = u64::from(random.below(TASTES));
            let of_user = USER + u64::from(user) * u64::from(TASTES) + taste;
            (mix(self.seed ^ mix(of_user)) % u64::from(topics)) as u32
        } else {
            random.below(topics)
        };
        // The videos of a topic are those whose number leaves it as the rest.
        let of_topic = (self.videos - topic).div_ceil(topics);
        topic + topics * random.popular(of_topic)
    }

    /// What is not in the catalogue.
    pub(super) fn unknown_video(&self, random: &mut Random) -> u32 {
        self.videos + random.below(1_000)
    }

    pub(super) fn catalogue(&self) -> Vec<Video> {
        let topics = TOPICS.min(self.videos);
        (0..self.videos)
            .map(|number| {
                let mut random = Random::new(self.seed ^ 7, u64::from(number));
                let topic = number % topics;
                let maker = topic / 4 * 8 + random.below(8);
                let performer =
                    |random: &mut Random| format!("performer {}", topic * 20 + random.popular(20));
                let mut tags = vec![format!("topic {topic}"), format!("theme {}", topic % 16)];
                tags.push(format!("mood {}", random.below(12)));
                let mut performers = vec![performer(&mut random), performer(&mut random)];
                for names in [&mut tags, &mut performers] {
                    names.sort();
                    names.dedup();
                }
                Video {
                    id: self.video_id(number),
                    title: format!("作品 {number} of topic {topic}"),
                    description: format!("Number {number}, made by {maker}."),
                    genre: Some(format!("genre {}", topic % 16)),
                    maker: Some(format!("maker {maker}")),
                    price: Some(random.below(50) as f32 * 100.0),
                    duration_seconds: Some((300 + random.below(6_900)) as f32),
                    published_at_us: Some(
                        1_600_000_000_000_000 + i64::from(random.below(126_144_000)) * 1_000_000,
                    ),
                    thumbnail_url: None,
                    tags,
                    performers,
                }
            })
            .collect()
    }
}
