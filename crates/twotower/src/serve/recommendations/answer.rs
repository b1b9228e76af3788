use super::rank::{Origin, Pick, Ranking, Why};
use crate::serve::metrics::Answered;
use crate::serve::snapshot::Snapshot;
use crate::time::rfc3339;
use serde::Serialize;
use std::sync::Arc;
use std::time::SystemTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A list of videos for one user. The Supabase Edge Function answers in the same form.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Recommendations)]
pub(in crate::serve) struct Answer {
    /// The user whom it is for.
    pub(in crate::serve) user_id: Uuid,
    pub(in crate::serve) source: Source,
    /// The model version that answered.
    #[schema(required = true)]
    pub(in crate::serve) model_version: Option<i64>,
    /// In the order to show them.
    #[schema(value_type = Vec<Recommendation>, max_items = 100)]
    recommendations: Arc<[Recommendation]>,
    /// Whether it was made without knowledge of the latest likes of the user.
    pub(in crate::serve) partial: bool,
    /// Whether it was made for an earlier request.
    pub(in crate::serve) cached: bool,
    #[schema(format = DateTime)]
    generated_at: String,
    /// Why there are fewer videos than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<Shortfall>,
}

/// Where a list comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::serve) enum Source {
    /// Similarity of the user's vector to those of the videos.
    TwoTower,
    /// Number of likes, the same for all users.
    Popular,
    /// A list made for an earlier request, since the database is late.
    StaleCache,
}

/// Why a list is shorter than asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::serve) enum Shortfall {
    /// No other videos satisfy the request.
    CatalogueExhausted,
    /// All other videos score less than `min_score`.
    MinScore,
}

/// Why a video is in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// The likes named in `because`.
    BecauseYouLiked,
    /// Many users like it.
    Popular,
    /// It is new, and was drawn at random.
    New,
    /// It was skipped before, and no other videos were left.
    SkippedBefore,
}

#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct Recommendation {
    video_id: Uuid,
    title: String,
    /// Only comparable within one list.
    score: f32,
    /// Why it is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<Reason>,
    /// Likes behind the recommendation, the most important one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 3)]
    because: Vec<Because>,
    /// Probability with which it was drawn, if it was drawn at random.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 1)]
    propensity: Option<f32>,
}

/// A like behind a recommendation.
#[derive(Debug, Serialize, ToSchema)]
struct Because {
    video_id: Uuid,
    title: String,
    /// By how much the score would fall without that like.
    contribution: f32,
}

impl Answer {
    pub(in crate::serve) fn new(
        user: Uuid,
        snapshot: &Snapshot,
        ranking: &Ranking,
        limit: usize,
    ) -> Self {
        let recommendations = recommendations(snapshot, &ranking.picks);
        Self {
            user_id: user,
            source: match ranking.origin {
                Origin::TwoTower => Source::TwoTower,
                Origin::Popular => Source::Popular,
            },
            model_version: snapshot.version(),
            reason: shortfall(ranking, limit),
            recommendations,
            partial: false,
            cached: false,
            generated_at: rfc3339(SystemTime::now()),
        }
    }

    /// Summary for the metrics and the log.
    pub(in crate::serve) fn summary(&self) -> Answered {
        Answered {
            source: match self.source {
                Source::TwoTower => "two_tower",
                Source::Popular => "popular",
                Source::StaleCache => "stale_cache",
            },
            cached: self.cached,
            partial: self.partial,
        }
    }

    /// A list of videos with these titles.
    #[cfg(test)]
    pub(super) fn of_titles(titles: &[&str]) -> Self {
        let recommendation = |title: &&str| Recommendation {
            video_id: Uuid::nil(),
            title: (*title).to_owned(),
            score: 0.0,
            reason: None,
            because: Vec::new(),
            propensity: None,
        };
        Self {
            user_id: Uuid::nil(),
            source: Source::TwoTower,
            model_version: None,
            recommendations: titles.iter().map(recommendation).collect(),
            partial: false,
            cached: false,
            generated_at: String::new(),
            reason: None,
        }
    }

    /// Approximate memory shared by all copies, bytes.
    pub(in crate::serve) fn bytes(&self) -> usize {
        let of = |it: &Recommendation| {
            let because = it.because.iter().map(|like| like.title.len());
            let named = it.because.len() * size_of::<Because>() + because.sum::<usize>();
            size_of::<Recommendation>() + it.title.len() + named
        };
        self.generated_at.len() + self.recommendations.iter().map(of).sum::<usize>()
    }

    /// The same list, for another request.
    pub(in crate::serve) fn again(&self) -> Self {
        Self {
            cached: true,
            ..self.clone()
        }
    }

    /// The same list, for a request during which the database is late.
    pub(in crate::serve) fn stale(&self) -> Self {
        Self {
            source: Source::StaleCache,
            partial: true,
            ..self.again()
        }
    }

    /// Marks a list that was made without the user's current state.
    pub(in crate::serve) fn partial(self) -> Self {
        Self {
            partial: true,
            ..self
        }
    }
}

/// Why a list is shorter than asked for.
pub(in crate::serve) fn shortfall(ranking: &Ranking, limit: usize) -> Option<Shortfall> {
    match ranking.picks.len() < limit {
        false => None,
        true if ranking.below_min_score => Some(Shortfall::MinScore),
        true => Some(Shortfall::CatalogueExhausted),
    }
}

pub(in crate::serve) fn recommendations(
    snapshot: &Snapshot,
    picks: &[Pick],
) -> Arc<[Recommendation]> {
    let recommendation = |pick: &Pick| {
        let mut recommendation = Recommendation {
            video_id: snapshot.videos.id(pick.scored.item),
            title: snapshot.videos.title(pick.scored.item).to_owned(),
            score: pick.scored.score,
            reason: None,
            because: Vec::new(),
            propensity: None,
        };
        match &pick.why {
            Why::Score => {}
            Why::Likes(likes) => {
                recommendation.reason = Some(Reason::BecauseYouLiked);
                let because = |&(like, contribution): &(u32, f32)| Because {
                    video_id: snapshot.videos.id(like),
                    title: snapshot.videos.title(like).to_owned(),
                    contribution,
                };
                recommendation.because = likes.iter().map(because).collect();
            }
            Why::Popular => recommendation.reason = Some(Reason::Popular),
            Why::New { propensity } => {
                recommendation.reason = Some(Reason::New);
                recommendation.propensity = Some(*propensity);
            }
            Why::SkippedBefore => recommendation.reason = Some(Reason::SkippedBefore),
        }
        recommendation
    };
    picks.iter().map(recommendation).collect()
}
