//! One round of checks, with a time limit.

use super::finding::span;
use super::{
    CATALOGUE, Finding, certificate, database, environment, host, keys, load, outside, server,
};
use crate::config::Checks;
use crate::operations::Place;
use crate::time::now_us;
use std::time::Duration;
use tokio::time::Instant;
use twotower_store::StoreError;

/// Which checks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every check.
    All,
    /// Those that raise alerts: cheap enough to run every few minutes, and done within ten seconds
    /// even if nothing answers.
    Watched,
}

impl Scope {
    /// Time limit of one step: a database call, a request.
    fn step(self) -> Duration {
        match self {
            Self::All => Duration::from_secs(30),
            Self::Watched => Duration::from_secs(3),
        }
    }

    /// Time limit of the whole round.
    fn whole(self) -> Duration {
        match self {
            Self::All => Duration::from_mins(3),
            Self::Watched => Duration::from_secs(8),
        }
    }
}

/// Runs the checks on `place` and returns their findings in the order of [`CATALOGUE`]; some checks
/// return several. Does not fail: what could not be checked is a finding too.
pub async fn examine(place: &Place, scope: Scope) -> Vec<Finding> {
    let wanted = CATALOGUE
        .iter()
        .filter(|check| scope == Scope::All || check.watched.is_some());
    let wanted = wanted.map(|check| check.name).collect();
    Round::new(place, scope, wanted).run().await
}

/// Like [`examine`], for the checks with these names only.
pub async fn examine_named(place: &Place, names: &[&'static str]) -> Vec<Finding> {
    Round::new(place, Scope::All, names.to_vec()).run().await
}

/// The input of every check.
pub(super) struct Round<'a> {
    pub(super) place: &'a Place,
    pub(super) scope: Scope,
    /// Microseconds since 1970.
    pub(super) now_us: i64,
    wanted: Vec<&'static str>,
    until: Instant,
}

/// The time limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimedOut;

/// Why the database has not said what a check asks for.
#[derive(Debug)]
pub(super) enum Unanswered {
    Failed(StoreError),
    Late,
}

impl Unanswered {
    pub(super) fn finding(&self, check: &'static str) -> Finding {
        match self {
            Self::Failed(error) => Finding::unseen(check, error),
            Self::Late => Finding::skipped(check, "no answer in time", ""),
        }
    }

    /// A finding for each of the checks that needed the answer.
    pub(super) fn of_each(&self, checks: &[&'static str]) -> Vec<Finding> {
        checks.iter().map(|check| self.finding(check)).collect()
    }
}

impl<'a> Round<'a> {
    pub(super) fn new(place: &'a Place, scope: Scope, wanted: Vec<&'static str>) -> Self {
        Self {
            place,
            scope,
            now_us: now_us(),
            wanted,
            until: Instant::now() + scope.whole(),
        }
    }

    /// The same round, with this much of its time left.
    #[cfg(test)]
    pub(super) fn with_time_left(self, left: Duration) -> Self {
        Self {
            until: Instant::now() + left,
            ..self
        }
    }

    pub(super) fn checks(&self) -> &Checks {
        &self.place.config.checks
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wanted.contains(&name)
    }

    pub(super) fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// Time limit of the next step.
    pub(super) fn step(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        self.scope.step().min(left)
    }

    /// Waits for `work`, at most as long as a step may take.
    pub(super) fn within<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, TimedOut>> {
        let step = self.step();
        // Boxed, since the futures of checks are large and each stands in several of another.
        let work = Box::pin(work);
        async move { tokio::time::timeout(step, work).await.map_err(|_| TimedOut) }
    }

    /// Asks the database, at most as long as a step may take.
    pub(super) fn ask<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, Unanswered>> {
        let work = self.within(work);
        async move {
            match work.await {
                Ok(answer) => answer.map_err(Unanswered::Failed),
                Err(TimedOut) => Err(Unanswered::Late),
            }
        }
    }

    /// What `work`, which asks the database, finds for `check`.
    pub(super) fn finding(
        &self,
        check: &'static str,
        work: impl Future<Output = Result<Finding, StoreError>>,
    ) -> impl Future<Output = Finding> {
        let found = self.ask(work);
        async move { found.await.unwrap_or_else(|why| why.finding(check)) }
    }

    /// Runs blocking work on a thread of its own; if it exceeds the time limit, the thread is
    /// abandoned.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TimedOut> {
        let done = self.within(tokio::task::spawn_blocking(work)).await?;
        done.map_err(|_| TimedOut)
    }

    async fn run(&self) -> Vec<Finding> {
        let (database, server, load, outside, certificate, machine) = tokio::join!(
            Box::pin(database::examine(self)),
            Box::pin(server::examine(self)),
            Box::pin(load::examine(self)),
            Box::pin(outside::examine(self)),
            Box::pin(certificate::examine(self)),
            Box::pin(async {
                let mut found = host::examine(self).await;
                found.extend(keys::examine(self));
                found.extend(environment::examine(self));
                found
            }),
        );
        let found = [database, server, outside, certificate, machine].concat();
        self.in_order(&found.into_iter().chain(load).collect::<Vec<_>>())
    }

    /// Sorts the findings, and adds one for each check that returned none.
    fn in_order(&self, found: &[Finding]) -> Vec<Finding> {
        let is_known = |finding: &Finding| CATALOGUE.iter().any(|it| it.name == finding.check);
        debug_assert!(
            found.iter().all(is_known),
            "not in the catalogue: {found:?}"
        );
        let mut ordered = Vec::with_capacity(found.len());
        for check in CATALOGUE.iter().filter(|check| self.wants(check.name)) {
            let own = found.iter().filter(|finding| finding.check == check.name);
            let before = ordered.len();
            ordered.extend(own.cloned());
            if ordered.len() == before {
                let whole = span(self.scope.whole().as_micros() as i64);
                let late = format!("not looked at: the checks before it took all of the {whole}");
                ordered.push(Finding::skipped(check.name, late, ""));
            }
        }
        ordered
    }
}
