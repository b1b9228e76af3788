use super::history::Past;
use super::query::Query;
use crate::serve::snapshot::Snapshot;
use serde::Serialize;
use twotower_core::interaction::History;
use twotower_core::model::TwoTower;
use twotower_core::recommend::{Recommender, Request, Scored, recommend};

/// Where a ranking comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The user's vector against the videos' vectors.
    TwoTower,
    /// Number of likes, the same for everybody.
    Popular,
}

/// Chosen videos, best first.
#[derive(Debug)]
pub(super) struct Ranking {
    pub(super) origin: Origin,
    /// Videos the user has not reacted to.
    pub(super) unseen: Vec<Scored>,
    /// Skipped videos that fill up because nothing else is left.
    pub(super) skipped: Vec<Scored>,
}

/// Embeds the user, scores all videos, filters, and selects.
///
/// Never chosen: videos that have left the catalogue and, while `exclude_liked` holds, all that the user has liked.
/// Skipped videos are chosen only after all others.
pub(super) fn rank(snapshot: &Snapshot, past: &Past, query: Query) -> Ranking {
    let likes = snapshot.positions(&past.recent.likes);
    let skips = snapshot.positions(&past.recent.skips);
    let older_likes = snapshot.positions(&past.older_likes);
    let history = History {
        likes: &likes,
        skips: &skips,
    };

    let liked: [&[u32]; 2] = if query.exclude_liked {
        [&likes, &older_likes]
    } else {
        [&[], &[]]
    };
    let choose = |recommender: &dyn Recommender| {
        let select = |limit, also: &[u32]| {
            let exclude = [&snapshot.delisted, liked[0], liked[1], also];
            let request = Request {
                limit,
                exclude: &exclude,
            };
            recommend(recommender, history, &request).kept
        };
        let unseen = select(query.limit, &skips);
        let skipped = if unseen.len() < query.limit && !skips.is_empty() {
            let chosen: Vec<u32> = unseen.iter().map(|scored| scored.item).collect();
            select(query.limit - unseen.len(), &chosen)
        } else {
            Vec::new()
        };
        (unseen, skipped)
    };

    let known = !(likes.is_empty() && skips.is_empty());
    let (origin, (unseen, skipped)) = match &snapshot.model {
        Some(model) if known => {
            let towers = TwoTower {
                user_tower: &model.user_tower,
                videos: &model.vectors,
            };
            (Origin::TwoTower, choose(&towers))
        }
        _ => (
            Origin::Popular,
            choose(&Popular::new(&snapshot.like_counts)),
        ),
    };
    Ranking {
        origin,
        unseen,
        skipped,
    }
}

/// The most liked videos first, scored by their share of the likes of the most liked one.
struct Popular<'a> {
    like_counts: &'a [f32],
    most: f32,
}

impl<'a> Popular<'a> {
    fn new(like_counts: &'a [f32]) -> Self {
        Self {
            like_counts,
            most: like_counts.iter().copied().fold(1.0, f32::max),
        }
    }
}

impl Recommender for Popular<'_> {
    fn name(&self) -> &'static str {
        "popular"
    }

    fn items(&self) -> usize {
        self.like_counts.len()
    }

    fn score(&self, _: History<'_>, scores: &mut [f32]) {
        for (score, likes) in scores.iter_mut().zip(self.like_counts) {
            *score = likes / self.most;
        }
    }
}
