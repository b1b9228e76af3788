//! The vectors that readers see.

use super::Finding;
use super::finding::{judged, span};
use super::round::Round;
use twotower_core::time::HOUR_US;
use twotower_store::inspection::{Completeness, Generation};
use twotower_store::{RunState, Store, StoreError, VectorTable};

/// Number of runs per job in which a successful one is looked for.
const RUNS: u32 = 30;

/// Allowed difference between clocks. A time further ahead was left by a clock that was set back,
/// and is ignored.
const AHEAD_US: i64 = HOUR_US / 6;

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let own = ["dimension", "vectors-fresh", "vectors-complete"];
    if !round.wants_any(&own) {
        return Vec::new();
    }
    let generation = match round.ask(store.generation()).await {
        Ok(Some(generation)) => generation,
        Ok(None) => {
            let skipped = own.map(|check| {
                Finding::skipped(check, "no model is active", "twotower train --update-db")
            });
            return skipped.into();
        }
        Err(why) => return why.of_each(&own),
    };
    let mut found = Vec::new();
    if round.wants("dimension") {
        let work = dimension(store, &generation);
        found.push(round.finding("dimension", work).await);
    }
    if round.wants("vectors-fresh") {
        let work = fresh(round, store, &generation);
        found.push(round.finding("vectors-fresh", work).await);
    }
    if round.wants("vectors-complete") {
        let work = complete(round, store, &generation);
        found.push(round.finding("vectors-complete", work).await);
    }
    found
}

async fn dimension(store: &Store, generation: &Generation) -> Result<Finding, StoreError> {
    let check = "dimension";
    let (version, dim) = (generation.version, generation.embedding_dim);
    let mut rows = 0;
    for (table, name) in [
        (VectorTable::Videos, "video_embeddings"),
        (VectorTable::Users, "user_embeddings"),
    ] {
        let sample = store.sample_dimensions(table, version, dim).await?;
        if let Some(example) = sample.example {
            let evidence = format!(
                "{} of the {} vectors of version {version} in {name} that were written last do not have dimension {dim}, but {example}",
                sample.wrong, sample.rows
            );
            let fix = format!("twotower update --model-path models/{version} --full");
            return Ok(Finding::failed(check, evidence, fix));
        }
        rows += sample.rows;
    }
    Ok(Finding::passed(
        check,
        format!("{dim}, as the {rows} vectors of version {version} that were written last have"),
    ))
}

/// An update that finds nothing to do writes no vectors, so the last successful update counts too.
async fn fresh(
    round: &Round<'_>,
    store: &Store,
    generation: &Generation,
) -> Result<Finding, StoreError> {
    let mut looked_us = None;
    for job in ["update", "retrain"] {
        let runs = store.runs(Some(job), RUNS).await?;
        let done = runs.iter().find(|run| run.state == RunState::Succeeded);
        let at = done.and_then(|run| run.finished_at_us);
        looked_us = looked_us.max(at);
    }
    let looked_us = looked_us.map(|at| round.now_us - at);
    Ok(judge_age(generation, looked_us, round.checks().stale_hours))
}

/// `looked_us`: time since the last successful update.
fn judge_age(generation: &Generation, looked_us: Option<i64>, bound_hours: u32) -> Finding {
    let ages = [
        Some(generation.active_us),
        generation.videos_us,
        generation.users_us,
        looked_us,
    ];
    let known = ages.into_iter().flatten().filter(|&age| age >= -AHEAD_US);
    let Some(age) = known.min() else {
        let evidence = format!(
            "when vectors of version {} were last brought up to date is not known: every time of theirs is yet to come, as after a clock was \
             set back",
            generation.version
        );
        return Finding::failed("vectors-fresh", evidence, "twotower run update");
    };
    let age = age.max(0);
    let evidence = format!(
        "vectors of version {} were last brought up to date {} ago, within {bound_hours} h is expected",
        generation.version,
        span(age)
    );
    let fix = "twotower run update";
    judged(
        "vectors-fresh",
        age <= i64::from(bound_hours) * HOUR_US,
        evidence,
        fix,
    )
}

async fn complete(
    round: &Round<'_>,
    store: &Store,
    generation: &Generation,
) -> Result<Finding, StoreError> {
    let check = "vectors-complete";
    let (version, dim) = (generation.version, generation.embedding_dim);
    let again = format!("twotower update --model-path models/{version} --full");
    for (table, name) in [
        (VectorTable::Videos, "video_embeddings"),
        (VectorTable::Users, "user_embeddings"),
    ] {
        let summary = store.summarize_vectors(table, version, dim).await?;
        let faults = [
            (summary.wrong_dimension, "have another dimension"),
            (summary.not_finite, "hold NaN or infinity"),
            (summary.wrong_norm, "do not have norm 1"),
        ];
        if let Some((wrong, fault)) = faults.iter().find(|(wrong, _)| *wrong > 0) {
            let evidence = format!(
                "{wrong} of {} vectors of version {version} in {name} {fault}",
                summary.rows
            );
            return Ok(Finding::failed(check, evidence, again));
        }
    }
    let completeness = store
        .completeness(&round.place.config.source, version)
        .await?;
    Ok(judge_missing(
        version,
        completeness,
        round.checks().missing_percent,
    ))
}

fn judge_missing(version: i64, completeness: Completeness, bound_percent: f64) -> Finding {
    let Completeness { videos, missing } = completeness;
    let percent = 100.0 * missing as f64 / videos.max(1) as f64;
    let evidence = format!(
        "{missing} of {videos} videos have no vector of version {version} ({percent:.2} %, at most {bound_percent} % is expected: those that came \
         since the last update)"
    );
    judged(
        "vectors-complete",
        percent <= bound_percent,
        evidence,
        "twotower run update",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    #[test]
    fn an_update_without_work_keeps_vectors_fresh() {
        let old = Generation {
            version: 3,
            embedding_dim: 64,
            active_us: 90 * HOUR_US,
            videos_us: Some(80 * HOUR_US),
            users_us: None,
        };
        assert_eq!(judge_age(&old, None, 36).verdict, Verdict::Failed);
        assert_eq!(
            judge_age(&old, Some(37 * HOUR_US), 36).verdict,
            Verdict::Failed
        );
        assert_eq!(
            judge_age(&old, Some(36 * HOUR_US), 36).verdict,
            Verdict::Passed
        );
        // For users, the store knows what an update wrote, not what is computed elsewhere.
        let users = Generation {
            users_us: Some(HOUR_US),
            ..old
        };
        assert_eq!(judge_age(&users, None, 36).verdict, Verdict::Passed);
    }

    #[test]
    fn a_time_that_is_yet_to_come_makes_nothing_fresh() {
        let ahead = Generation {
            version: 3,
            embedding_dim: 64,
            active_us: -24 * HOUR_US,
            videos_us: Some(80 * HOUR_US),
            users_us: None,
        };
        let yet_to_come = Some(-24 * HOUR_US);
        let found = judge_age(&ahead, yet_to_come, 36);
        assert_eq!(found.verdict, Verdict::Failed);
        assert!(found.evidence.contains("3 days ago"), "{}", found.evidence);
        // With clocks that differ a little, it was just now.
        assert_eq!(
            judge_age(&ahead, Some(-2_000_000), 36).verdict,
            Verdict::Passed
        );
        let unknown = Generation {
            videos_us: None,
            ..ahead
        };
        let found = judge_age(&unknown, yet_to_come, 36);
        assert_eq!(found.verdict, Verdict::Failed);
        assert!(found.evidence.contains("yet to come"), "{}", found.evidence);
    }

    #[test]
    fn a_few_new_videos_may_lack_a_vector() {
        let verdict = |missing| {
            let completeness = Completeness {
                videos: 1000,
                missing,
            };
            judge_missing(1, completeness, 1.0).verdict
        };
        assert_eq!(verdict(10), Verdict::Passed);
        assert_eq!(verdict(11), Verdict::Failed);
    }
}
