//! From what a user has done to a list: retrieve, filter, diversify, fill up, explain.

use super::explain;
use super::explore;
use super::policy::Policy;
use super::query::Query;
use super::spread::{Pool, Spread};
use crate::config::{Choice, Conditions, Range};
use crate::serve::snapshot::{ASKED_ONE_BY_ONE, Snapshot};
use std::time::SystemTime;
use twotower_core::index::Filter;
use twotower_core::kernel;
use twotower_core::recommend::Scored;
use twotower_store::{Block, BlockKind, UserState};
use uuid::Uuid;

/// Looking up more likes and skips, and reading the vectors of likes, takes about half a millisecond.
const LONG_HISTORY: usize = 4000;

/// So many latest skips enter the user's vector; older ones would hardly move it. They are left out of lists all the same.
const SKIPS_OF_VECTOR: usize = 1000;

/// Where a ranking comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Origin {
    /// A vector against the videos' vectors.
    TwoTower,
    /// Number of likes, the same for everybody.
    Popular,
}

/// A video that was chosen.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Pick {
    pub(in crate::serve) scored: Scored,
    pub(in crate::serve) why: Why,
}

/// Why a video is in the list.
#[derive(Debug, Clone)]
pub(in crate::serve) enum Why {
    /// By its score; nobody has asked for more.
    Score,
    /// Owed to these likes: (position, contribution), the largest first.
    Likes(Vec<(u32, f32)>),
    /// Many like it.
    Popular,
    /// Drawn at random from the new ones.
    New { propensity: f32 },
    /// There was nothing else left.
    SkippedBefore,
}

/// Chosen videos, in the order to show them.
#[derive(Debug)]
pub(in crate::serve) struct Ranking {
    pub(in crate::serve) origin: Origin,
    /// The vector that scores are inner products with.
    pub(in crate::serve) vector: Option<Vec<f32>>,
    pub(in crate::serve) picks: Vec<Pick>,
    /// Whether videos were left out for their score.
    pub(in crate::serve) below_min_score: bool,
}

/// A user as positions in the catalogue.
pub(super) struct Person {
    /// All likes, oldest first.
    pub(super) likes: Vec<u32>,
    /// All skips, oldest first.
    pub(super) skips: Vec<u32>,
    /// How many of the skips are too old to enter the vector.
    older_skips: usize,
    /// Blocked videos.
    blocked: Vec<u32>,
}

impl Person {
    pub(super) fn new(snapshot: &Snapshot, state: &UserState) -> Self {
        let blocked = state
            .blocks
            .iter()
            .filter_map(Block::video)
            .filter_map(|video| snapshot.videos.position(video));
        let (older, latest) = split_skips(state);
        let mut skips = snapshot.videos.positions(older);
        let older_skips = skips.len();
        skips.extend(snapshot.videos.positions(latest));
        Self {
            likes: snapshot.videos.positions(&state.likes),
            skips,
            older_skips,
            blocked: blocked.collect(),
        }
    }

    /// The skips that enter the user's vector, oldest first.
    pub(super) fn latest_skips(&self) -> &[u32] {
        &self.skips[self.older_skips..]
    }
}

/// The skips that are too old to enter the user's vector, and those that enter it.
fn split_skips(state: &UserState) -> (&[Uuid], &[Uuid]) {
    let older = state.skips.len().saturating_sub(SKIPS_OF_VECTOR);
    state.skips.split_at(older)
}

/// What may be chosen for a request.
pub(super) struct Eligible<'a> {
    snapshot: &'a Snapshot,
    /// Rules, the request's filter and the user's blocks.
    filter: Filter,
    /// Left the catalogue, liked, blocked, or asked about; positions in no order.
    exclude: Vec<&'a [u32]>,
}

impl<'a> Eligible<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        state: &UserState,
        person: &'a Person,
        query: &Query,
        policy: &Policy,
    ) -> Self {
        let mut exclude: Vec<&[u32]> = vec![snapshot.videos.delisted(), &person.blocked];
        if query.exclude_liked {
            exclude.push(&person.likes);
        }
        Self {
            filter: snapshot.videos.filter(
                &policy.rules.only,
                &query.filter,
                &state.blocks,
                SystemTime::now(),
            ),
            snapshot,
            exclude,
        }
    }

    /// Tells of some `count` videos whether they may be chosen; `others` may not.
    pub(super) fn admits(&self, count: usize, others: &[u32]) -> impl Fn(u32) -> bool {
        let mut excluded = [&self.exclude[..], &[others]].concat().concat();
        excluded.sort_unstable();
        let attributes = self.snapshot.videos.attributes();
        let many = count * self.filter.asks() > ASKED_ONE_BY_ONE;
        let passing = many.then(|| attributes.passing(&self.filter));
        let passes = attributes.predicate(&self.filter);
        move |item| {
            let passes = match &passing {
                Some(passing) => passing.contains(item),
                None => passes(item),
            };
            passes && excluded.binary_search(&item).is_err()
        }
    }
}

/// Whether [`rank`] takes long enough to be kept off the threads that serve connections.
pub(in crate::serve) fn is_slow(
    snapshot: &Snapshot,
    state: &UserState,
    query: &Query,
    policy: &Policy,
) -> bool {
    let by_vector = goes_by_vector(snapshot, state);
    is_long(state) || snapshot.is_slow(by_vector, asks(state, query, policy))
}

fn is_long(state: &UserState) -> bool {
    state.likes.len() + state.skips.len() > LONG_HISTORY
}

/// Of what [`rank`] goes by, besides the user's state.
pub(in crate::serve) fn revision(snapshot: &Snapshot, state: &UserState) -> u64 {
    if goes_by_vector(snapshot, state) {
        snapshot.revision
    } else {
        snapshot.popular_revision
    }
}

/// Whether [`rank`] goes by a vector of the user, and not by what everybody likes.
fn goes_by_vector(snapshot: &Snapshot, state: &UserState) -> bool {
    // The first of them is known but for a rare one.
    let is_known = |videos: &[Uuid]| {
        let mut videos = videos.iter();
        videos.any(|&video| snapshot.videos.position(video).is_some())
    };
    let (_, latest_skips) = split_skips(state);
    snapshot.model.is_some() && (is_known(&state.likes) || is_known(latest_skips))
}

/// Whether [`rank_similar`] takes so long.
pub(in crate::serve) fn is_slow_similar(
    snapshot: &Snapshot,
    state: &UserState,
    query: &Query,
    policy: &Policy,
) -> bool {
    is_long(state) || snapshot.is_slow(true, asks(state, query, policy))
}

/// How much is asked of each video, about.
fn asks(state: &UserState, query: &Query, policy: &Policy) -> usize {
    let of_choice = |choice: &Choice| choice.any.len() + choice.none.len();
    let of_range = |range: Range| usize::from(!range.is_open());
    let of = |asked: &Conditions| {
        let choices = [&asked.tags, &asked.makers, &asked.performers, &asked.genres];
        let names: usize = choices.into_iter().map(of_choice).sum();
        names + of_range(asked.price) + of_range(asked.age_days)
    };
    let is_asked = |block: &&Block| block.kind != BlockKind::Video;
    // Makers and performers who have their share are left out like a filter's names, at most one for each place.
    let capped = policy.rules.max_per_maker > 0 || policy.rules.max_per_performer > 0;
    let full = if capped { query.limit } else { 0 };
    of(&policy.rules.only) + of(&query.filter) + state.blocks.iter().filter(is_asked).count() + full
}

/// Whether the video at `position` is recommended to anybody: it is in the catalogue, and the rules let it through.
pub(in crate::serve) fn is_recommended(
    snapshot: &Snapshot,
    position: u32,
    policy: &Policy,
) -> bool {
    let videos = &snapshot.videos;
    let (nothing, now) = (Conditions::default(), SystemTime::now());
    let rules = videos.filter(&policy.rules.only, &nothing, &[], now);
    !videos.delisted().contains(&position) && videos.attributes().predicate(&rules)(position)
}

/// Ranks the catalogue for a user.
///
/// Never chosen: videos that have left the catalogue, what rules, filter or blocks leave out, and, while `exclude_liked` holds, all
/// that the user has liked. Skipped videos are chosen only after all others.
pub(in crate::serve) fn rank(
    snapshot: &Snapshot,
    state: &UserState,
    query: &Query,
    policy: &Policy,
) -> Ranking {
    let person = Person::new(snapshot, state);
    let eligible = Eligible::new(snapshot, state, &person, query, policy);
    // Of all likes, however long ago: so the tower was trained, and so `twotower update` computes the vector that it stores.
    let vector = snapshot.embed(&person.likes, person.latest_skips());
    let mut ranking = choose(
        snapshot,
        vector.as_deref(),
        &eligible,
        &person.skips,
        query,
        policy,
    );
    explore::explore(
        &mut ranking,
        snapshot,
        &eligible,
        &person.skips,
        query,
        policy,
    );
    if query.include_reasons {
        explain::explain(&mut ranking, snapshot, &person);
    }
    ranking
}

/// Ranks the catalogue by likeness to the video at `position`.
pub(in crate::serve) fn rank_similar(
    snapshot: &Snapshot,
    position: u32,
    state: &UserState,
    query: &Query,
    policy: &Policy,
) -> Ranking {
    let person = Person::new(snapshot, state);
    let itself = [position];
    let mut eligible = Eligible::new(snapshot, state, &person, query, policy);
    eligible.exclude.push(&itself);
    let vector = snapshot.vector(position);
    choose(snapshot, vector, &eligible, &person.skips, query, policy)
}

/// Retrieves by `vector`, or by popularity without one; filters, diversifies, and fills up with skipped videos.
fn choose(
    snapshot: &Snapshot,
    vector: Option<&[f32]>,
    eligible: &Eligible<'_>,
    skips: &[u32],
    query: &Query,
    policy: &Policy,
) -> Ranking {
    let mut exclude = eligible.exclude.clone();
    exclude.push(skips);
    let pool = Pool {
        snapshot,
        vector,
        exclude,
        filter: &eligible.filter,
    };
    let Spread {
        chosen,
        mut below_min_score,
    } = pool.spread(query, &policy.rules);
    let why = |scored, why| Pick { scored, why };
    let mut picks: Vec<Pick> = chosen
        .into_iter()
        .map(|scored| why(scored, Why::Score))
        .collect();

    if picks.len() < query.limit {
        let admits = eligible.admits(skips.len(), &[]);
        let mut skipped: Vec<Scored> = skips
            .iter()
            .filter(|&&item| admits(item))
            .map(|&item| Scored {
                item,
                score: match vector {
                    Some(vector) => snapshot
                        .vector(item)
                        .map_or(0.0, |other| kernel::dot(vector, other)),
                    None => snapshot.likes_share(item),
                },
            })
            .collect();
        let found = skipped.len();
        skipped.retain(|scored| query.min_score.is_none_or(|least| scored.score >= least));
        below_min_score |= skipped.len() < found;
        skipped.sort_unstable_by(Scored::best_first);
        skipped.dedup_by_key(|scored| scored.item);
        let room = query.limit - picks.len();
        let skipped = skipped.into_iter().take(room);
        picks.extend(skipped.map(|scored| why(scored, Why::SkippedBefore)));
    }
    Ranking {
        origin: match vector {
            Some(_) => Origin::TwoTower,
            None => Origin::Popular,
        },
        vector: vector.map(<[f32]>::to_vec),
        picks,
        below_min_score,
    }
}
