//! What support needs to know of an installation, in one file.
//!
//! Each part is a list of what may stand in it, never of what may not: numbers, states, times, names of our own. What people wrote (titles,
//! reasons, names, addresses, SQL) and what could be a secret stays out, and so does every id of a user.

mod log;

mod scrub;

mod settings;

mod system;

use super::Place;
use super::check::Finding;
use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use scrub::Scrubber;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;
use tar::{Builder, Header};
use twotower_store::{ActivationRecord, ConnectOptions, ModelRecord, RunRecord, Store};

/// For one question to the database.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs that are told of.
const RUNS: u32 = 200;

const README: &str = "Made by `twotower doctor --bundle`.

findings.json      what each check found, and what to do
system.json        versions, processors, memory, disk
database.json      server, tables, statistics, what there is to learn from
models.json        registered versions, what the gate said, activations
runs.json          what ran when, and how it ended
settings.json      the configuration: numbers, switches, and which addresses are set
environment.json   which variables are set; no values
metrics.txt        figures of `twotower serve`
log-N.txt          the last errors and warnings of log files, words other than plain ones blotted out

Left out: passwords, keys and tokens, addresses, ids of users and of videos, titles, names of people, SQL of yours.
Look through it all the same before you send it.
";

/// Writes a new archive at `file`, for its owner alone to read.
///
/// # Errors
/// If the file is there already, or cannot be written. What the database or the server does not tell is no error: the part says so.
pub async fn write(place: &Place, found: &[Finding], file: &Path) -> anyhow::Result<()> {
    let scrubber = Scrubber::new(place);
    let mut parts = vec![
        ("README.txt".to_owned(), README.to_owned()),
        ("findings.json".into(), pretty(&findings(found, &scrubber))?),
        ("system.json".into(), pretty(&system::describe(place))?),
        (
            "settings.json".into(),
            pretty(&settings::describe(&place.config)?)?,
        ),
        ("environment.json".into(), pretty(&settings::environment())?),
    ];
    match database(place, &scrubber).await {
        Ok(more) => {
            for (name, value) in more {
                parts.push((name.into(), pretty(&value)?));
            }
        }
        Err(error) => {
            let why = scrubber.text(&format!("{error:#}"));
            parts.push(("database.json".into(), pretty(&json!({ "error": why }))?));
        }
    }
    if let Some(text) = system::metrics(place).await {
        parts.push(("metrics.txt".into(), text));
    }
    for (n, text) in log::last_errors(place, &scrubber).into_iter().enumerate() {
        parts.push((format!("log-{}.txt", n + 1), text));
    }
    let written = create_private(file)
        .map_err(anyhow::Error::from)
        .and_then(|file| pack(file, &parts));
    written.with_context(|| format!("write {}", file.display()))
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

fn findings(found: &[Finding], scrubber: &Scrubber) -> Value {
    let told = found.iter().map(|finding| {
        json!({
            "check": finding.check,
            "subject": finding.subject.as_ref().map(|subject| scrubber.text(subject)),
            "verdict": finding.verdict,
            "evidence": scrubber.text(&finding.evidence),
            "fix": scrubber.text(&finding.fix),
        })
    });
    told.collect()
}

/// What the database tells, by file.
async fn database(
    place: &Place,
    scrubber: &Scrubber,
) -> anyhow::Result<Vec<(&'static str, Value)>> {
    let missing = place
        .db_url
        .strip_prefix("sqlite://")
        .map(|file| file.split('?').next().unwrap_or_default());
    anyhow::ensure!(
        missing.is_none_or(|file| Path::new(file).exists()),
        "there is no database yet"
    );
    let options = ConnectOptions {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: PATIENCE,
    };
    let store = Store::connect(&place.db_url, options).await?;
    let server = store.server_facts().await.map(|facts| {
        facts.map(|facts| {
            json!({
                "version": facts.version,
                "pgvector": facts.vector,
                "pgvector_available": facts.vector_available,
                "connections": facts.connections,
                "max_connections": facts.max_connections,
                "on_this_machine": facts.transport.local,
                "encrypted": facts.transport.encrypted,
                "verified": facts.transport.verified,
            })
        })
    });
    let told = |value: Result<Value, twotower_store::StoreError>| {
        value.unwrap_or_else(|error| json!({ "error": scrubber.text(&error.to_string()) }))
    };
    let database = json!({
        "engine": format!("{:?}", store.kind()),
        "server": told(server.map(|server| json!(server))),
        "data": told(store.data_facts(&place.config.source).await.map(|facts| json!(facts))),
        "active": told(store.generation().await.map(|generation| json!(generation))),
        "tables": told(store.table_statistics().await.map(|tables| json!(tables))),
        "pending_migrations": told(store.pending_migrations().await.map(|pending| json!(pending))),
    });
    let models = told(models(&store).await);
    let runs = store.runs(None, RUNS).await;
    let runs = told(runs.map(|runs| runs.iter().map(|run| run_of(run, scrubber)).collect()));
    store.close().await;
    Ok(vec![
        ("database.json", database),
        ("models.json", models),
        ("runs.json", runs),
    ])
}

async fn models(store: &Store) -> Result<Value, twotower_store::StoreError> {
    let models = store.models().await?;
    let mut versions = Vec::new();
    for model in &models {
        let verdict = store.model_details(model.version).await?.verdict;
        versions.push(version(model, verdict.as_ref()));
    }
    let activations = store.activations().await?;
    Ok(json!({
        "versions": versions,
        "activations": activations.iter().map(activation).collect::<Vec<_>>(),
    }))
}

fn version(model: &ModelRecord, verdict: Option<&Value>) -> Value {
    json!({
        "version": model.version,
        "state": model.state,
        "embedding_dim": model.embedding_dim,
        "created_at_us": model.created_at_us,
        "activated_at_us": model.activated_at_us,
        "cut_off_us": model.cut_off_us,
        "pruned_at_us": model.pruned_at_us,
        "metrics": numbers(&model.metrics),
        "verdict": verdict.map(numbers),
    })
}

/// Without who and why: a name, and what people wrote.
fn activation(activation: &ActivationRecord) -> Value {
    json!({
        "version": activation.version,
        "at_us": activation.at_us,
        "kind": activation.kind,
        "previous_version": activation.previous_version,
        "forced": activation.forced,
    })
}

/// Without the machine's name.
fn run_of(run: &RunRecord, scrubber: &Scrubber) -> Value {
    json!({
        "id": run.id,
        "job": run.job,
        "state": run.state,
        "due_at_us": run.due_at_us,
        "started_at_us": run.started_at_us,
        "finished_at_us": run.finished_at_us,
        "attempts": run.attempts,
        "exit_code": run.exit_code,
        "model_version": run.model_version,
        "message": run.message.as_ref().map(|message| scrubber.words(message)),
    })
}

/// Numbers and switches of a document; of text, the names of checks alone.
fn numbers(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) | Value::Null => value.clone(),
        Value::String(_) => Value::Null,
        Value::Array(values) => values.iter().map(numbers).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().map(|(name, value)| match value {
                Value::String(text) if name == "name" && scrub::is_key(text) => {
                    (name.clone(), value.clone())
                }
                _ => (name.clone(), numbers(value)),
            });
            Value::Object(kept.collect())
        }
    }
}

fn create_private(file: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}

fn pack(file: File, parts: &[(String, String)]) -> anyhow::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in parts {
        let mut header = Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(
            &mut header,
            Path::new("twotower").join(name),
            text.as_bytes(),
        )?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}
