use crate::import::cell::{Cell, Defect};
use crate::import::reader::Input;
use crate::import::row::{InteractionRows, VideoRow, VideoRows};
use crate::import::{Fault, FileKind, FileReport, OnError, Progress};
use crate::interrupt::Interrupt;
use crate::jobs::JobError;
use anyhow::anyhow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::mpsc;
use twotower_core::feature::Video;
use twotower_store::{
    InteractionKind, InteractionRow, Store, StoreKind, VideoColumns, VideosWritten, text_bytes,
};
use uuid::Uuid;

/// At most this many rows per write; a single transaction if all have the same columns.
const BATCH: usize = 20_000;
/// Batch size of likes and skips in SQLite; 8 MB. They arrive in order of time but are stored in
/// order of users, so each transaction rewrites most pages of the table, once in the log and once
/// in the file: the number of transactions determines the duration of an import.
const SQLITE_BATCH: usize = 200_000;
/// At most this many bytes of text per batch: descriptions may be long.
const BATCH_BYTES: usize = 8 << 20;
/// Number of rows parsed ahead of the database.
const AHEAD: usize = 4 * BATCH;
/// Number of faults listed; the others are only counted.
const FAULTS: usize = 10;

/// Rules for all rows of a file.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) on_error: OnError,
    pub(crate) default_time_us: Option<i64>,
    /// Ids of the catalogue; for videos needed only if rows may lack columns.
    pub(crate) known: Arc<HashSet<Uuid>>,
}

/// Imports one file: a thread parses, this task writes.
pub(crate) async fn import(
    store: &Store,
    input: Input,
    rules: Rules,
    interrupt: &Interrupt,
    progress: Progress<'_>,
) -> anyhow::Result<FileReport> {
    let kind = input.names.kind;
    let mut report = FileReport::new(input.path.display().to_string(), kind);
    let batch = match (store.kind(), kind) {
        (StoreKind::Sqlite, FileKind::Likes | FileKind::Skips) => SQLITE_BATCH,
        _ => BATCH,
    };
    let (sender, mut batches) = mpsc::channel((AHEAD / batch).max(1));
    let parser = tokio::task::spawn_blocking(move || match kind {
        FileKind::Videos => parse_videos(&input, &rules, &sender),
        FileKind::Likes => {
            parse_interactions(&input, &rules, InteractionKind::Like, batch, &sender)
        }
        FileKind::Skips => {
            parse_interactions(&input, &rules, InteractionKind::Skip, batch, &sender)
        }
    });
    loop {
        let batch = tokio::select! {
            biased;
            // Dropping the receiver stops the thread at its next batch.
            () = interrupt.wait() => {
                return Err(anyhow::Error::new(JobError::Interrupted).context(format!(
                    "{}: {} rows are imported and stay, the rest is left for the next time",
                    report.file, report.rows
                )));
            }
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else { break };
        if let Err(error) = write(store, batch, &mut report).await {
            return Err(error.context(format!(
                "write {kind} of {}: the {} rows before are imported and stay",
                report.file, report.rows
            )));
        }
        progress(report.rows, &report.file);
    }
    let parsed = parser
        .await
        .map_err(|_| anyhow!("{}: the reader gave up; the file is damaged", report.file))?;
    let outcome = parsed.map_err(|error| match error.downcast::<Stopped>() {
        Ok(Stopped { fault, hides_rest }) => anyhow!(
            "{fault}\nthe {} rows before it are imported; repair it and import the file again (rows already there are left as they are){}",
            report.rows,
            if hides_rest {
                ": --on-error skip does not pass over it, since nobody knows how many rows it hides"
            } else {
                ", or leave such rows out with --on-error skip"
            }
        ),
        Err(error) => error,
    })?;
    report.skipped = outcome.skipped;
    report.faults = outcome.faults;
    Ok(report)
}

#[derive(Debug)]
enum Batch {
    Videos(Vec<VideoRow>),
    Interactions(InteractionKind, Vec<InteractionRow>),
}

async fn write(store: &Store, batch: Batch, report: &mut FileReport) -> anyhow::Result<()> {
    let (rows, inserted, updated) = match batch {
        Batch::Videos(rows) => {
            let count = rows.len();
            let written = write_videos(store, rows).await?;
            (count, written.inserted, written.updated)
        }
        Batch::Interactions(kind, rows) => {
            let inserted = store.write_interactions(kind, &rows).await?;
            (rows.len(), inserted, 0)
        }
    };
    report.rows += rows as u64;
    report.inserted += inserted;
    report.updated += updated;
    report.unchanged = report.rows - report.inserted - report.updated;
    Ok(())
}

/// Writes rows with the same columns together; only JSON lines can differ in their columns.
async fn write_videos(store: &Store, rows: Vec<VideoRow>) -> anyhow::Result<VideosWritten> {
    let mut by_columns = BTreeMap::<VideoColumns, Vec<Video>>::new();
    for row in rows {
        by_columns.entry(row.columns).or_default().push(row.video);
    }
    let mut total = VideosWritten::default();
    for (columns, videos) in by_columns {
        let written = store.write_video_columns(columns, &videos).await?;
        total.inserted += written.inserted;
        total.updated += written.updated;
    }
    Ok(total)
}

/// Rows that were skipped so far.
#[derive(Debug, Default)]
struct Skipped {
    skipped: u64,
    faults: Vec<Fault>,
}

/// The fault at which reading a file stopped.
#[derive(Debug, Error)]
#[error("{fault}")]
struct Stopped {
    fault: Fault,
    hides_rest: bool,
}

fn parse_videos(
    input: &Input,
    rules: &Rules,
    sender: &mpsc::Sender<Batch>,
) -> anyhow::Result<Skipped> {
    let mut rows = VideoRows::new(Arc::clone(&rules.known));
    let unit = input.format.unit();
    let read = |cells: &[Cell<'_>], number| rows.read(cells, number, unit);
    let listener = Listener {
        is_there: || !sender.is_closed(),
        batch: BATCH,
        weight,
        send: |videos| sender.blocking_send(Batch::Videos(videos)).is_ok(),
    };
    parse(input, rules.on_error, read, &listener)
}

/// Passes all videos of a file to `take`; any fault is an error.
pub(crate) fn videos(input: &Input, take: impl FnMut(Video)) -> anyhow::Result<()> {
    let mut rows = VideoRows::default();
    let unit = input.format.unit();
    let read = |cells: &[Cell<'_>], number| rows.read(cells, number, unit);
    let take = RefCell::new(take);
    let listener = Listener {
        is_there: || true,
        batch: BATCH,
        weight,
        send: |batch: Vec<VideoRow>| {
            let videos = batch.into_iter().map(|row| row.video);
            videos.for_each(&mut *take.borrow_mut());
            true
        },
    };
    parse(input, OnError::Stop, read, &listener)?;
    Ok(())
}

fn parse_interactions(
    input: &Input,
    rules: &Rules,
    kind: InteractionKind,
    batch: usize,
    sender: &mpsc::Sender<Batch>,
) -> anyhow::Result<Skipped> {
    let rows = InteractionRows {
        known: Arc::clone(&rules.known),
        default_time_us: rules.default_time_us,
    };
    let read = |cells: &[Cell<'_>], _| rows.read(cells);
    let listener = Listener {
        is_there: || !sender.is_closed(),
        batch,
        weight: |_: &InteractionRow| 0,
        send: |rows| {
            let batch = Batch::Interactions(kind, rows);
            sender.blocking_send(batch).is_ok()
        },
    };
    parse(input, rules.on_error, read, &listener)
}

fn weight(row: &VideoRow) -> usize {
    text_bytes(&row.video)
}

/// Receives the rows of a file.
struct Listener<I, W, S> {
    /// Whether rows are still wanted.
    is_there: I,
    /// At most this many rows per batch.
    batch: usize,
    /// Bytes of text in a row.
    weight: W,
    /// Passes a batch on; returns whether rows are still wanted.
    send: S,
}

/// Reads a file in batches. If it stops at a fault, the rows before that have been sent, and the
/// fault is the error.
fn parse<T>(
    input: &Input,
    on_error: OnError,
    mut read: impl FnMut(&[Cell<'_>], u64) -> Result<T, Defect>,
    listener: &Listener<impl Fn() -> bool, impl Fn(&T) -> usize, impl Fn(Vec<T>) -> bool>,
) -> anyhow::Result<Skipped> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut skipped = Skipped::default();
    let mut stopped_by = None;
    input.read(&listener.is_there, &mut |number, row| {
        match row.and_then(|cells| read(cells, number)) {
            Ok(row) => {
                bytes += (listener.weight)(&row);
                batch.push(row);
            }
            Err(defect) if on_error == OnError::Stop || defect.hides_rest => {
                stopped_by = Some(Stopped {
                    hides_rest: defect.hides_rest,
                    fault: fault(input, number, defect),
                });
                return ControlFlow::Break(());
            }
            Err(defect) => {
                skipped.skipped += 1;
                if skipped.faults.len() < FAULTS {
                    skipped.faults.push(fault(input, number, defect));
                }
                // If every row is skipped, no batch ever fills up and reports this.
                if !(listener.is_there)() {
                    return ControlFlow::Break(());
                }
            }
        }
        if batch.len() == listener.batch || bytes >= BATCH_BYTES {
            bytes = 0;
            let next = Vec::with_capacity(batch.len());
            let full = std::mem::replace(&mut batch, next);
            if !(listener.send)(full) {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    if !batch.is_empty() {
        (listener.send)(batch);
    }
    match stopped_by {
        Some(stopped) => Err(stopped.into()),
        None => Ok(skipped),
    }
}

pub(super) fn fault(input: &Input, number: u64, defect: Defect) -> Fault {
    Fault {
        file: input.path.display().to_string(),
        unit: input.format.unit(),
        number,
        column: defect.column.map(|column| input.names.label(column)),
        expected: defect.expected.into_owned(),
        found: defect.found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::layout::Names;
    use crate::import::reader::Format;

    /// An interrupt does not wait for the end of a file in which no row is valid.
    #[test]
    fn nobody_reads_on_for_whom_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("likes.csv");
        let lines = "nobody,nothing,never\n".repeat(100);
        std::fs::write(&path, format!("user_id,video_id,created_at\n{lines}")).unwrap();
        let input = Input {
            path,
            format: Format::Csv { delimiter: b',' },
            names: Names::new(FileKind::Likes, &[], false),
        };
        // The receiver hangs up after it was asked `answers` times.
        let read = |answers: usize| {
            let mut rows = 0;
            let asked = std::cell::Cell::new(0);
            let refuse = |_: &[Cell<'_>], _| -> Result<(), Defect> {
                rows += 1;
                Err(Defect::row("a like", "none"))
            };
            let listener = Listener {
                is_there: || asked.replace(asked.get() + 1) < answers,
                batch: BATCH,
                weight: |(): &()| 0,
                send: |_: Vec<()>| true,
            };
            parse(&input, OnError::Skip, refuse, &listener).unwrap();
            rows
        };
        assert_eq!((read(usize::MAX), read(1), read(0)), (100, 1, 0));
    }

    #[test]
    fn a_batch_ends_with_its_rows_or_with_their_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("likes.csv");
        let lines = "ann,7,1\n".repeat(2 * BATCH + 5);
        std::fs::write(&path, format!("user_id,video_id,created_at\n{lines}")).unwrap();
        let input = Input {
            path,
            format: Format::Csv { delimiter: b',' },
            names: Names::new(FileKind::Likes, &[], false),
        };
        let batches = |weight: usize| {
            let sizes = RefCell::new(Vec::new());
            let listener = Listener {
                is_there: || true,
                batch: BATCH,
                weight: |(): &()| weight,
                send: |batch: Vec<()>| {
                    sizes.borrow_mut().push(batch.len());
                    true
                },
            };
            parse(&input, OnError::Stop, |_, _| Ok(()), &listener).unwrap();
            sizes.into_inner()
        };
        assert_eq!(batches(0), [BATCH, BATCH, 5]);
        let of_text = batches(BATCH_BYTES / 8_192);
        assert_eq!(of_text, [8_192, 8_192, 8_192, 8_192, 7_237]);
    }
}
