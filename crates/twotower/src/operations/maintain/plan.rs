//! Decides which maintenance is worthwhile.

use crate::config::Maintenance;
use std::time::Duration;
use twotower_core::time::{DAY, DAY_US};
use twotower_store::{FileHealth, Health, IndexHealth, TableHealth, Upkeep};

/// With fewer dead or changed rows a step is not worthwhile, whatever their share.
const LEAST_ROWS: u64 = 500;

/// A rebuild that gains fewer bytes is not worthwhile.
const LEAST_GAIN: u64 = 1 << 20;

/// After this long, a few dead rows suffice: autovacuum has not processed their table either.
const LONG_AGO_US: i64 = 30 * DAY_US;

/// Cached answers are deleted at this age. The database returns one for five minutes, and an Edge
/// Function that cannot wait for it an older one.
const ANSWER_AGE: Duration = DAY;

/// A step to do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) step: Upkeep,
    pub(super) action: &'static str,
    /// The table, index or file that it works on.
    pub(super) target: String,
    pub(super) reason: String,
}

/// The steps in their best order: the remains of a killed rebuild block the next one; deleted rows
/// become dead rows for the vacuum; and a vacuum has less work with a rebuilt index than with a
/// bloated one.
pub(super) fn plan(health: &Health, settings: &Maintenance, now_us: i64) -> Vec<Planned> {
    let mut planned = Vec::new();
    let permitted = health.indexes.iter().filter(|index| index.permitted);
    planned.extend(
        permitted
            .clone()
            .filter(|index| index.leftover)
            .map(leftover),
    );
    planned.extend(deletions(health, settings));
    planned.extend(
        permitted
            .filter(|index| !index.leftover)
            .filter_map(|index| rebuild(index, settings)),
    );
    let tables = health.tables.iter().filter(|table| table.permitted);
    planned.extend(tables.filter_map(|table| vacuum_or_analyze(table, settings, now_us)));
    if let Some(file) = &health.file {
        planned.extend(embedded(file, settings));
    }
    planned
}

fn leftover(index: &IndexHealth) -> Planned {
    Planned {
        step: Upkeep::Drop {
            index: index.name.clone(),
        },
        action: "drop index",
        target: index.name.clone(),
        reason: "left behind by a rebuild that was cut off".into(),
    }
}

fn deletions(health: &Health, settings: &Maintenance) -> Vec<Planned> {
    let age = DAY * settings.run_days;
    let runs = Planned {
        step: Upkeep::DeleteRuns { age },
        action: "delete old",
        target: "runs of jobs".into(),
        reason: format!("older than {} days", settings.run_days),
    };
    let answers = Planned {
        step: Upkeep::DeleteAnswers { age: ANSWER_AGE },
        action: "delete old",
        target: "answers in recommendation_cache".into(),
        reason: "older than a day".into(),
    };
    // The embedded store keeps no cached answers.
    let answers = health.file.is_none().then_some(answers);
    [runs].into_iter().chain(answers).collect()
}

fn rebuild(index: &IndexHealth, settings: &Maintenance) -> Option<Planned> {
    let reason = if index.valid {
        let needed = index.needed_bytes?;
        let bloated = index.bytes * 100 > needed * u64::from(settings.bloat_percent)
            && index.bytes - needed >= LEAST_GAIN;
        bloated.then(|| {
            format!(
                "{} bytes, and its {} rows need {needed}",
                index.bytes, index.rows
            )
        })?
    } else {
        "invalid: no query uses it, and every write pays for it".into()
    };
    Some(Planned {
        step: Upkeep::Rebuild {
            index: index.clone(),
        },
        action: "rebuild index",
        target: index.name.clone(),
        reason,
    })
}

fn vacuum_or_analyze(table: &TableHealth, settings: &Maintenance, now_us: i64) -> Option<Planned> {
    let share = u64::from(settings.dead_percent);
    let many = |rows: u64, of: u64| rows >= LEAST_ROWS && rows * 100 >= of * share;
    let name = table.name.clone();
    let long_ago = table
        .vacuumed_at_us
        .is_none_or(|at| at < now_us - LONG_AGO_US);
    let vacuum = if many(table.dead_rows, table.live_rows + table.dead_rows) {
        Some(format!(
            "{} dead rows beside {} live ones",
            table.dead_rows, table.live_rows
        ))
    } else if long_ago && table.dead_rows >= LEAST_ROWS {
        Some(format!(
            "{} dead rows, and no vacuum for 30 days",
            table.dead_rows
        ))
    } else {
        None
    };
    if let Some(reason) = vacuum {
        return Some(Planned {
            step: Upkeep::Vacuum {
                table: name.clone(),
            },
            action: "vacuum",
            target: name,
            reason,
        });
    }
    let never = table.analyzed_at_us.is_none() && table.live_rows > 0;
    let reason = if many(table.changed_rows, table.live_rows) {
        format!(
            "{} rows changed since its statistics were made",
            table.changed_rows
        )
    } else if never {
        "it has no statistics".into()
    } else {
        return None;
    };
    Some(Planned {
        step: Upkeep::Analyze {
            table: name.clone(),
        },
        action: "analyze",
        target: name,
        reason,
    })
}

fn embedded(file: &FileHealth, settings: &Maintenance) -> Vec<Planned> {
    let of_file = |step, action, reason: String| Planned {
        step,
        action,
        target: "database file".into(),
        reason,
    };
    let mut planned = vec![
        of_file(Upkeep::CheckFile, "check", "every time".into()),
        of_file(
            Upkeep::Optimize,
            "analyze",
            "where the engine finds it old".into(),
        ),
    ];
    let (free, share) = (file.free_bytes, u64::from(settings.dead_percent));
    if free >= LEAST_GAIN && free * 100 >= file.bytes * share {
        let reason = format!("{free} of {} bytes are free", file.bytes);
        planned.push(of_file(Upkeep::ShrinkFile, "shrink", reason));
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_800_000_000_000_000;

    fn table(live: u64, dead: u64, changed: u64) -> TableHealth {
        TableHealth {
            name: "public.user_embeddings".into(),
            live_rows: live,
            dead_rows: dead,
            changed_rows: changed,
            bytes: 1,
            vacuumed_at_us: Some(NOW_US - 1),
            analyzed_at_us: Some(NOW_US - 1),
            permitted: true,
        }
    }

    fn index(bytes: u64, needed: u64) -> IndexHealth {
        IndexHealth {
            name: "public.video_embeddings_hnsw_7".into(),
            table: "public.video_embeddings".into(),
            bytes,
            needed_bytes: Some(needed),
            rows: 10,
            dim: 64,
            valid: true,
            leftover: false,
            permitted: true,
        }
    }

    /// All actions except those that are always done.
    fn actions(health: &Health) -> Vec<&'static str> {
        let planned = plan(health, &Maintenance::default(), NOW_US);
        let actions = planned.iter().map(|planned| planned.action);
        actions
            .filter(|action| !action.starts_with("delete"))
            .collect()
    }

    #[test]
    fn a_table_is_left_alone_where_it_does_not_pay() {
        let of = |table| {
            actions(&Health {
                tables: vec![table],
                ..Health::default()
            })
        };
        let nothing: [&str; 0] = [];
        assert_eq!(of(table(10_000, 499, 0)), nothing);
        assert_eq!(of(table(100, 100, 100)), nothing);
        assert_eq!(of(table(8_000, 1_000, 0)), ["vacuum"]);
        assert_eq!(of(table(100_000, 1_000, 0)), nothing);
        assert_eq!(of(table(100_000, 0, 10_000)), ["analyze"]);
        let never = TableHealth {
            analyzed_at_us: None,
            ..table(1, 0, 0)
        };
        assert_eq!(of(never), ["analyze"]);
        let long_ago = TableHealth {
            vacuumed_at_us: None,
            ..table(100_000, 1_000, 0)
        };
        assert_eq!(of(long_ago), ["vacuum"]);
        let of_others = TableHealth {
            permitted: false,
            ..table(0, 9_000, 0)
        };
        assert_eq!(of(of_others), nothing);
    }

    #[test]
    fn an_index_is_rebuilt_where_it_is_bloated_or_invalid() {
        let mib = 1 << 20;
        let of = |index| {
            actions(&Health {
                indexes: vec![index],
                tables: vec![table(0, 1_000, 0)],
                ..Health::default()
            })
        };
        assert_eq!(of(index(2 * mib, mib)), ["vacuum"]);
        assert_eq!(of(index(3 * mib, mib)), ["rebuild index", "vacuum"]);
        // Three times as large as necessary, but still small.
        assert_eq!(of(index(mib, mib / 3)), ["vacuum"]);
        let invalid = IndexHealth {
            valid: false,
            ..index(mib, mib)
        };
        assert_eq!(of(invalid.clone()), ["rebuild index", "vacuum"]);
        let leftover = IndexHealth {
            leftover: true,
            ..invalid
        };
        assert_eq!(of(leftover), ["drop index", "vacuum"]);
    }

    #[test]
    fn a_file_is_written_anew_where_much_of_it_is_free() {
        let of = |bytes, free_bytes| {
            actions(&Health {
                file: Some(FileHealth { bytes, free_bytes }),
                ..Health::default()
            })
        };
        assert_eq!(of(100 << 20, 1 << 20), ["check", "analyze"]);
        assert_eq!(of(10 << 20, 5 << 20), ["check", "analyze", "shrink"]);
        assert_eq!(of(1 << 20, 1 << 19), ["check", "analyze"]);
    }
}
