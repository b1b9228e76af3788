use super::rank::{Origin, Ranking};
use crate::serve::snapshot::Snapshot;
use crate::serve::time::rfc3339;
use serde::Serialize;
use std::time::SystemTime;
use twotower_core::recommend::Scored;
use uuid::Uuid;

/// The answer's body, that of the Supabase Edge Function.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    user_id: Uuid,
    source: Origin,
    model_version: Option<i64>,
    recommendations: Vec<Recommendation>,
    partial: bool,
    cached: bool,
    generated_at: String,
    /// Why there are fewer than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Recommendation {
    video_id: Uuid,
    title: String,
    score: f32,
    /// Why it is here although it would not be by its score.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Answer {
    pub(super) fn new(user: Uuid, snapshot: &Snapshot, ranking: &Ranking, limit: usize) -> Self {
        let entry = |scored: &Scored, reason| Recommendation {
            video_id: snapshot.video(scored.item),
            title: snapshot.title(scored.item).to_owned(),
            score: scored.score,
            reason,
        };
        let unseen = ranking.unseen.iter().map(|scored| entry(scored, None));
        let skipped = ranking
            .skipped
            .iter()
            .map(|scored| entry(scored, Some("skipped_before")));
        let recommendations: Vec<_> = unseen.chain(skipped).collect();
        Self {
            user_id: user,
            source: ranking.origin,
            model_version: snapshot.version(),
            reason: (recommendations.len() < limit).then_some("catalogue_exhausted"),
            recommendations,
            partial: false,
            cached: false,
            generated_at: rfc3339(SystemTime::now()),
        }
    }
}
