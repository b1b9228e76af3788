//! Whether the active model does worse than before.
//!
//! Where applications send events, the check is about users: the share of the videos shown to a
//! user that the user liked, each video counted once, in the last 7 days against the 28 days
//! before, both up to a day ago. A like counts only within a day of the first showing, so that
//! videos shown long ago have had no more time to be liked than those of this week. Drift is a rate
//! that fell by `drift_percent` of itself, with p < 0.01 (two-sided z-test, users as the sampling
//! unit). Most users are in both periods, which makes the test conservative: a user's own taste
//! cancels out of the difference, but its variance is counted as if it did not.
//!
//! Where too few events are sent, the check is about the catalogue: the share of the latest likes
//! that are of videos with a vector of the active version. Videos added since the last update have
//! none, and cannot be recommended.

use super::finding::{judged, span};
use super::remembered::{recall, remember};
use super::round::{Round, Scope};
use super::{Finding, Verdict};
use crate::config::Checks;
use crate::operations::Place;
use crate::time::now_us;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use twotower_core::ab_test::{Difference, RatioSums};
use twotower_core::time::HOUR_US;
use twotower_store::inspection::LikeCoverage;
use twotower_store::{ConnectOptions, Store, StoreError};

const CHECK: &str = "drift";

/// Result that a round leaves for those of the next hour: counting takes a while, and a week
/// changes slowly.
const REMEMBERED: &str = "drift.json";
/// Result that maintenance leaves where a round has no time to count.
const AT_NIGHT: &str = "drift-night.json";

/// A result of the night is valid for this long: until after the next night.
const NIGHT_US: i64 = 36 * HOUR_US;

/// Time limit of counting at night, and of waiting for a connection.
const NIGHT_STEP: Duration = Duration::from_mins(10);
const NIGHT_ACQUIRE: Duration = Duration::from_secs(30);

/// Significance level: a smaller p-value counts as a real difference.
const SIGNIFICANT: f64 = 0.01;

/// With fewer likes, no result is given.
const FEWEST_LIKES: u64 = 100;

/// Least share of the latest likes that are of videos with a vector.
const LEAST_KNOWN: f64 = 0.9;

/// A finding, and when it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedFinding {
    at_us: i64,
    /// Counting timed out: rounds within the hour do not try it again.
    late: bool,
    verdict: Verdict,
    evidence: String,
    fix: String,
}

impl SavedFinding {
    fn new(at_us: i64, late: bool, finding: &Finding) -> Self {
        Self {
            at_us,
            late,
            verdict: finding.verdict,
            evidence: finding.evidence.clone(),
            fix: finding.fix.clone(),
        }
    }

    /// The result saved under `name` within `within_us` before `now_us`.
    fn recall(place: &Place, name: &str, now_us: i64, within_us: i64) -> Option<Self> {
        let told: Self = recall(place, name)?;
        (0..within_us)
            .contains(&(now_us - told.at_us))
            .then_some(told)
    }

    fn finding(self) -> Finding {
        Finding {
            check: CHECK,
            subject: None,
            verdict: self.verdict,
            evidence: self.evidence,
            fix: self.fix,
        }
    }
}

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Option<Finding> {
    if !round.wants(CHECK) {
        return None;
    }
    let (place, now_us, watched) = (round.place, round.now_us, round.scope == Scope::Watched);
    if watched && let Some(told) = SavedFinding::recall(place, REMEMBERED, now_us, HOUR_US) {
        return Some(if told.late {
            of_night(place, now_us)
        } else {
            told.finding()
        });
    }
    let finding = match round.within(look(place, store)).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) if !is_late(&error) => return Some(Finding::unseen(CHECK, &error)),
        Ok(Err(_)) | Err(_) => {
            let finding = of_night(place, now_us);
            if watched {
                tracing::warn!("{CHECK}: counting takes too long, and is tried again in an hour");
                remember(
                    place,
                    REMEMBERED,
                    &SavedFinding::new(now_us, true, &finding),
                );
            }
            return Some(finding);
        }
    };
    if watched && matches!(finding.verdict, Verdict::Passed | Verdict::Failed) {
        remember(
            place,
            REMEMBERED,
            &SavedFinding::new(now_us, false, &finding),
        );
    }
    Some(finding)
}

/// Counts with a long time limit, if no round of the last days had time to. Errors are logged and
/// do not fail the maintenance.
pub(crate) async fn count_at_night(place: &Place) {
    let now_us = now_us();
    let waits =
        SavedFinding::recall(place, REMEMBERED, now_us, NIGHT_US).is_some_and(|told| told.late);
    if !waits {
        return;
    }
    match count(place).await {
        Ok(finding) => remember(place, AT_NIGHT, &SavedFinding::new(now_us, false, &finding)),
        Err(error) => tracing::warn!(%error, "{CHECK}: could not be counted at night either"),
    }
}

async fn count(place: &Place) -> Result<Finding, StoreError> {
    let options = ConnectOptions {
        max_connections: 1,
        acquire_timeout: NIGHT_ACQUIRE,
        statement_timeout: NIGHT_STEP,
    };
    let store = Store::connect_existing(&place.db_url, options).await?;
    let finding = look(place, &store).await;
    store.close().await;
    finding
}

/// The result of the last night.
fn of_night(place: &Place, now_us: i64) -> Finding {
    let late = "counting takes too long for a look that others wait for";
    match SavedFinding::recall(place, AT_NIGHT, now_us, NIGHT_US) {
        Some(told) => {
            let ago = span(now_us - told.at_us);
            let mut finding = told.finding();
            finding.evidence = format!("{} (counted {ago} ago: {late})", finding.evidence);
            finding
        }
        None => Finding::skipped(
            CHECK,
            late,
            "let `twotower run maintain` run every night with the same `state_dir`: it counts then",
        ),
    }
}

fn is_late(error: &StoreError) -> bool {
    error.is_deadline() || matches!(error, StoreError::Cancelled(_))
}

async fn look(place: &Place, store: &Store) -> Result<Finding, StoreError> {
    let mut likes = Rates::default();
    store
        .for_each_reaction(&mut |user| {
            likes
                .recent
                .push(user.recent_liked as f64, user.recent_shown as f64);
            likes
                .earlier
                .push(user.earlier_liked as f64, user.earlier_shown as f64);
            likes.recent_shown += user.recent_shown;
            likes.earlier_shown += user.earlier_shown;
        })
        .await?;
    if let Some(finding) = judge_rates(&likes, &place.config.checks) {
        return Ok(finding);
    }
    let Some(generation) = store.generation().await? else {
        let fix = "twotower train --update-db";
        return Ok(Finding::skipped(CHECK, "no model is active", fix));
    };
    let coverage = store.like_coverage(&place.config.source, generation.version);
    Ok(judge_coverage(generation.version, coverage.await?))
}

/// How often shown videos were liked.
#[derive(Debug, Default)]
struct Rates {
    recent: RatioSums,
    earlier: RatioSums,
    recent_shown: u64,
    earlier_shown: u64,
}

/// `None` if there are too few events.
fn judge_rates(rates: &Rates, checks: &Checks) -> Option<Finding> {
    let fewest = u64::from(checks.drift_impressions);
    if rates.recent_shown < fewest || rates.earlier_shown < fewest {
        return None;
    }
    let (recent, earlier) = (rates.recent.estimate()?, rates.earlier.estimate()?);
    let difference = Difference::between(&recent, &earlier)?;
    let fell = -100.0 * difference.value / earlier.value;
    let evidence = format!(
        "{:.2} % of what users were first shown in the last 7 days they liked within a day, {:.2} % in the 28 days before ({} and {} videos shown; p = {:.3})",
        100.0 * recent.value,
        100.0 * earlier.value,
        rates.recent_shown,
        rates.earlier_shown,
        difference.p_value
    );
    let drifted = fell >= f64::from(checks.drift_percent) && difference.p_value < SIGNIFICANT;
    let fix = "look at what changed: the catalogue, the application, the model (`twotower models list`); then `twotower rollback` or `twotower run \
               retrain`";
    Some(judged(CHECK, !drifted, evidence, fix))
}

fn judge_coverage(version: i64, coverage: LikeCoverage) -> Finding {
    let LikeCoverage { likes, known } = coverage;
    if likes < FEWEST_LIKES {
        let evidence =
            format!("{likes} likes in the last 7 days, and few events or none: too little to tell");
        return Finding::skipped(
            CHECK,
            evidence,
            "have applications send events: docs/api.md, Events",
        );
    }
    let share = known as f64 / likes as f64;
    let evidence = format!(
        "{:.0} % of the latest {likes} likes are of videos with a vector of version {version}, at least {:.0} % should be",
        100.0 * share,
        100.0 * LEAST_KNOWN
    );
    judged(CHECK, share >= LEAST_KNOWN, evidence, "twotower run update")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `users` with ten videos shown in either period, of which the given number is liked, varied
    /// by one from user to user.
    fn rates(users: u32, recent: u32, earlier: u32) -> Rates {
        let mut rates = Rates::default();
        for n in 0..users {
            let odd = f64::from(n % 2);
            rates.recent.push(f64::from(recent) + odd, 10.0);
            rates.earlier.push(f64::from(earlier) + odd, 10.0);
        }
        rates.recent_shown = u64::from(users) * 10;
        rates.earlier_shown = u64::from(users) * 10;
        rates
    }

    #[test]
    fn a_rate_that_fell_far_and_surely_is_drift() {
        let checks = Checks::default();
        let verdict = |rates| judge_rates(&rates, &checks).map(|finding| finding.verdict);
        assert_eq!(verdict(rates(1000, 3, 5)), Some(Verdict::Failed));
        assert_eq!(verdict(rates(1000, 5, 5)), Some(Verdict::Passed));
        assert_eq!(verdict(rates(1000, 7, 5)), Some(Verdict::Passed));
        assert_eq!(verdict(rates(400, 3, 5)), None);
    }

    #[test]
    fn likes_of_videos_that_the_model_does_not_know_are_drift() {
        let verdict = |likes, known| judge_coverage(1, LikeCoverage { likes, known }).verdict;
        assert_eq!(verdict(99, 0), Verdict::Skipped);
        assert_eq!(verdict(100, 90), Verdict::Passed);
        assert_eq!(verdict(100, 89), Verdict::Failed);
    }
}
