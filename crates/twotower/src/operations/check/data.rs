//! Training data.

use super::Finding;
use super::finding::judged;
use super::round::Round;
use crate::config::Checks;
use crate::jobs::MINIMUM_LIKES;
use twotower_store::inspection::DataFacts;
use twotower_store::{Store, StoreError};

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Option<Finding> {
    let check = "data-sufficiency";
    if !round.wants(check) {
        return None;
    }
    let source = &round.place.config.source;
    // `serve` would refuse to start with this error.
    if let Ok(Err(error @ StoreError::Source { .. })) =
        round.within(store.with_source(source)).await
    {
        let fix = "mend that SELECT: `twotower serve` does not start with it";
        return Some(Finding::failed(check, error.to_string(), fix));
    }
    let facts = store.data_facts(source);
    Some(match round.within(facts).await {
        Ok(Ok(facts)) => judge(&facts, round.checks()),
        Ok(Err(error)) => Finding::unseen(check, &error),
        Err(_) => Finding::skipped(check, "counting takes too long", ""),
    })
}

fn judge(facts: &DataFacts, checks: &Checks) -> Finding {
    let check = "data-sufficiency";
    let evidence = format!(
        "{} likes ({} of the last half year), {} users who like something, {} videos ({} of them liked); recommended are {} likes, {} users \
         and {} videos",
        facts.likes,
        facts.recent_likes,
        facts.users,
        facts.videos,
        facts.liked_videos,
        checks.likes,
        checks.users,
        checks.videos
    );
    let fix = "collect likes first; until then lists are little better than what is popular. `likes`, `users` and `videos` of section [checks] \
               set other bounds";
    if facts.likes < MINIMUM_LIKES {
        let none = format!("{evidence}; below {MINIMUM_LIKES} likes nothing is trained");
        return judged(check, false, none, fix);
    }
    let enough = facts.likes >= checks.likes.into()
        && facts.users >= checks.users.into()
        && facts.videos >= checks.videos.into();
    if enough {
        Finding::passed(check, evidence)
    } else {
        Finding::warned(check, evidence, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    #[test]
    fn the_guides_figures_are_enough_and_each_below_is_little() {
        let facts = |likes, users, videos| DataFacts {
            likes,
            users,
            videos,
            ..DataFacts::default()
        };
        let verdict = |facts| judge(&facts, &Checks::default()).verdict;
        assert_eq!(verdict(facts(100_000, 1_000, 10_000)), Verdict::Passed);
        for little in [
            facts(99_999, 1_000, 10_000),
            facts(100_000, 999, 10_000),
            facts(100_000, 1_000, 9_999),
        ] {
            assert_eq!(verdict(little), Verdict::Warned);
        }
        assert_eq!(verdict(facts(99, 1_000, 10_000)), Verdict::Failed);
    }
}
