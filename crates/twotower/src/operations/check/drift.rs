//! Whether the active model does less well than it did.
//!
//! Where applications send events, this is about users: of the videos that a user was shown, the share that they liked, each video once, in the
//! last 7 days against the 28 days before. A rate that fell by `drift_percent` of itself, with a chance of less than 1 in 100 that it did not
//! (two-sided z-test, users as the unit that was drawn), is drift. Most users are in both spans, which makes the test more careful than
//! it says: a user's own taste cancels out of a difference that is counted as if it did not.
//!
//! Where too few events are sent, it is about the catalogue: of the latest likes, the share that is of videos with a vector of the active
//! version. Videos that came since the last update have none, and cannot be recommended.

use super::Finding;
use super::finding::judged;
use super::remembered::{recall, remember};
use super::round::{Round, Scope};
use crate::config::Checks;
use serde::{Deserialize, Serialize};
use twotower_core::ab_test::{Difference, RatioSums};
use twotower_store::inspection::LikeCoverage;
use twotower_store::{Store, StoreError};

/// What a round leaves for those of the next hour: counting takes a while, and a week does not change so fast.
const REMEMBERED: &str = "drift.json";
const HOUR_US: i64 = 3_600_000_000;

/// A chance below which a difference is none of chance.
const SIGNIFICANT: f64 = 0.01;

/// Fewest likes of which anything is told.
const FEWEST_LIKES: u64 = 100;

/// Least share of the latest likes that is of videos with a vector.
const LEAST_KNOWN: f64 = 0.9;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    at_us: i64,
    failed: bool,
    evidence: String,
    fix: String,
}

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Option<Finding> {
    let check = "drift";
    if !round.wants(check) {
        return None;
    }
    if round.scope == Scope::Watched
        && let Some(told) = recall::<Told>(round.place, REMEMBERED)
        && (0..HOUR_US).contains(&(round.now_us - told.at_us))
    {
        return Some(judged(check, !told.failed, told.evidence, told.fix));
    }
    let finding = match round.within(look(round, store)).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(error)) => return Some(Finding::unseen(check, &error)),
        Err(_) => return Some(Finding::skipped(check, "counting takes too long", "")),
    };
    let told = match finding.verdict {
        super::Verdict::Passed => false,
        super::Verdict::Failed => true,
        _ => return Some(finding),
    };
    if round.scope == Scope::Watched {
        let told = Told {
            at_us: round.now_us,
            failed: told,
            evidence: finding.evidence.clone(),
            fix: finding.fix.clone(),
        };
        remember(round.place, REMEMBERED, &told);
    }
    Some(finding)
}

async fn look(round: &Round<'_>, store: &Store) -> Result<Finding, StoreError> {
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
    if let Some(finding) = judge_rates(&likes, round.checks()) {
        return Ok(finding);
    }
    let Some(generation) = store.generation().await? else {
        let fix = "twotower train --update-db";
        return Ok(Finding::skipped("drift", "no model is active", fix));
    };
    let coverage = store.like_coverage(&round.place.config.source, generation.version);
    Ok(judge_coverage(generation.version, coverage.await?))
}

/// How often what was shown was liked.
#[derive(Debug, Default)]
struct Rates {
    recent: RatioSums,
    earlier: RatioSums,
    recent_shown: u64,
    earlier_shown: u64,
}

/// Nothing if there are too few events.
fn judge_rates(rates: &Rates, checks: &Checks) -> Option<Finding> {
    let fewest = u64::from(checks.drift_impressions);
    if rates.recent_shown < fewest || rates.earlier_shown < fewest {
        return None;
    }
    let (recent, earlier) = (rates.recent.estimate()?, rates.earlier.estimate()?);
    let difference = Difference::between(&recent, &earlier)?;
    let fell = -100.0 * difference.value / earlier.value;
    let evidence = format!(
        "{:.2} % of what users were shown in the last 7 days they liked, {:.2} % in the 28 days before ({} and {} videos shown; p = {:.3})",
        100.0 * recent.value,
        100.0 * earlier.value,
        rates.recent_shown,
        rates.earlier_shown,
        difference.p_value
    );
    let drifted = fell >= f64::from(checks.drift_percent) && difference.p_value < SIGNIFICANT;
    let fix = "look at what changed: the catalogue, the application, the model (`twotower models list`); then `twotower rollback` or `twotower run \
               retrain`";
    Some(judged("drift", !drifted, evidence, fix))
}

fn judge_coverage(version: i64, coverage: LikeCoverage) -> Finding {
    let check = "drift";
    let LikeCoverage { likes, known } = coverage;
    if likes < FEWEST_LIKES {
        let evidence =
            format!("{likes} likes in the last 7 days, and few events or none: too little to tell");
        return Finding::skipped(
            check,
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
    judged(check, share >= LEAST_KNOWN, evidence, "twotower run update")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    /// `users` with ten videos shown in either span, of which so many are liked, one more or less from user to user.
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
