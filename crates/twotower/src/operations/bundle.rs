//! What support needs to know of an installation, in one archive.
//!
//! Every part is an allow list: numbers, states, times, and names of our own. Text that people
//! wrote (titles, reasons, names, addresses, SQL), possible secrets and the ids of users stay out.

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
use serde::Serialize;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::time::Duration;
use tar::{Builder, Header};
use twotower_store::inspection::ServerFacts;
use twotower_store::{
    ActivationRecord, ConnectOptions, ModelRecord, RunRecord, Store, StoreError, create_private,
};

/// Time limit of one database query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// At most this many runs are included.
const RUNS: u32 = 200;

const README: &str = "Made by `twotower doctor --bundle`.

findings.json      what each check found, and what to do
system.json        versions, processors, memory, disk
database.json      server, tables, statistics, what there is to learn from
models.json        registered versions, what the gate said, activations
runs.json          what ran when, and how it ended
settings.json      the configuration: numbers, switches, and which addresses are set
environment.json   which variables this command had, not those of the server alone; no values
metrics.txt        figures of `twotower serve`
log-N.txt          the last errors and warnings of log files, words other than plain ones blotted out

Left out: passwords, keys and tokens, addresses, ids of users and of videos, titles, names of people, SQL of yours.
Look through it all the same before you send it.
";

/// Writes a new archive at `file` that only its owner may read.
///
/// # Errors
/// If the file exists already, or cannot be written. A database or server that does not answer is
/// no error: the part says so.
pub async fn write(place: &Place, found: &[Finding], file: &Path) -> anyhow::Result<()> {
    let store = open(place).await;
    let runs = match &store {
        Ok(store) => store.runs(None, RUNS).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let hosts = runs.iter().map(|run| run.host.clone());
    let scrubber = Scrubber::new(place, hosts);
    let mut parts = vec![
        ("README.txt".to_owned(), README.to_owned()),
        (
            "findings.json".into(),
            pretty(&findings(found, &runs, &scrubber))?,
        ),
        ("system.json".into(), pretty(&system::describe(place))?),
        (
            "settings.json".into(),
            pretty(&settings::describe(&place.config)?)?,
        ),
        ("environment.json".into(), pretty(&settings::environment())?),
    ];
    match store {
        Ok(store) => {
            let told = DatabaseParts {
                scrubber: &scrubber,
            };
            parts.push((
                "database.json".into(),
                pretty(&told.database(place, &store).await)?,
            ));
            parts.push((
                "models.json".into(),
                pretty(&told.or_error(models(&store).await))?,
            ));
            let runs = runs.iter().map(|run| run_of(run, &scrubber)).collect();
            parts.push(("runs.json".into(), pretty(&Value::Array(runs))?));
            store.close().await;
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

/// Evidence may quote the last output of a run, which we do not control.
fn findings(found: &[Finding], runs: &[RunRecord], scrubber: &Scrubber) -> Value {
    let said = |evidence: &str| {
        let mut evidence = evidence.to_owned();
        for message in runs.iter().filter_map(|run| run.message.as_ref()) {
            if !message.is_empty() && evidence.contains(message) {
                evidence = evidence.replace(message, &scrubber.words(message));
            }
        }
        scrubber.text(&evidence)
    };
    let told = found.iter().map(|finding| {
        json!({
            "check": finding.check,
            "subject": finding.subject.as_ref().map(|subject| scrubber.text(subject)),
            "verdict": finding.verdict,
            "evidence": said(&finding.evidence),
            "fix": scrubber.text(&finding.fix),
        })
    });
    told.collect()
}

async fn open(place: &Place) -> anyhow::Result<Store> {
    let options = ConnectOptions {
        max_connections: 1,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: QUERY_TIMEOUT,
    };
    Ok(Store::connect_existing(&place.db_url, options).await?)
}

/// What the database returned, or why it did not.
struct DatabaseParts<'a> {
    scrubber: &'a Scrubber,
}

impl DatabaseParts<'_> {
    fn or_error(&self, value: Result<impl Serialize, StoreError>) -> Value {
        match value {
            Ok(value) => json!(value),
            Err(error) => json!({ "error": self.scrubber.text(&error.to_string()) }),
        }
    }

    async fn database(&self, place: &Place, store: &Store) -> Value {
        let server = store.server_facts().await;
        let server = server.map(|facts| facts.as_ref().map(server_of));
        let data = store.data_facts(&place.config.source).await;
        json!({
            "engine": format!("{:?}", store.kind()),
            "server": self.or_error(server),
            "data": self.or_error(data),
            "active": self.or_error(store.generation().await),
            "tables": self.or_error(store.table_statistics().await),
            "pending_migrations": self.or_error(store.pending_migrations().await),
        })
    }
}

/// Facts about the server, without its host.
fn server_of(facts: &ServerFacts) -> Value {
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
}

async fn models(store: &Store) -> Result<Value, StoreError> {
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

/// An activation, without a person's name and the reason, which people wrote.
fn activation(activation: &ActivationRecord) -> Value {
    json!({
        "version": activation.version,
        "at_us": activation.at_us,
        "kind": activation.kind,
        "previous_version": activation.previous_version,
        "forced": activation.forced,
    })
}

/// A run, without the machine's name.
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

/// The numbers and switches of a document; of its texts only the names of checks.
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
