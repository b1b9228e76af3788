use super::GeneratorOptions;
use super::catalogue::Item;
use super::oracle::Oracle;
use super::random::{Weighted, generator, gumbel, unit};
use super::taste::User;
use rand::RngExt;
use rand_pcg::Pcg64;
use std::collections::HashSet;
use twotower_core::kernel::sigmoid;
use twotower_store::InteractionRow;
use uuid::Uuid;

/// Number of videos in the queue of a taste; others are shown only by exploration.
const REACH: usize = 400;
/// How strongly better fits come earlier.
const SHARPNESS: f32 = 200.0;
/// How steeply the probability of a like rises with the score.
const STEEPNESS: f32 = 150.0;
/// The threshold of a user is set so that this many videos more than they will like are liked with
/// a probability of at least one half.
const SPARE: usize = 40;
/// Share of what is shown because it is popular, and share shown at random.
const POPULAR: f32 = 0.10;
const ANYTHING: f32 = 0.05;
/// Likes that a visit aims at, and the maximum number of videos shown in it.
const VISIT_LIKES: usize = 4;
const VISIT_SHOWN: usize = 40;

/// What a user did, in order of time.
#[derive(Debug, Default)]
pub(super) struct Actions {
    pub(super) likes: Vec<InteractionRow>,
    pub(super) skips: Vec<InteractionRow>,
}

/// Input shared by all users.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    options: &'a GeneratorOptions,
    items: &'a [Item],
    oracle: &'a Oracle,
    popular: Weighted,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        options: &'a GeneratorOptions,
        items: &'a [Item],
        oracle: &'a Oracle,
    ) -> Self {
        Self {
            options,
            items,
            oracle,
            popular: Weighted::new(items.iter().map(|item| (1.5 * item.appeal).exp())),
        }
    }

    /// Simulates visits of a user until `likes` videos are liked, or none is left that could be.
    pub(super) fn visits(&self, user: &User, number: usize, likes: usize) -> Actions {
        let mut random = generator(self.options.seed, 1_000 + number as u64);
        let (from, to) = (user.segments[0].from_us, self.options.end_us);
        let count = likes.div_ceil(VISIT_LIKES);
        let mut times: Vec<i64> = (0..count).map(|_| random.random_range(from..to)).collect();
        times.sort_unstable();

        let mut visitor = Visitor {
            feed: self,
            user: user.id,
            random,
            liked: HashSet::new(),
            skipped: HashSet::new(),
            actions: Actions::default(),
        };
        let mut queue = None;
        for (visit, time) in times.into_iter().enumerate() {
            let segment = user.segments.partition_point(|s| s.from_us <= time) - 1;
            let queue = match &mut queue {
                Some((current, queue)) if *current == segment => queue,
                slot => {
                    let scores = self.oracle.scores_of(&user.segments[segment]);
                    let until = user
                        .segments
                        .get(segment + 1)
                        .map_or(to, |next| next.from_us);
                    let part = (until - time) as f64 / (to - from) as f64;
                    let wanted = SPARE + (part * likes as f64) as usize;
                    let fresh = Queue::new(scores, &visitor.liked, wanted, &mut visitor.random);
                    &mut slot.insert((segment, fresh)).1
                }
            };
            let last = visit + 1 == count;
            let (aim, shown) = if last {
                (likes, usize::MAX)
            } else {
                (VISIT_LIKES * (visit + 1), VISIT_SHOWN)
            };
            visitor.visit(queue, time, aim, shown);
        }
        visitor.actions
    }
}

/// State of a user during the simulation.
struct Visitor<'a> {
    feed: &'a Feed<'a>,
    user: Uuid,
    random: Pcg64,
    liked: HashSet<u32>,
    skipped: HashSet<u32>,
    actions: Actions,
}

impl Visitor<'_> {
    /// Shows up to `shown` videos from `at_us` on, until there are `aim` likes.
    fn visit(&mut self, queue: &mut Queue, mut at_us: i64, aim: usize, shown: usize) {
        for _ in 0..shown {
            if self.actions.likes.len() >= aim {
                break;
            }
            let Some(item) = self.next(queue) else { break };
            let video = &self.feed.items[item].video;
            let out = video
                .published_at_us
                .is_some_and(|published| published <= at_us);
            if !out || self.liked.contains(&(item as u32)) {
                continue;
            }
            at_us += self.random.random_range(2_000_000..40_000_000);
            let row = InteractionRow {
                user: self.user,
                video: video.id,
                at_us,
            };
            if unit(&mut self.random) < queue.probability(item) {
                self.liked.insert(item as u32);
                self.actions.likes.push(row);
            } else if self.skipped.insert(item as u32) {
                self.actions.skips.push(row);
            }
        }
    }

    /// The next video to show.
    fn next(&mut self, queue: &mut Queue) -> Option<usize> {
        match unit(&mut self.random) {
            u if u < POPULAR => Some(self.feed.popular.draw(&mut self.random)),
            u if u < POPULAR + ANYTHING => Some(self.random.random_range(0..self.feed.items.len())),
            _ => queue.next(),
        }
    }
}

/// The queue of one taste, in a random order with better fits earlier: a draw without replacement
/// with weights exp([`SHARPNESS`] · score).
struct Queue {
    scores: Vec<f32>,
    /// Score at which a like has probability one half.
    even: f32,
    /// The next one is last.
    order: Vec<(f32, u32)>,
}

impl Queue {
    fn new(scores: Vec<f32>, liked: &HashSet<u32>, wanted: usize, random: &mut Pcg64) -> Self {
        let threshold = score_at_rank(&scores, REACH + liked.len());
        let mut order: Vec<(f32, u32)> = (0_u32..)
            .zip(&scores)
            .filter(|(item, score)| **score >= threshold && !liked.contains(item))
            .map(|(item, score)| (*score, item))
            .collect();
        order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let even = order.get(wanted.min(order.len().saturating_sub(1)));
        let even = even.map_or(0.0, |(score, _)| *score);
        for (score, _) in &mut order {
            *score = SHARPNESS * *score + gumbel(random);
        }
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            scores,
            even,
            order,
        }
    }

    fn next(&mut self) -> Option<usize> {
        self.order.pop().map(|(_, item)| item as usize)
    }

    fn probability(&self, item: usize) -> f32 {
        sigmoid(STEEPNESS * (self.scores[item] - self.even))
    }
}

/// Approximate score of the video at `rank`, from an evenly spaced sample.
fn score_at_rank(scores: &[f32], rank: usize) -> f32 {
    const SAMPLE: usize = 512;
    let mut sample: Vec<f32> = scores
        .iter()
        .step_by(scores.len().div_ceil(SAMPLE).max(1))
        .copied()
        .collect();
    sample.sort_unstable_by(|a, b| b.total_cmp(a));
    let position = rank * sample.len() / scores.len().max(1);
    match sample.get(position) {
        Some(score) if rank < scores.len() => *score,
        _ => f32::NEG_INFINITY,
    }
}
