//! Chooses the model of a folder that an unattended update works on.

use super::LeftAlone;
use crate::jobs::Retry;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use twotower_store::model_files;
use twotower_store::{ModelRecord, ModelState, Store};

/// The folder of the model to update: `path` itself if it is a model's folder, else the one in it
/// that [`choose`] selects.
pub(super) async fn model_folder(
    store: &Store,
    path: &Path,
    left_alone: LeftAlone,
    retry: &Retry,
) -> anyhow::Result<PathBuf> {
    if model_files::is_model(path) {
        return Ok(path.to_owned());
    }
    let versions = model_files::versions(path).context("look for models")?;
    let registered = retry.call("read the registry", || store.models()).await?;
    let chosen = choose(&versions, &registered, left_alone);
    let unclaimed = choose(&versions, &registered, LeftAlone::Nothing);
    let claimed = unclaimed.filter(|_| unclaimed != chosen);
    if let Some(claimed) = claimed {
        tracing::info!(
            "version {claimed} in {0} is left to a retraining that is not over: `twotower run retrain` goes on with it within a day, and \
             `twotower update --model-path {0}/{claimed}` does without",
            path.display()
        );
    }
    let Some(version) = chosen else {
        bail!("{}", nothing_to_do(path, &versions, &registered));
    };
    let passed_over = versions.iter().filter(|&&it| it > version);
    for newer in passed_over.filter(|&&it| Some(it) != claimed) {
        tracing::info!(
            "version {newer} in {} was active, held back or refused before, so that it is left alone: `twotower models promote {newer}` \
             makes it active",
            path.display()
        );
    }
    Ok(path.join(version.to_string()))
}

/// The newest version, if it is newer than all that were ever complete, active or refused; else the
/// active one.
///
/// Thus the next run does not undo a rollback, nor activate a challenger that was refused. A new
/// version that is left alone is no reason to take an older one.
fn choose(versions: &[i64], registered: &[ModelRecord], left_alone: LeftAlone) -> Option<i64> {
    let settled = registered.iter().filter(|record| !is_new(record));
    let last_settled = settled.map(|record| record.version).max();
    let newest = versions.iter().copied().max();
    let active = active(registered);
    let may_take = |newest| match left_alone {
        LeftAlone::Nothing => true,
        LeftAlone::Version(version) => newest != version,
        LeftAlone::AllNew => false,
    };
    newest
        .filter(|&newest| last_settled.is_none_or(|settled| settled < newest) && may_take(newest))
        .or_else(|| active.filter(|active| versions.contains(active)))
}

/// Whether the version is still loading, and has never been active.
fn is_new(record: &ModelRecord) -> bool {
    record.state == ModelState::Loading && record.activated_at_us.is_none()
}

fn active(registered: &[ModelRecord]) -> Option<i64> {
    let active = registered
        .iter()
        .find(|record| record.state == ModelState::Active);
    active.map(|record| record.version)
}

fn nothing_to_do(path: &Path, versions: &[i64], registered: &[ModelRecord]) -> String {
    let path = path.display();
    match (active(registered), versions.iter().max()) {
        (_, None) => format!("{path} holds no model: train one with `twotower train`"),
        (Some(active), _) => {
            format!(
                "{path} has no folder of version {active}, which is active: copy it there, or name the folder of a newer model"
            )
        }
        (None, Some(newest)) => format!(
            "no version is active, and those in {path} were held back or refused before, or are a retraining's: name the folder of the one to serve, as in \
             --model-path {path}/{newest}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelState::{Active, Candidate, Failed, Loading, Retired};

    fn record((version, state): (i64, ModelState)) -> ModelRecord {
        ModelRecord {
            version,
            state,
            embedding_dim: 2,
            created_at_us: 0,
            activated_at_us: matches!(state, Active | Retired).then_some(1),
            cut_off_us: None,
            metrics: serde_json::Value::Null,
            pruned_at_us: None,
            erasures_seen: None,
            manifest_sha256: String::new(),
        }
    }

    #[test]
    fn a_new_model_is_taken_and_a_settled_one_is_not() {
        type Case = (&'static [i64], &'static [(i64, ModelState)], Option<i64>);
        let cases: [Case; 11] = [
            (&[], &[], None),
            (&[1, 3], &[], Some(3)),
            (&[1, 2], &[(1, Active)], Some(2)),
            (&[1, 2], &[(1, Active), (2, Loading)], Some(2)),
            // Rolled back from 2, then trained 3.
            (&[1, 2], &[(1, Active), (2, Retired)], Some(1)),
            (&[1, 2, 3], &[(1, Active), (2, Retired)], Some(3)),
            (&[1, 2], &[(1, Active), (2, Failed)], Some(1)),
            (&[1, 2], &[(1, Active), (2, Candidate)], Some(1)),
            // Older than the version that was rolled back from: nobody has asked for it.
            (&[1, 2], &[(1, Active), (3, Retired)], Some(1)),
            (&[2], &[(1, Active), (2, Retired)], None),
            (&[2], &[(2, Failed)], None),
        ];
        for (versions, registered, expected) in cases {
            let registered: Vec<_> = registered.iter().copied().map(record).collect();
            assert_eq!(
                choose(versions, &registered, LeftAlone::Nothing),
                expected,
                "{versions:?} {registered:?}"
            );
        }
        // Version 2 was active before; loading it again by name was interrupted.
        let again = ModelRecord {
            activated_at_us: Some(1),
            ..record((2, Loading))
        };
        let registered = [again, record((1, Active))];
        let chosen = choose(&[1, 2], &registered, LeftAlone::Nothing);
        assert_eq!(chosen, Some(1));
    }

    #[test]
    fn the_model_of_a_retraining_is_left_to_it() {
        use LeftAlone::{AllNew, Nothing, Version};
        type Case = (LeftAlone, &'static [i64], &'static [(i64, ModelState)]);
        let cases: [(Case, Option<i64>); 9] = [
            ((Nothing, &[1, 2], &[(1, Active)]), Some(2)),
            ((Version(2), &[1, 2], &[(1, Active)]), Some(1)),
            ((AllNew, &[1, 2], &[(1, Active)]), Some(1)),
            // Its load was cut off.
            ((Version(2), &[1, 2], &[(1, Active), (2, Loading)]), Some(1)),
            // Another model, such as a fetched one; and one of an earlier retraining.
            ((Version(2), &[1, 2, 3], &[(1, Active)]), Some(3)),
            ((Version(3), &[1, 2, 3], &[(1, Active)]), Some(1)),
            // Promoted, but not written down yet.
            ((Version(2), &[1, 2], &[(1, Retired), (2, Active)]), Some(2)),
            ((AllNew, &[1, 2], &[(1, Retired), (2, Active)]), Some(2)),
            // The first model.
            ((AllNew, &[1], &[]), None),
        ];
        for ((left_alone, versions, registered), expected) in cases {
            let registered: Vec<_> = registered.iter().copied().map(record).collect();
            assert_eq!(
                choose(versions, &registered, left_alone),
                expected,
                "{left_alone:?} {versions:?} {registered:?}"
            );
        }
    }
}
