//! `twotower erase`.

use super::args::GlobalArgs;
use super::commands::connect_patiently;
use super::output::print;
use crate::config::Config;
use crate::import::id;
use crate::jobs::{self, Before, EraseOptions, EraseReport, JobError, Retry, SearchReport};
use crate::serve::rfc3339;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};
use thiserror::Error;
use uuid::Uuid;

/// Arguments of `twotower erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    /// Id of the user to erase: a UUID, or a whole number or text as `twotower import` reads it
    #[arg(long, value_name = "ID", value_parser = user)]
    pub user: ErasedId,

    /// Then look for the id in every table of the database and in every file of the models' folder, and fail if it is there
    #[arg(long)]
    pub verify: bool,

    /// With --verify: search this file or folder too, such as the logs; repeatable
    #[arg(long, value_name = "PATH", requires = "verify")]
    pub also: Vec<PathBuf>,

    /// With --verify: folder of models [default: models]
    #[arg(long, value_name = "FOLDER", requires = "verify")]
    pub model_path: Option<PathBuf>,
}

/// Who is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedId {
    /// As the database knows them.
    user: Uuid,
    /// Whether the id was given as another one, which became this.
    mapped: bool,
}

/// Why a text is no id.
#[derive(Debug, Error)]
#[error("expected {}", id::EXPECTED)]
struct IdError;

/// As import reads ids, so that the one is erased who was imported.
fn user(text: &str) -> Result<ErasedId, IdError> {
    let user = id::from_text(text).ok_or(IdError)?;
    let mapped = Uuid::try_parse(text.trim()) != Ok(user);
    Ok(ErasedId { user, mapped })
}

impl EraseArgs {
    fn options(&self, config: &Config, global: &GlobalArgs) -> anyhow::Result<EraseOptions> {
        let mut options = EraseOptions::new(self.user.user, &config.erase, &config.source)?;
        options.attempts = config.update.attempts;
        if self.verify {
            let models = &config.training.output_dir;
            let models = self.model_path.as_ref().unwrap_or(models);
            let mut paths = files_of_database(&global.db_url);
            // Where nothing was trained, there is no folder; one that was named must be there.
            if self.model_path.is_some() || models.exists() {
                paths.push(models.clone());
            }
            paths.extend(self.also.iter().cloned());
            options.search = Some(paths);
        }
        Ok(options)
    }
}

/// The embedded database and its log: rows are one thing, and bytes in them another.
fn files_of_database(url: &str) -> Vec<PathBuf> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Vec::new();
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.split('?').next().unwrap_or_default();
    ["", "-wal"]
        .into_iter()
        .map(|end| PathBuf::from(format!("{path}{end}")))
        .filter(|path| path.is_file())
        .collect()
}

/// Erases, and looks for what is left if that is asked for.
pub(super) async fn run(
    args: &EraseArgs,
    config: &Config,
    global: &GlobalArgs,
) -> anyhow::Result<()> {
    // Before anything is deleted.
    let options = args.options(config, global)?;
    let store = connect_patiently(global, config, &Retry::new(options.attempts), true).await?;
    let report = jobs::erase(&store, &options).await?;
    say(&report, args.user, global)?;
    match report.search.as_ref().map_or(0, SearchReport::places) {
        0 => Ok(()),
        places => Err(JobError::Found { places }.into()),
    }
}

/// Of another id than a UUID, which UUID it became is told: nobody else says whether it was spelt as it was imported.
fn say(report: &EraseReport, id: ErasedId, global: &GlobalArgs) -> anyhow::Result<()> {
    let mut value = json!(report);
    let mut text = describe(report);
    if id.mapped {
        value["user"] = json!(id.user);
        text = format!("the id stands for user {}\n{text}", id.user);
        if report.search.is_some() {
            text.push_str(
                "\nsearched for the UUID alone: the id as it was given is not looked for",
            );
        }
        if report.erased.first_time && nothing_deleted(report) {
            tracing::warn!(
                "there was nothing of this user: look whether the id is spelt as it was when it was imported"
            );
        }
    }
    print(global.json, &value, &text)
}

fn nothing_deleted(report: &EraseReport) -> bool {
    let erased = &report.erased;
    let rows = [erased.likes, erased.skips, erased.user_vectors];
    rows.iter().chain(&erased.statements).all(|&rows| rows == 0)
}

fn describe(report: &EraseReport) -> String {
    let erased = &report.erased;
    let when = day(erased.erased_at_us);
    let begin = if erased.first_time {
        "erased".to_owned()
    } else {
        format!("erased already on {when}, and now")
    };
    let mut lines = vec![format!(
        "{begin}: {} likes, {} skips and {} vectors deleted",
        erased.likes, erased.skips, erased.user_vectors
    )];
    let statements = erased.statements.iter().zip(1..);
    lines.extend(statements.map(|(rows, n)| format!("statement {n} of [erase]: {rows} rows")));
    lines.extend(report.models.iter().map(before));
    if let Some(search) = &report.search {
        lines.extend(searched(search));
    }
    lines.join("\n")
}

fn before(model: &Before) -> String {
    let Before {
        version,
        state,
        retire_by_us,
    } = *model;
    format!(
        "version {version} ({state}) was trained before: to be replaced by {}",
        day(retire_by_us)
    )
}

fn searched(search: &SearchReport) -> Vec<String> {
    let (rows, files) = (&search.rows, &search.files);
    let mut lines = vec![format!("searched {} columns:", rows.searched.len())];
    lines.extend(rows.searched.iter().map(|column| format!("  {column}")));
    let paths = files.paths.iter().map(|path| path.display().to_string());
    lines.push(format!(
        "searched {} files ({} bytes) in: {}",
        files.files,
        files.bytes,
        paths.collect::<Vec<_>>().join(", ")
    ));
    let left_out = rows.not_searched.iter().cloned();
    let left_out = left_out.chain(
        files
            .not_searched
            .iter()
            .map(|(path, reason)| (path.display().to_string(), reason.clone())),
    );
    lines.extend(left_out.map(|(what, reason)| format!("NOT searched: {what}: {reason}")));
    for (column, rows) in &rows.found {
        lines.push(format!("FOUND in {rows} rows: {column}"));
    }
    for file in &files.found {
        let forms: Vec<_> = file.forms.iter().copied().collect();
        lines.push(format!(
            "FOUND as {}: {}",
            forms.join(" and "),
            file.path.display()
        ));
    }
    if search.places() == 0 {
        lines.push("found nowhere".into());
    }
    lines
}

/// `2026-11-24`, UTC.
fn day(at_us: i64) -> String {
    let at = UNIX_EPOCH + Duration::from_micros(at_us.max(0) as u64);
    rfc3339(at).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_import_reads_them() {
        let uuid = "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3e";
        for spelling in [uuid, &uuid.to_uppercase(), &uuid.replace('-', "")] {
            let read = user(spelling).unwrap();
            assert_eq!((read.user.to_string().as_str(), read.mapped), (uuid, false));
        }
        for other in ["76", "member-76", " member-76"] {
            let read = user(other).unwrap();
            assert_eq!((Some(read.user), read.mapped), (id::from_text(other), true));
        }
        assert!(user(" ").is_err());
    }
}
