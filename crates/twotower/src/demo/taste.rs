use super::GeneratorOptions;
use super::catalogue::{Item, random_uuid};
use super::latent::{Vector, add, direction, normalised};
use super::random::{Weighted, exponential, generator, normal, pick, unit};
use rand::RngExt;
use rand_pcg::Pcg64;
use twotower_core::time::DAY_US;
use uuid::Uuid;

/// Least duration for which an interest dominates, and the mean of what is added to it.
const SEGMENT_DAYS: (f32, f32) = (30.0, 40.0);
/// Weight of the interests that do not dominate.
const BACKGROUND: f32 = 0.10;
/// How far an interest moves before it dominates again.
const DRIFT: f32 = 0.12;
/// Number of interests that users share, and the distance of a user's own from the shared one.
const SHARED: usize = 150;
const APART: f32 = 0.12;
/// Share of users who join late, and by which part of the period they have.
const LATE: (f32, f32) = (0.25, 0.95);

/// What a user likes from a given time on.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) from_us: i64,
    /// Unit norm.
    pub(super) taste: Vector,
}

/// A user, with all parameters of their behaviour.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) id: Uuid,
    /// In order of time, never empty; the first begins when the user joins.
    pub(super) segments: Vec<Segment>,
    /// Relative number of likes.
    pub(super) activity: f32,
}

/// Users, ascending by id.
pub(super) fn users(options: &GeneratorOptions, items: &[Item]) -> Vec<User> {
    let mut random = generator(options.seed, 3);
    let popular = Weighted::new(items.iter().map(|item| (0.5 * item.appeal).exp()));
    let shared: Vec<Vector> = (0..SHARED)
        .map(|_| items[popular.draw(&mut random)].vector)
        .collect();
    let mut users: Vec<User> = (0..options.users)
        .map(|_| user(options, &shared, &mut random))
        .collect();
    users.sort_by_key(|user| user.id);
    users
}

fn user(options: &GeneratorOptions, shared: &[Vector], random: &mut Pcg64) -> User {
    let days = options.days as f32;
    let joined = if unit(random) < LATE.0 {
        unit(random) * LATE.1 * days
    } else {
        unit(random) * 0.02 * days
    };
    let mut interests: Vec<Vector> = (0..random.random_range(3..=5))
        .map(|_| {
            let mut interest = *pick(random, shared);
            add(&mut interest, APART, &direction(random));
            normalised(interest)
        })
        .collect();

    let mut segments = Vec::new();
    let mut top = 0;
    let mut day = joined;
    while day < days {
        let mut taste = interests[top];
        for (index, interest) in interests.iter().enumerate() {
            if index != top {
                add(&mut taste, BACKGROUND, interest);
            }
        }
        segments.push(Segment {
            from_us: options.start_us() + (day * DAY_US as f32) as i64,
            taste: normalised(taste),
        });
        day += SEGMENT_DAYS.0 + SEGMENT_DAYS.1 * exponential(random);
        add(&mut interests[top], DRIFT, &direction(random));
        interests[top] = normalised(interests[top]);
        top = (top + random.random_range(1..interests.len())) % interests.len();
    }
    User {
        id: random_uuid(random),
        segments,
        activity: (0.4 * normal(random)).exp() * (days - joined) / days,
    }
}
