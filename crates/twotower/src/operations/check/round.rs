//! One look at everything that was asked for, within a time that is known beforehand.

use super::finding::span;
use super::{
    CATALOGUE, Finding, certificate, database, environment, host, keys, load, outside, server,
};
use crate::config::Checks;
use crate::jobs::now_us;
use crate::operations::Place;
use std::time::Duration;
use tokio::time::Instant;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every check.
    All,
    /// Those that alerts come of: cheap enough for every few minutes, and over within ten seconds whatever is dead.
    Watched,
}

impl Scope {
    /// For one step: a call to the database, a request.
    fn step(self) -> Duration {
        match self {
            Self::All => Duration::from_secs(30),
            Self::Watched => Duration::from_secs(3),
        }
    }

    /// For all of it.
    fn whole(self) -> Duration {
        match self {
            Self::All => Duration::from_mins(3),
            Self::Watched => Duration::from_secs(8),
        }
    }
}

/// Looks at `place`, and gives what each check found, in the order of [`CATALOGUE`]; some checks find several things. What cannot be looked
/// at is a finding too: this does not fail.
pub async fn examine(place: &Place, scope: Scope) -> Vec<Finding> {
    let wanted = CATALOGUE
        .iter()
        .filter(|check| scope == Scope::All || check.watched.is_some());
    let wanted = wanted.map(|check| check.name).collect();
    Round::new(place, scope, wanted).run().await
}

/// The same of the checks of these names alone.
pub async fn examine_named(place: &Place, names: &[&'static str]) -> Vec<Finding> {
    Round::new(place, Scope::All, names.to_vec()).run().await
}

/// What every check is given.
pub(super) struct Round<'a> {
    pub(super) place: &'a Place,
    pub(super) scope: Scope,
    /// Microseconds since 1970.
    pub(super) now_us: i64,
    wanted: Vec<&'static str>,
    until: Instant,
}

/// Time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late;

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

    pub(super) fn checks(&self) -> &Checks {
        &self.place.config.checks
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wanted.contains(&name)
    }

    pub(super) fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// What a step may take.
    pub(super) fn step(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        self.scope.step().min(left)
    }

    /// Waits for `work`, but no longer than a step.
    pub(super) async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, Late> {
        let step = self.step();
        tokio::time::timeout(step, work).await.map_err(|_| Late)
    }

    /// Runs what blocks on a thread of its own; a thread that is late is left behind.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Late> {
        let done = self.within(tokio::task::spawn_blocking(work)).await?;
        done.map_err(|_| Late)
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

    /// Every check that was asked for says something.
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
