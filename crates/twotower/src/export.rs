//! Exports the database to files, which [`crate::import`] and `twotower prepare` read.
//!
//! The export is one consistent snapshot; likes and skips are streamed, not held in memory. The
//! folder gets its name once everything is on disk.

mod file;

mod table;

pub(crate) use file::WrittenFile;
pub(crate) use file::{PSEUDONYMS, USERS_KEY};

use crate::interrupt::Interrupt;
use crate::jobs::JobError;
use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;
use table::{InteractionRows, Table, Tables, VideoRows};
use twotower_core::feature::Video;
use twotower_store::model_files::{ModelFilesError, Unfinished};
use twotower_store::{InteractionKind, InteractionRow, SnapshotOptions, Source, SourceSink, Store};

/// Version of the folder's layout.
const FORMAT: u32 = 1;

/// Lists what the folder holds; written last.
const MANIFEST: &str = "export.json";

/// Number of rows between two reports of progress.
const PROGRESS_ROWS: u64 = 10_000;

/// What to export, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportOptions {
    /// A folder that does not exist yet, or is empty and can be replaced.
    pub(crate) to: PathBuf,
    /// Leaves out likes and skips more than this many days older than the latest one.
    pub(crate) max_age_days: Option<u32>,
    /// Whether users keep their own ids instead of pseudonyms.
    pub(crate) user_ids: bool,
    /// At most this many rows per file.
    pub(crate) rows_per_file: u64,
}

/// The files of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ExportedTable {
    /// Number of rows of all files.
    pub(crate) rows: u64,
    /// In order.
    pub(crate) files: Vec<WrittenFile>,
}

/// What was exported; `export.json` holds the same except for place and time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ExportReport {
    /// Version of the layout.
    pub(crate) format: u32,
    /// The folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<PathBuf>,
    /// Whether numbers replace the ids of users.
    pub(crate) pseudonyms: bool,
    /// The catalogue, ascending by id.
    pub(crate) videos: ExportedTable,
    /// Likes, in no order.
    pub(crate) likes: ExportedTable,
    /// Skips, in no order.
    pub(crate) skips: ExportedTable,
    /// Number of likes and skips that name a video outside the catalogue; they are left out.
    pub(crate) orphans: u64,
    /// Time of the latest like or skip, microseconds since 1970.
    pub(crate) latest_at_us: Option<i64>,
    /// Number of the last erasure that the database had seen: the export holds nothing of users
    /// erased up to it.
    pub(crate) erasures_seen: i64,
    /// Wall time, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
}

/// Called now and then with the number of rows written so far, and their kind.
pub(crate) type Progress<'a> = &'a (dyn Fn(u64, &str) + Send + Sync);

/// Writes the source into a new folder: `videos/`, `likes/` and `skips/` with Parquet files, and `export.json`.
///
/// # Errors
/// If the folder holds something, the database or the file system fails, or on an interrupt; then
/// nothing is left under the folder's name.
pub(crate) async fn export(
    store: &Store,
    source: &Source,
    options: &ExportOptions,
    interrupt: &Interrupt,
    progress: Progress<'_>,
) -> anyhow::Result<ExportReport> {
    let started = Instant::now();
    let to = &options.to;
    if to.display().to_string().contains("://") {
        bail!(
            "{} is no folder: export into one, and have it copied from there",
            to.display()
        );
    }
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    let name = to.file_name();
    let name = name.with_context(|| format!("{} is no name of a folder", to.display()))?;
    let target = parent.join(name);
    make_way(&target)?;
    let folder = Unfinished::create(parent, 0).context("begin the export")?;
    let mut sink = Sink::create(folder.path(), options, progress)?;
    let read = SnapshotOptions {
        max_age_days: options.max_age_days,
        pseudonyms: !options.user_ids,
    };
    let work = store.stream_source(source, read, &mut sink);
    let read = tokio::select! {
        read = work => read.context("read the database")?,
        () = interrupt.wait() => return Err(JobError::Interrupted.into()),
    };
    let [videos, likes, skips] = sink.finish()?;
    let mut report = ExportReport {
        format: FORMAT,
        folder: None,
        pseudonyms: !options.user_ids,
        videos,
        likes,
        skips,
        orphans: read.orphans,
        latest_at_us: read.latest_at_us,
        erasures_seen: read.erasures_seen,
        seconds: None,
    };
    let mut manifest = serde_json::to_vec_pretty(&report)?;
    manifest.push(b'\n');
    let path = folder.path().join(MANIFEST);
    file::write_private(&path, &manifest).with_context(|| format!("write {}", path.display()))?;
    folder.finish(&target).map_err(|error| match error {
        ModelFilesError::Exists(path) => anyhow!(
            "{} was made by somebody else meanwhile: export into another folder",
            path.display()
        ),
        // The rename happened, but neither its durability nor its undoing is certain.
        error if target.join(MANIFEST).is_file() => anyhow::Error::new(error).context(format!(
            "{} is whole, but may not outlast a power cut: mend the disk, remove that folder, and export again",
            target.display()
        )),
        error => anyhow::Error::new(error).context("give the folder its name"),
    })?;
    report.folder = Some(to.clone());
    report.seconds = Some(started.elapsed().as_secs_f64());
    Ok(report)
}

/// Removes an empty folder of that name. One that cannot be removed, because it is a mount point or
/// the name is a link, could not be replaced at the end either.
fn make_way(to: &Path) -> anyhow::Result<()> {
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} holds something already: name a new folder with --to",
            to.display()
        );
    }
    if to.symlink_metadata().is_ok() && !to.is_dir() {
        bail!(
            "{} is a file, not a folder: name another one with --to",
            to.display()
        );
    }
    if let Err(error) = std::fs::remove_dir(to)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| {
            format!(
                "{} is there already, and the export cannot take its place: name a folder inside it with --to",
                to.display()
            )
        });
    }
    Ok(())
}

/// Where the rows go.
struct Sink<'a> {
    videos: Tables<VideoRows>,
    likes: Tables<InteractionRows>,
    skips: Tables<InteractionRows>,
    folders: [PathBuf; 3],
    rows: u64,
    progress: Progress<'a>,
}

impl<'a> Sink<'a> {
    fn create(
        folder: &Path,
        options: &ExportOptions,
        progress: Progress<'a>,
    ) -> anyhow::Result<Self> {
        private(folder)?;
        let folders = ["videos", "likes", "skips"].map(|name| folder.join(name));
        for folder in &folders {
            let mut builder = DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder
                .create(folder)
                .with_context(|| format!("make {}", folder.display()))?;
        }
        let table = |at: usize, name| Table {
            folder: folders[at].clone(),
            name,
            rows_per_file: options.rows_per_file.max(1),
            pseudonyms: !options.user_ids,
        };
        Ok(Self {
            videos: Tables::new(table(0, "videos")),
            likes: Tables::new(table(1, "likes")),
            skips: Tables::new(table(2, "skips")),
            folders,
            rows: 0,
            progress,
        })
    }

    fn count(&mut self, name: &str) {
        self.rows += 1;
        if self.rows.is_multiple_of(PROGRESS_ROWS) {
            (self.progress)(self.rows, name);
        }
    }

    fn finish(self) -> anyhow::Result<[ExportedTable; 3]> {
        let tables = [
            self.videos.finish()?,
            self.likes.finish()?,
            self.skips.finish()?,
        ];
        for folder in &self.folders {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .with_context(|| format!("write {}", folder.display()))?;
        }
        Ok(tables)
    }
}

impl SourceSink for Sink<'_> {
    type Error = anyhow::Error;

    fn video(&mut self, video: Video) -> anyhow::Result<()> {
        self.count("videos");
        self.videos.push(video)
    }

    fn interaction(&mut self, kind: InteractionKind, row: InteractionRow) -> anyhow::Result<()> {
        let (name, table) = match kind {
            InteractionKind::Like => ("likes", &mut self.likes),
            InteractionKind::Skip => ("skips", &mut self.skips),
        };
        table.push(row)?;
        self.count(name);
        Ok(())
    }
}

/// The folder tells what people like, so only its owner may read it.
fn private(folder: &Path) -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let owner = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(folder, owner)
            .with_context(|| format!("restrict {}", folder.display()))?;
    }
    Ok(())
}
