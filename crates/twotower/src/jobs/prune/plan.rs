//! Decides which versions are removed.

use crate::config::Prune;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use twotower_core::time::{DAY, DAY_US};
use twotower_store::{ModelRecord, ModelState, VectorAge};

/// Why a version is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Enough newer versions are kept.
    Superseded,
    /// It may have learned from an erased user, and its time is over.
    Erasure,
    /// Loading failed, or was not resumed.
    Failed,
    /// It is not in the registry.
    Unregistered,
    /// An earlier run did not finish removing it.
    Unfinished,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "newer ones are kept",
            Self::Erasure => "trained before somebody was erased",
            Self::Failed => "never loaded to the end",
            Self::Unregistered => "not registered",
            Self::Unfinished => "left over",
        })
    }
}

/// A version to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) version: i64,
    pub(super) reason: Reason,
}

/// The facts that decide.
pub(super) struct Rules<'a> {
    pub(super) settings: &'a Prune,
    /// The version that a rollback would activate.
    pub(super) rollback_target: Option<i64>,
    /// The versions of the running experiment. Users see them, like the active version.
    pub(super) experiment: Option<[i64; 2]>,
    /// Time by which versions must be replaced, microseconds since 1970.
    pub(super) retire_by: &'a HashMap<i64, i64>,
    /// Whether a retraining is running.
    pub(super) retraining: bool,
    pub(super) now_us: i64,
}

/// The versions that readers see, and those that they may see soon.
#[derive(Clone, Copy)]
struct Served {
    active: Option<i64>,
    /// The newest candidate that is newer than the active version. Between loading a version and
    /// switching readers to it, nobody holds the lease while it is published, and nothing else
    /// distinguishes it from an unwanted candidate.
    next: Option<i64>,
}

impl Served {
    fn of(records: &[ModelRecord]) -> Self {
        let active = records
            .iter()
            .find(|record| record.state == ModelState::Active)
            .map(|record| record.version);
        let next = records
            .iter()
            .filter(|record| record.state == ModelState::Candidate)
            .filter(|record| record.pruned_at_us.is_none())
            .map(|record| record.version)
            .filter(|version| active.is_none_or(|active| active < *version))
            .max();
        Self { active, next }
    }

    fn has_overtaken(self, version: i64) -> bool {
        self.active.is_some_and(|active| active > version)
    }

    /// Whether a running retraining may be about to activate the version.
    fn may_follow(self, record: &ModelRecord) -> bool {
        match record.state {
            ModelState::Candidate => self.next == Some(record.version),
            ModelState::Loading => !self.has_overtaken(record.version),
            _ => false,
        }
    }
}

impl Rules<'_> {
    fn is_due(&self, version: i64) -> bool {
        let by = self.retire_by.get(&version);
        by.is_some_and(|&by| by <= self.now_us)
    }

    /// A version trained before an erasure may replace one that was trained earlier still. Removing
    /// it from a running retraining would keep the older one in service for longer. When no
    /// retraining runs, nobody will activate it.
    fn is_waited_for(&self, record: &ModelRecord, served: Served) -> bool {
        self.retraining && served.may_follow(record)
    }

    fn is_tried(&self, version: i64) -> bool {
        self.experiment
            .is_some_and(|versions| versions.contains(&version))
    }

    fn reason(&self, record: &ModelRecord, kept: &HashSet<i64>, served: Served) -> Option<Reason> {
        let days = i64::from(self.settings.failed_days);
        let old = self.now_us - record.created_at_us >= days * DAY_US;
        let overtaken = served.has_overtaken(record.version);
        match record.state {
            ModelState::Active => None,
            _ if self.is_tried(record.version) => None,
            _ if record.pruned_at_us.is_some() => Some(Reason::Unfinished),
            _ if self.is_due(record.version) && !self.is_waited_for(record, served) => {
                Some(Reason::Erasure)
            }
            ModelState::Candidate | ModelState::Retired => {
                (!kept.contains(&record.version)).then_some(Reason::Superseded)
            }
            ModelState::Failed => old.then_some(Reason::Failed),
            // The next update resumes loading a newer version.
            ModelState::Loading => (old && overtaken).then_some(Reason::Failed),
        }
    }
}

/// The versions to remove, ascending. `ages`: vectors of each table, by version.
pub(super) fn doomed(
    records: &[ModelRecord],
    ages: &[HashMap<i64, VectorAge>; 2],
    rules: &Rules<'_>,
) -> Vec<Doomed> {
    let served = Served::of(records);
    let mut complete: Vec<i64> = records
        .iter()
        .filter(|record| matches!(record.state, ModelState::Candidate | ModelState::Retired))
        .filter(|record| record.pruned_at_us.is_none() && !rules.is_due(record.version))
        .map(|record| record.version)
        .collect();
    complete.sort_unstable_by(|a, b| b.cmp(a));
    complete.truncate(rules.settings.keep_versions);
    let mut kept: HashSet<i64> = complete.into_iter().collect();
    kept.extend(rules.rollback_target);
    kept.extend(served.next);

    let mut doomed: BTreeMap<i64, Reason> = records
        .iter()
        .filter_map(|record| Some((record.version, rules.reason(record, &kept, served)?)))
        .collect();
    let registered: HashSet<i64> = records.iter().map(|record| record.version).collect();
    let patience = DAY * rules.settings.failed_days;
    let is_young = |version: &i64| {
        let ages = ages.iter().filter_map(|ages| ages.get(version));
        ages.into_iter().any(|age| age.age < patience)
    };
    for version in ages.iter().flat_map(HashMap::keys) {
        if !registered.contains(version) && !is_young(version) {
            doomed.insert(*version, Reason::Unregistered);
        }
    }
    doomed
        .into_iter()
        .map(|(version, reason)| Doomed { version, reason })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelState::{Active, Candidate, Failed, Loading, Retired};

    const NOW_US: i64 = 100 * DAY_US;

    fn record((version, state, days): (i64, ModelState, i64)) -> ModelRecord {
        ModelRecord {
            version,
            state,
            embedding_dim: 2,
            created_at_us: NOW_US - days * DAY_US,
            activated_at_us: None,
            cut_off_us: None,
            metrics: serde_json::Value::Null,
            pruned_at_us: None,
            erasures_seen: None,
            manifest_sha256: String::new(),
        }
    }

    fn decide(
        records: &[(i64, ModelState, i64)],
        target: Option<i64>,
        retire_by: &[(i64, i64)],
        change: impl FnOnce(&mut Vec<ModelRecord>),
    ) -> Vec<(i64, Reason)> {
        let mut records: Vec<ModelRecord> = records.iter().copied().map(record).collect();
        change(&mut records);
        let retire_by = retire_by.iter().copied().collect();
        let settings = Prune {
            keep_versions: 2,
            ..Prune::default()
        };
        let rules = Rules {
            settings: &settings,
            rollback_target: target,
            experiment: None,
            retire_by: &retire_by,
            retraining: false,
            now_us: NOW_US,
        };
        doomed(&records, &[HashMap::new(), HashMap::new()], &rules)
            .into_iter()
            .map(|one| (one.version, one.reason))
            .collect()
    }

    const HISTORY: [(i64, ModelState, i64); 8] = [
        (8, Loading, 9),
        (7, Candidate, 0),
        (6, Active, 0),
        (5, Loading, 9),
        (4, Failed, 9),
        (3, Failed, 6),
        (2, Retired, 0),
        (1, Retired, 0),
    ];

    #[test]
    fn the_newest_stay_and_so_does_the_way_back() {
        use Reason::{Erasure, Failed, Superseded, Unfinished};
        let none = |_: &mut Vec<ModelRecord>| {};
        let failed = [(4, Failed), (5, Failed)];
        let expected = [&[(1, Superseded)][..], &failed].concat();
        assert_eq!(decide(&HISTORY, Some(2), &[], none), expected);
        assert_eq!(decide(&HISTORY, Some(1), &[], none), failed);
        // Erasures take precedence over rollbacks. The active version is never removed.
        let due = [(1, NOW_US), (2, NOW_US + 1), (6, 0)];
        let expected = [&[(1, Erasure)][..], &failed].concat();
        assert_eq!(decide(&HISTORY, Some(1), &due, none), expected);
        // A pruned version does not count as kept.
        let pruned = |records: &mut Vec<ModelRecord>| records[6].pruned_at_us = Some(1);
        let expected = [&[(2, Unfinished)][..], &failed].concat();
        assert_eq!(decide(&HISTORY, None, &[], pruned), expected);
    }

    #[test]
    fn what_an_experiment_serves_stays() {
        let settings = Prune {
            keep_versions: 0,
            ..Prune::default()
        };
        let due = HashMap::from([(1, 0)]);
        let mut rules = Rules {
            settings: &settings,
            rollback_target: None,
            experiment: None,
            retire_by: &due,
            retraining: false,
            now_us: NOW_US,
        };
        let records = [(3, Active, 0), (2, Retired, 0), (1, Retired, 0)].map(record);
        let gone = |rules: &Rules<'_>| doomed(&records, &[HashMap::new(), HashMap::new()], rules);
        assert_eq!(gone(&rules).len(), 2);
        // Kept even if it should have been replaced: `prune` reports that and fails instead.
        rules.experiment = Some([2, 1]);
        assert!(gone(&rules).is_empty());
    }

    #[test]
    fn what_a_retraining_is_about_to_make_active_stays() {
        let settings = Prune {
            keep_versions: 0,
            ..Prune::default()
        };
        let nobody = HashMap::new();
        // A user was erased after the data of all versions were read, and the time limit is zero.
        let due: HashMap<i64, i64> = (1..=7).map(|version| (version, NOW_US)).collect();
        let gone = |records: &[(i64, ModelState, i64)], due: &HashMap<i64, i64>, retraining| {
            let records: Vec<ModelRecord> = records.iter().copied().map(record).collect();
            let rules = Rules {
                settings: &settings,
                rollback_target: None,
                experiment: None,
                retire_by: due,
                retraining,
                now_us: NOW_US,
            };
            let doomed = doomed(&records, &[HashMap::new(), HashMap::new()], &rules);
            let one = |one: Doomed| (one.version, one.reason);
            doomed.into_iter().map(one).collect::<Vec<_>>()
        };
        let (superseded, erasure) = (Reason::Superseded, Reason::Erasure);
        let versions = [
            (7, Retired, 0),
            (6, Candidate, 0),
            (5, Candidate, 0),
            (4, Active, 0),
            (3, Candidate, 0),
        ];
        // Nobody will activate a version that was retired by hand, or one that is older than the
        // active version.
        let others = [3, 5, 7].map(|version| (version, superseded));
        for retraining in [false, true] {
            assert_eq!(gone(&versions, &nobody, retraining), others);
        }
        // The first version of all.
        assert_eq!(gone(&versions[1..3], &nobody, true), [(5, superseded)]);
        let others = [3, 5, 7].map(|version| (version, erasure));
        assert_eq!(gone(&versions, &due, true), others);
        let all = [3, 5, 6, 7].map(|version| (version, erasure));
        assert_eq!(gone(&versions, &due, false), all);
        // Loading was interrupted.
        let loading = [(5, Loading, 0), (4, Active, 0), (3, Loading, 0)];
        assert_eq!(gone(&loading, &due, true), [(3, erasure)]);
        assert_eq!(gone(&loading, &due, false), [(3, erasure), (5, erasure)]);
    }

    #[test]
    fn vectors_of_no_version_go_when_nobody_writes_them() {
        let settings = Prune::default();
        let rules = Rules {
            settings: &settings,
            rollback_target: None,
            experiment: None,
            retire_by: &HashMap::new(),
            retraining: false,
            now_us: NOW_US,
        };
        let age = |version, days: u32| {
            let age = DAY * days;
            (
                version,
                VectorAge {
                    version,
                    rows: 1,
                    age,
                    known_age: Some(age),
                },
            )
        };
        let videos = HashMap::from([age(1, 50), age(90, 50), age(91, 50)]);
        let users = HashMap::from([age(91, 1), age(92, 7)]);
        let gone = doomed(&[record((1, Active, 50))], &[videos, users], &rules);
        let unregistered = |version| Doomed {
            version,
            reason: Reason::Unregistered,
        };
        assert_eq!(gone, [90, 92].map(unregistered));
    }
}
