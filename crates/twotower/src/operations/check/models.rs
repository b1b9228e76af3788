//! The active model: its files, its measured quality, and whether another version should replace
//! it.

use super::Finding;
use super::finding::span;
use super::round::Round;
use crate::config::Checks;
use crate::jobs::models::retire_by;
use crate::jobs::storage::trusted_keys;
use serde_json::Value;
use std::path::Path;
use twotower_core::gate::Verdict;
use twotower_core::time::DAY_US;
use twotower_store::model_storage::{StorageError, verify_folder};
use twotower_store::{
    ModelDetails, ModelRecord, ModelState, RunState, Store, StoreError, model_files,
};

const SOON_US: i64 = 3 * DAY_US;

const OF_THE_ACTIVE: [&str; 3] = ["model-files", "model-signature", "model-quality"];

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let own = [&OF_THE_ACTIVE[..], &["gate-refused", "erasure-overdue"]].concat();
    if !round.wants_any(&own) {
        return Vec::new();
    }
    let models = match round.ask(store.models()).await {
        Ok(models) => models,
        Err(why) => return why.of_each(&own),
    };
    let active = models
        .iter()
        .find(|model| model.state == ModelState::Active);
    let mut found = Vec::new();
    if round.wants_any(&OF_THE_ACTIVE) {
        found.extend(of_the_active(round, store, active).await);
    }
    if round.wants("gate-refused") {
        let work = refused(store, &models, active);
        found.push(round.finding("gate-refused", work).await);
    }
    if round.wants("erasure-overdue") {
        let work = overdue(round, store, active);
        found.push(round.finding("erasure-overdue", work).await);
    }
    found
}

async fn of_the_active(
    round: &Round<'_>,
    store: &Store,
    active: Option<&ModelRecord>,
) -> Vec<Finding> {
    let Some(active) = active else {
        let skipped = OF_THE_ACTIVE.map(|check| {
            Finding::skipped(check, "no model is active", "twotower train --update-db")
        });
        return skipped.into();
    };
    let details = match round.ask(store.model_details(active.version)).await {
        Ok(details) => details,
        Err(why) => return why.of_each(&OF_THE_ACTIVE),
    };
    let config = &round.place.config;
    let folder = config.training.output_dir.join(active.version.to_string());
    let fetch = if config.storage.url.is_some() {
        format!("twotower fetch --version {}", active.version)
    } else {
        format!(
            "copy the folder {} from the machine that trained it",
            folder.display()
        )
    };
    let trusted = trusted(&config.storage.trusted_keys);
    let quality = judge_quality(&details, round.checks());
    let expected = (
        details.record.manifest_sha256.clone(),
        details.record.embedding_dim,
    );
    let files = {
        let (folder, fetch) = (folder.clone(), fetch.clone());
        round
            .blocking(move || files(&folder, &expected, &fetch))
            .await
    };
    let signature = round
        .blocking(move || signature(&folder, &trusted, &fetch))
        .await;
    let late = |check| move |_| Finding::skipped(check, "reading the files takes too long", "");
    vec![
        files.unwrap_or_else(late("model-files")),
        signature.unwrap_or_else(late("model-signature")),
        quality,
    ]
}

/// Public keys of the configuration, and those of the environment.
fn trusted(configured: &[String]) -> Vec<String> {
    let given = std::env::var("TWOTOWER_TRUSTED_KEYS").unwrap_or_default();
    let given: Vec<String> = given
        .split(',')
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .map(str::to_owned)
        .collect();
    if given.is_empty() {
        configured.to_vec()
    } else {
        given
    }
}

/// `expected`: the manifest's checksum and the dimension, as registered.
fn files(folder: &Path, expected: &(String, usize), fetch: &str) -> Finding {
    let check = "model-files";
    if !model_files::is_model(folder) {
        let evidence = format!(
            "{} holds no model: nothing can be updated, and no newer model judged",
            folder.display()
        );
        return Finding::failed(check, evidence, fetch);
    }
    match model_files::load(folder) {
        Err(error) => Finding::failed(
            check,
            error.to_string(),
            format!("move {} away; {fetch}", folder.display()),
        ),
        Ok((model, manifest)) => {
            let dim = model.hyperparameters.embedding_dim;
            if manifest.checksum != expected.0 || dim != expected.1 {
                let evidence = format!(
                    "{} is another model than the one that is active: its manifest has another checksum or dimension ({dim}) than the \
                     registry ({})",
                    folder.display(),
                    expected.1
                );
                return Finding::failed(
                    check,
                    evidence,
                    format!("move {} away; {fetch}", folder.display()),
                );
            }
            Finding::passed(
                check,
                format!("every hash in {} holds, {dim} dimensions", folder.display()),
            )
        }
    }
}

fn signature(folder: &Path, trusted: &[String], fetch: &str) -> Finding {
    let check = "model-signature";
    if trusted.is_empty() {
        let fix = "name the public key that signs in `trusted_keys` of section [storage] (`twotower keys generate`)";
        return Finding::skipped(
            check,
            "no key is trusted, so that anybody may have made the model",
            fix,
        );
    }
    let verified = trusted_keys(trusted).map_err(|error| error.to_string());
    match verified.map(|keys| verify_folder(folder, &keys)) {
        Err(error) => Finding::failed(check, error, "correct `trusted_keys` of section [storage]"),
        Ok(Ok((version, key))) => {
            let key = key.unwrap_or_default();
            Finding::passed(check, format!("version {version} is signed by key {key}"))
        }
        Ok(Err(StorageError::Unsigned { .. })) => {
            let evidence = format!(
                "{} has no signature: it was trained here, or copied by hand",
                folder.display()
            );
            Finding::warned(
                check,
                evidence,
                format!("twotower publish --model-path {}", folder.display()),
            )
        }
        Ok(Err(StorageError::Model(error))) => {
            Finding::skipped(check, error.to_string(), "see model-files")
        }
        Ok(Err(error)) => Finding::failed(
            check,
            error.to_string(),
            format!("move {} away; {fetch}", folder.display()),
        ),
    }
}

/// Uses what the gate measured on likes that the model had not seen; without a gate, what was noted
/// when the model was trained.
fn judge_quality(details: &ModelDetails, checks: &Checks) -> Finding {
    let check = "model-quality";
    let version = details.record.version;
    let verdict = details.verdict.clone();
    let verdict = verdict.and_then(|verdict| serde_json::from_value::<Verdict>(verdict).ok());
    let measured = |name: &str| {
        let judged = verdict
            .as_ref()
            .and_then(|verdict| verdict.checks.iter().find(|check| check.name == name));
        judged.map(|check| check.measured).or_else(|| {
            let metrics = &details.record.metrics;
            metrics
                .pointer(&format!("/validation/{name}"))
                .and_then(Value::as_f64)
        })
    };
    let train = "twotower evaluate; then `twotower tune` and `twotower run retrain`";
    let Some(auc) = measured("auc") else {
        let evidence =
            format!("nothing says how good version {version} is: the quality gate was not asked");
        return Finding::skipped(
            check,
            evidence,
            "twotower evaluate; `gate = true` of section [update]",
        );
    };
    let precision = measured("precision_at_10");
    let whose = if checks
        .precision_at_10
        .total_cmp(&Checks::default().precision_at_10)
        .is_eq()
    {
        ", by the deployment guide's rule of thumb"
    } else {
        ""
    };
    let words = precision.map_or(String::new(), |precision| {
        format!(
            ", Precision@10 {precision:.3} (should be above {}{whose})",
            checks.precision_at_10
        )
    });
    let evidence = format!(
        "version {version}: AUC {auc:.3} (should be above {}){words}",
        checks.auc
    );
    if auc <= checks.auc || auc.is_nan() {
        return Finding::failed(check, evidence, train);
    }
    match precision {
        Some(precision) if precision <= checks.precision_at_10 => {
            let fix = format!(
                "where users have few likes to be found (one each makes 0.1 the most) it cannot be so high: set `precision_at_10` of section \
                 [checks] to what a good model reaches on your data; else {train}"
            );
            Finding::warned(check, evidence, fix)
        }
        _ => Finding::passed(check, evidence),
    }
}

/// Whether the latest retraining was refused, or a newer candidate than the active version was.
async fn refused(
    store: &Store,
    models: &[ModelRecord],
    active: Option<&ModelRecord>,
) -> Result<Finding, StoreError> {
    let check = "gate-refused";
    let runs = store.runs(Some("retrain"), 10).await?;
    let last = runs
        .iter()
        .find(|run| !matches!(run.state, RunState::Running | RunState::Skipped));
    let served = active.map_or(0, |active| active.version);
    let candidate = models
        .iter()
        .find(|model| model.version > served && model.state == ModelState::Candidate);
    let mut reasons = None;
    if let Some(candidate) = candidate {
        let verdict = store.model_details(candidate.version).await?.verdict;
        reasons = match verdict.map(serde_json::from_value::<Verdict>) {
            Some(Ok(verdict)) if !verdict.passed() => {
                let words: Vec<_> = verdict
                    .refusals()
                    .map(|check| check.words.clone())
                    .collect();
                Some((candidate.version, words.join("; ")))
            }
            // The spelling that `models promote` takes.
            Some(Err(error)) => Some((
                candidate.version,
                format!("what the gate said cannot be read ({error})"),
            )),
            _ => None,
        };
    }
    let fix = |version| {
        format!(
            "twotower models show {version}; mend the data and `twotower run retrain`, or, if you know better, `twotower models promote \
             {version} --force`"
        )
    };
    Ok(
        match (reasons, last.filter(|run| run.state == RunState::Refused)) {
            (Some((version, words)), _) => Finding::failed(
                check,
                format!("version {version} was refused: {words}"),
                fix(version),
            ),
            // This version, or a newer one, has been activated since.
            (None, Some(run)) if run.model_version.is_none_or(|version| version > served) => {
                let version = run.model_version.unwrap_or(served);
                let message = run.message.clone().unwrap_or_default();
                Finding::failed(
                    check,
                    format!("the latest retraining ended in a refusal: {message}"),
                    fix(version),
                )
            }
            _ => Finding::passed(check, "no version newer than the active one was refused"),
        },
    )
}

/// The active version, and those of a running experiment.
async fn overdue(
    round: &Round<'_>,
    store: &Store,
    active: Option<&ModelRecord>,
) -> Result<Finding, StoreError> {
    let mut served: Vec<i64> = active.map(|active| active.version).into_iter().collect();
    let experiment = store.running_experiment().await?;
    served.extend(
        experiment
            .iter()
            .flat_map(|experiment| [experiment.control, experiment.challenger]),
    );
    let retire_by = retire_by(store, round.place.config.erase.retire_days).await?;
    let by = served
        .iter()
        .filter_map(|version| Some((*retire_by.get(version)?, *version)))
        .min();
    Ok(judge_overdue(by, round.now_us))
}

/// `by`: the earliest date by which a served version must be replaced, and which one.
fn judge_overdue(by: Option<(i64, i64)>, now_us: i64) -> Finding {
    let check = "erasure-overdue";
    let Some((by_us, version)) = by else {
        return Finding::passed(
            check,
            "nobody was erased whom a version that is served may have learned from",
        );
    };
    let left = by_us - now_us;
    let evidence = if left > 0 {
        format!(
            "version {version} may have learned from somebody who was erased, and is to be replaced within {}",
            span(left)
        )
    } else {
        format!(
            "version {version} may have learned from somebody who was erased, and should have been replaced {} ago",
            span(-left)
        )
    };
    let fix = "twotower run retrain";
    match left {
        ..=0 => Finding::failed(check, evidence, fix),
        // So close that another failed retraining would be too late.
        1..SOON_US => Finding::warned(check, evidence, fix),
        _ => Finding::passed(check, evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict as Said;
    use serde_json::json;

    fn details(verdict: Option<Value>, metrics: Value) -> ModelDetails {
        ModelDetails {
            record: ModelRecord {
                version: 4,
                state: ModelState::Active,
                embedding_dim: 8,
                created_at_us: 0,
                activated_at_us: None,
                cut_off_us: None,
                metrics,
                pruned_at_us: None,
                erasures_seen: None,
                manifest_sha256: String::new(),
            },
            retired_at_us: None,
            snapshot_sha256: String::new(),
            hyperparameters: Value::Null,
            reason: None,
            verdict,
            activations: Vec::new(),
        }
    }

    #[test]
    fn the_gates_figures_count_and_those_of_training_stand_in() {
        let gate = |auc: f64, precision: f64| {
            let check = |name, measured| json!({"name": name, "passed": true, "measured": measured, "bound": 0.0, "words": ""});
            json!({"checks": [check("auc", auc), check("precision_at_10", precision)]})
        };
        let verdict = |verdict, metrics| {
            judge_quality(&details(verdict, metrics), &Checks::default()).verdict
        };
        assert_eq!(verdict(Some(gate(0.8, 0.2)), json!({})), Said::Passed);
        assert_eq!(verdict(Some(gate(0.65, 0.2)), json!({})), Said::Failed);
        assert_eq!(verdict(Some(gate(0.8, 0.15)), json!({})), Said::Warned);
        let low = judge_quality(
            &details(Some(gate(0.8, 0.027)), json!({})),
            &Checks::default(),
        );
        assert_eq!(
            low.evidence,
            "version 4: AUC 0.800 (should be above 0.65), Precision@10 0.027 (should be above 0.15, by the deployment guide's rule of thumb)"
        );
        assert!(
            low.fix
                .contains("set `precision_at_10` of section [checks]"),
            "{}",
            low.fix
        );
        let own = Checks {
            precision_at_10: 0.02,
            ..Checks::default()
        };
        let own = judge_quality(&details(Some(gate(0.8, 0.027)), json!({})), &own);
        assert_eq!(own.verdict, Said::Passed);
        assert!(
            own.evidence.ends_with("(should be above 0.02)"),
            "{}",
            own.evidence
        );
        assert_eq!(
            verdict(None, json!({"validation": {"auc": 0.7}})),
            Said::Passed
        );
        assert_eq!(verdict(None, json!({})), Said::Skipped);
    }

    #[test]
    fn an_erasure_has_its_day() {
        let verdict = |left_days: i64| judge_overdue(Some((left_days * DAY_US, 4)), 0).verdict;
        assert_eq!(judge_overdue(None, 0).verdict, Said::Passed);
        assert_eq!(verdict(10), Said::Passed);
        assert_eq!(verdict(2), Said::Warned);
        assert_eq!(verdict(0), Said::Failed);
        assert_eq!(verdict(-1), Said::Failed);
    }
}
