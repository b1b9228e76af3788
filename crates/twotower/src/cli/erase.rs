//! `twotower erase`.

use super::args::{Cli, GlobalArgs};
use super::commands::connect_patiently;
use super::output::print;
use crate::config::Config;
use crate::import::id;
use crate::interrupt::Interrupt;
use crate::jobs::{self, Before, EraseOptions, EraseReport, JobError, Retry, SearchReport};
use crate::time::day;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use serde_json::json;
use std::path::PathBuf;
use thiserror::Error;
use twotower_store::database_file;
use uuid::Uuid;

/// Arguments of `twotower erase`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EraseArgs {
    /// Id of the user to erase: a UUID, or a whole number or text as `twotower import` reads it
    #[arg(long, value_name = "ID", value_parser = user)]
    pub(crate) user: ErasedId,

    /// Take the id as text, although it looks like a mistyped UUID
    #[arg(long)]
    pub(crate) as_text: bool,

    /// Then search every table of the database and every file of the models' folder for the id, and fail if it is found
    #[arg(long)]
    pub(crate) verify: bool,

    /// With --verify: also search this file or folder, such as the logs; repeatable
    #[arg(long, value_name = "PATH", requires = "verify")]
    pub(crate) also: Vec<PathBuf>,

    /// With --verify: folder of models [default: models]
    #[arg(long, value_name = "FOLDER", requires = "verify")]
    pub(crate) model_path: Option<PathBuf>,
}

/// The user to erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErasedId {
    /// Id in the database.
    user: Uuid,
    /// Whether another id was given, which import maps to `user`.
    mapped: bool,
    /// Whether that other id is most likely a UUID with a mistake in it.
    resembles_uuid: bool,
}

/// The text is not an id.
#[derive(Debug, Error)]
#[error("expected {}", id::EXPECTED)]
struct IdError;

/// Reads an id as import does, so that the user who was imported under it is erased.
fn user(text: &str) -> Result<ErasedId, IdError> {
    let user = id::from_text(text).ok_or(IdError)?;
    let mapped = Uuid::try_parse(text.trim()) != Ok(user);
    Ok(ErasedId {
        user,
        mapped,
        resembles_uuid: mapped && resembles_uuid(text.trim()),
    })
}

/// Whether a text that is not a UUID resembles one: by the lengths of its groups, or because it
/// consists of some 32 hexadecimal digits and hardly anything else.
fn resembles_uuid(text: &str) -> bool {
    let groups = text.split('-').map(str::len);
    if groups.eq([8, 4, 4, 4, 12]) {
        return true;
    }
    let hyphens = text.matches('-').count();
    let characters = text.chars().count() - hyphens;
    let digits = text.chars().filter(char::is_ascii_hexdigit).count();
    matches!(hyphens, 0 | 3..=5) && matches!(characters, 31..=33) && characters - digits <= 2
}

impl EraseArgs {
    fn options(&self, config: &Config, global: &GlobalArgs) -> anyhow::Result<EraseOptions> {
        let mut options = EraseOptions::new(self.user.user, &config.erase, &config.source)?;
        options.attempts = config.update.attempts;
        if self.verify {
            let models = config.training.models(self.model_path.as_ref());
            options.database = files_of_database(&global.db_url);
            let mut paths = Vec::new();
            // The default folder does not exist before the first training. A folder that was named
            // must exist.
            if self.model_path.is_some() || models.exists() {
                paths.push(models);
            }
            paths.extend(self.also.iter().cloned());
            options.search = Some(paths);
        }
        Ok(options)
    }
}

/// Files of the embedded database: the search of rows does not cover the bytes of the file and its
/// log.
fn files_of_database(url: &str) -> Vec<PathBuf> {
    let Some(mut path) = database_file(url) else {
        return Vec::new();
    };
    // The search does not follow links, and the log stands beside the real file.
    if path.is_symlink() {
        path = path.canonicalize().unwrap_or(path);
    }
    let mut log = path.clone().into_os_string();
    log.push("-wal");
    [path, log.into()]
        .into_iter()
        .filter(|path| path.is_file())
        .collect()
}

/// Erases, then searches for what is left if the flags say so.
pub(super) async fn run(
    args: &EraseArgs,
    config: &Config,
    global: &GlobalArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    if args.user.resembles_uuid && !args.as_text {
        let message = "the id of --user looks like a UUID with a mistake in it, and as a text it stands for somebody else: nobody was erased. \
                       Look whether all of it is there, or say --as-text if ids of your users are texts like that";
        let error = Cli::command().error(ErrorKind::ValueValidation, message);
        error.exit();
    }
    // Checked before anything is deleted.
    let options = args.options(config, global)?;
    let store = connect_patiently(global, config, &Retry::new(options.attempts), true).await?;
    let report = jobs::erase(&store, &options, interrupt).await?;
    say(&report, args.user, global)?;
    match &report.search {
        Some(search) if search.places() > 0 => Err(JobError::Found {
            places: search.places(),
            is_video: search.rows.is_video,
        }
        .into()),
        _ => Ok(()),
    }
}

/// Prints the report. If the id was not a UUID, prints the UUID that it became: only that shows
/// whether it was spelt as at the import.
fn say(report: &EraseReport, id: ErasedId, global: &GlobalArgs) -> anyhow::Result<()> {
    let mut value = json!(report);
    let mut text = describe(report);
    if id.mapped {
        value["user"] = json!(id.user);
        text = format!("the id stands for user {}\n{text}", id.user);
        if report.search.is_some() {
            text.push_str(
                "\nsearched for the UUID alone: the id as it was given is not looked for, but in columns `user_id` of Parquet files; columns of numbers are not \
                 searched",
            );
        }
    }
    if nobody(report) {
        let look = if id.mapped {
            "is spelt as it was when it was imported"
        } else {
            "is the right one"
        };
        tracing::warn!(
            "there was no like, skip or vector of this user, so that perhaps nobody was erased: look whether the id {look}"
        );
    }
    print(global.json, &value, &text)
}

/// Whether the user had no row that is counted, and no tombstone.
fn nobody(report: &EraseReport) -> bool {
    let erased = &report.erased;
    let rows = [erased.likes, erased.skips, erased.user_vectors];
    erased.first_time && rows.iter().chain(&erased.statements).all(|&rows| rows == 0)
}

fn describe(report: &EraseReport) -> String {
    let erased = &report.erased;
    let when = day(erased.erased_at_us);
    let begin = if erased.first_time {
        "erased".to_owned()
    } else {
        format!("erased already on {when}, and now")
    };
    let deleted = if nobody(report) {
        "there was no like, skip or vector of this user".to_owned()
    } else {
        format!(
            "{} likes, {} skips and {} vectors deleted",
            erased.likes, erased.skips, erased.user_vectors
        )
    };
    let mut lines = vec![format!("{begin}: {deleted}")];
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
    let left_out: Vec<String> = left_out
        .map(|(what, reason)| format!("NOT searched: {what}: {reason}"))
        .collect();
    let unsearched = left_out.len();
    lines.extend(left_out);
    if rows.is_video {
        lines.push(passed_over(search));
    }
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
        lines.push(match unsearched {
            0 => "found nowhere".into(),
            _ => format!("found nowhere that was searched; {unsearched} named above could not be"),
        });
    }
    lines
}

/// The places that contain the id as that of a video.
fn passed_over(search: &SearchReport) -> String {
    let (rows, files) = (&search.rows, &search.files);
    let columns = rows.passed_over.iter();
    let columns = columns.map(|(column, rows)| format!("{column} ({rows} rows)"));
    let files = files.passed_over.iter();
    let files = files.map(|path| path.display().to_string());
    let places: Vec<String> = columns.chain(files).collect();
    let same = "a video has the same id";
    if places.is_empty() {
        return same.into();
    }
    let places = places.join(", ");
    format!("{same}, and what holds ids of videos was passed over: {places}")
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

    #[test]
    fn only_places_that_there_are_were_passed_over() {
        let mut search = SearchReport::default();
        assert_eq!(passed_over(&search), "a video has the same id");
        search.rows.passed_over.push(("videos.id".into(), 1));
        search.files.passed_over.push("twotower.db".into());
        let said = passed_over(&search);
        let places = "was passed over: videos.id (1 rows), twotower.db";
        assert!(said.ends_with(places), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn files_of_a_database_are_those_that_a_link_leads_to() {
        // Addresses spell the blank as %20.
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap().join("my app");
        std::fs::create_dir(&folder).unwrap();
        let files = ["real.db", "real.db-wal"].map(|name| folder.join(name));
        for file in &files {
            std::fs::write(file, "").unwrap();
        }
        let link = folder.join("link.db");
        std::os::unix::fs::symlink("real.db", &link).unwrap();
        for path in [&link, &files[0]] {
            let path = path.display().to_string().replace(' ', "%20");
            let url = format!("sqlite://{path}?mode=rw");
            assert_eq!(files_of_database(&url), files);
        }
    }

    #[test]
    fn a_uuid_with_a_mistake_in_it_is_known() {
        let resembles = |text: &str| user(text).unwrap().resembles_uuid;
        for mistyped in [
            "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3g",
            "6f2cOe2e-9dOb-4c6e-8fOe-0d6a4b1c2d3e",
            "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3",
            " 6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3ee",
            "6f2c0e2e-9d0b-4c6e-8f0e0d6a4b1c2d3e",
            "6f2c0e2e-9d0b-4c6e-8f0e--0d6a4b1c2d3e",
            "6f2c0e2e_9d0b-4c6e-8f0e-0d6a4b1c2d3e",
            "6f2c0e2e9d0b4c6e8f0e0d6a4b1c2d3l",
            "6f2c0e2e9d0b4c6e8f0e0d6a4b1c2d3",
            "6f2c0e2e9d0b4c6e8f0e0d6a4b1c2d3e4",
            "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx",
        ] {
            assert!(resembles(mistyped), "{mistyped}");
        }
        for other in [
            "6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3e",
            "6F2C0E2E9D0B4C6E8F0E0D6A4B1C2D3E",
            "76",
            "12345678901234567890",
            "member-76",
            "ann@example.com",
            // Ids of Firebase, Auth0 and Clerk; a SHA-1 sum.
            "Wq3kT9bX1cY7vR2mZ8nL5pJ4hG6f",
            "auth0|6f2c0e2e9d0b4c6e8f0e0d6a",
            "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        ] {
            assert!(!resembles(other), "{other}");
        }
    }
}
