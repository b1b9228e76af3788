//! From the likes and skips of a user to a list: retrieve, filter, diversify, fill up, explain.

use super::explain;
use super::explore;
use super::policy::Policy;
use super::query::Query;
use super::spread::{Pool, Spread};
use crate::config::{Choice, Conditions, Range};
use crate::serve::snapshot::{MAX_TESTS_ONE_BY_ONE, Snapshot};
use std::time::SystemTime;
use twotower_core::index::Filter;
use twotower_core::kernel;
use twotower_core::recommend::Scored;
use twotower_store::{Block, BlockKind, UserState};
use uuid::Uuid;

/// For a user with more likes and skips than this, looking them up and reading their vectors takes
/// more than about half a millisecond.
const LONG_HISTORY: usize = 4000;

/// At most this many of the latest skips enter the user's vector, which older ones would hardly
/// change. Older skips still count as skips in lists.
const MAX_SKIPS_IN_VECTOR: usize = 1000;

/// What a ranking is based on.
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
    /// Its score. The request asks for no further reason, or no single like accounts for it.
    Score,
    /// These likes: (position, contribution), largest contribution first.
    Likes(Vec<(u32, f32)>),
    /// Number of likes.
    Popular,
    /// Drawn at random among the new videos, with this probability.
    New { propensity: f32 },
    /// It fills up the list for lack of videos that were not skipped.
    SkippedBefore,
}

/// The videos of a list.
#[derive(Debug)]
pub(in crate::serve) struct Ranking {
    pub(in crate::serve) origin: Origin,
    /// Scores are inner products with this vector.
    pub(in crate::serve) vector: Option<Vec<f32>>,
    /// In the order to show them.
    pub(in crate::serve) picks: Vec<Pick>,
    /// Whether videos were left out because of their score.
    pub(in crate::serve) below_min_score: bool,
}

/// The request for a list, and the data that the list is made of.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) struct ListRequest<'a> {
    pub(in crate::serve) snapshot: &'a Snapshot,
    /// Likes, skips and blocks of the user.
    pub(in crate::serve) state: &'a UserState,
    pub(in crate::serve) query: &'a Query,
    pub(in crate::serve) policy: &'a Policy,
}

/// The likes, skips and blocks of a user, as positions in the catalogue.
pub(super) struct Person {
    /// All likes, oldest first.
    pub(super) likes: Vec<u32>,
    /// All skips, oldest first.
    pub(super) skips: Vec<u32>,
    /// Number of skips, of the oldest, that do not enter the user's vector.
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

/// The skips that are too old for the user's vector, and those that enter it.
fn split_skips(state: &UserState) -> (&[Uuid], &[Uuid]) {
    let older = state.skips.len().saturating_sub(MAX_SKIPS_IN_VECTOR);
    state.skips.split_at(older)
}

/// The videos that may be chosen for a request.
pub(super) struct Eligible<'a> {
    snapshot: &'a Snapshot,
    /// The operator's rules, the request's filter and the user's blocks.
    filter: Filter,
    /// Positions, in no order, of videos that are delisted, liked, blocked, or the one that the
    /// request asks about.
    exclude: Vec<&'a [u32]>,
}

impl<'a> Eligible<'a> {
    pub(super) fn new(request: &ListRequest<'a>, person: &'a Person) -> Self {
        let ListRequest {
            snapshot,
            state,
            query,
            policy,
        } = *request;
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

    /// A predicate, to be called for about `count` videos: whether the video may be chosen. It
    /// rejects all of `others` as well.
    pub(super) fn admits(&self, count: usize, others: &[u32]) -> impl Fn(u32) -> bool {
        let mut excluded = [&self.exclude[..], &[others]].concat().concat();
        excluded.sort_unstable();
        let attributes = self.snapshot.videos.attributes();
        let many = count * self.filter.asks() > MAX_TESTS_ONE_BY_ONE;
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

impl ListRequest<'_> {
    /// Whether [`rank`] takes long enough to be kept off the threads that serve connections.
    pub(in crate::serve) fn is_slow(&self) -> bool {
        let by_vector = goes_by_vector(self.snapshot, self.state);
        self.has_long_history() || self.snapshot.is_slow(by_vector, self.conditions())
    }

    /// As [`Self::is_slow`], for [`rank_similar`].
    pub(in crate::serve) fn is_slow_similar(&self) -> bool {
        self.has_long_history() || self.snapshot.is_slow(true, self.conditions())
    }

    fn has_long_history(&self) -> bool {
        self.state.likes.len() + self.state.skips.len() > LONG_HISTORY
    }

    /// Approximate number of conditions that each video is tested for.
    fn conditions(&self) -> usize {
        let Self {
            state,
            query,
            policy,
            ..
        } = self;
        let of_choice = |choice: &Choice| choice.any.len() + choice.none.len();
        let of_range = |range: Range| usize::from(!range.is_open());
        let of = |conditions: &Conditions| {
            let Conditions {
                tags,
                makers,
                performers,
                genres,
                price,
                age_days,
            } = conditions;
            let choices = [tags, makers, performers, genres];
            let names: usize = choices.into_iter().map(of_choice).sum();
            names + of_range(*price) + of_range(*age_days)
        };
        let is_condition = |block: &&Block| block.kind != BlockKind::Video;
        let blocks = state.blocks.iter().filter(is_condition).count();
        // Makers and performers that have reached their cap are left out like the names of a
        // filter, at most one for each place of the list.
        let capped = policy.rules.max_per_maker > 0 || policy.rules.max_per_performer > 0;
        let full = if capped { query.limit } else { 0 };
        of(&policy.rules.only) + of(&query.filter) + blocks + full
    }
}

/// Revision of the data, other than the user's state, from which [`rank`] computes a list.
pub(in crate::serve) fn revision(snapshot: &Snapshot, state: &UserState) -> u64 {
    if goes_by_vector(snapshot, state) {
        snapshot.revision
    } else {
        snapshot.popular_revision
    }
}

/// Whether [`rank`] goes by a vector of the user, rather than by the likes of all users.
fn goes_by_vector(snapshot: &Snapshot, state: &UserState) -> bool {
    // Nearly always the first video is known, so this is quick.
    let is_known = |videos: &[Uuid]| {
        let mut videos = videos.iter();
        videos.any(|&video| snapshot.videos.position(video).is_some())
    };
    let (_, latest_skips) = split_skips(state);
    snapshot.model.is_some() && (is_known(&state.likes) || is_known(latest_skips))
}

/// Whether the video at `position` can be recommended at all: it is in the catalogue, and the rules
/// admit it.
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
/// Never chosen are videos that have left the catalogue, videos that rules, filter or blocks leave
/// out, and with `exclude_liked` all videos that the user has liked. Skipped videos are chosen only
/// after all others.
pub(in crate::serve) fn rank(request: &ListRequest<'_>) -> Ranking {
    let snapshot = request.snapshot;
    let person = Person::new(snapshot, request.state);
    let eligible = Eligible::new(request, &person);
    // All likes enter, however old: the tower is trained so, and `twotower update` computes the
    // stored vector so.
    let vector = snapshot.embed(&person.likes, person.latest_skips());
    let mut ranking = choose(request, vector.as_deref(), &eligible, &person.skips);
    explore::explore(&mut ranking, request, &eligible, &person.skips);
    if request.query.include_reasons {
        explain::explain(&mut ranking, snapshot, &person);
    }
    ranking
}

/// Ranks the catalogue by similarity to the video at `position`.
pub(in crate::serve) fn rank_similar(request: &ListRequest<'_>, position: u32) -> Ranking {
    let person = Person::new(request.snapshot, request.state);
    let itself = [position];
    let mut eligible = Eligible::new(request, &person);
    eligible.exclude.push(&itself);
    let vector = request.snapshot.vector(position);
    choose(request, vector, &eligible, &person.skips)
}

/// Retrieves by `vector`, or by popularity without one; filters, diversifies, and fills up with
/// skipped videos.
fn choose(
    request: &ListRequest<'_>,
    vector: Option<&[f32]>,
    eligible: &Eligible<'_>,
    skips: &[u32],
) -> Ranking {
    let ListRequest {
        snapshot,
        query,
        policy,
        ..
    } = *request;
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
        skipped.retain(|scored| query.admits_score(scored.score));
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
