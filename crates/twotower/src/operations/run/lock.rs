//! Lock that allows one run of a job at a time on a machine, with a note about the run that holds
//! it or was cut off.

use super::super::Job;
use crate::jobs::host;
use crate::time::{now_us, rfc3339_us};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Describes the run that holds the lock. It stays in the file if the run is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::operations) struct Note {
    pub(in crate::operations) host: String,
    pub(in crate::operations) pid: u32,
    pub(in crate::operations) since_us: i64,
    /// The scheduled time that the run is for.
    pub(in crate::operations) due_at_us: Option<i64>,
    pub(in crate::operations) fine_tune: bool,
    /// Number of runs started for that time, including this one.
    pub(in crate::operations) starts: u32,
}

impl Note {
    pub(super) fn of_this_process(due_at_us: Option<i64>, fine_tune: bool) -> Self {
        Self {
            host: host(),
            pid: std::process::id(),
            since_us: now_us(),
            due_at_us,
            fine_tune,
            starts: 1,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} on {} has been at it since {}",
            self.pid,
            self.host,
            rfc3339_us(self.since_us)
        )
    }
}

/// Result of an attempt to lock.
pub(super) enum LockOutcome {
    Taken(JobLock),
    /// Another process holds it; says which, unless that has not written its note yet.
    Held(Option<Note>),
}

/// Held until it is given back, or until this process and all commands that it started have exited.
pub(super) struct JobLock {
    file: File,
}

impl JobLock {
    /// Tries to take the lock of `job` with `note`.
    pub(super) fn acquire(state_dir: &Path, job: Job, note: Note) -> anyhow::Result<LockOutcome> {
        let path = path(state_dir, job);
        Self::acquire_at(&path, note).with_context(|| {
            format!(
                "lock {}: `state_dir` of section [run] has to be a folder that this user may write to",
                path.display()
            )
        })
    }

    fn acquire_at(path: &Path, mut note: Note) -> io::Result<LockOutcome> {
        if let Some(state_dir) = path.parent() {
            fs::create_dir_all(state_dir)?;
        }
        let mut file = open(path, true)?;
        let mut looks = 5;
        while !take(&file)? {
            looks -= 1;
            if looks == 0 {
                return Ok(LockOutcome::Held(read(&mut file)?));
            }
            // A scheduler that checks whether the last run was cut off holds it for a moment.
            thread::sleep(Duration::from_millis(20));
        }
        keep_for_children(&file)?;
        if let Some(before) = read(&mut file)?
            && note.due_at_us.is_some()
            && before.due_at_us == note.due_at_us
        {
            note.starts += before.starts;
        }
        // A full disk is no reason to miss a run, all the less one that frees space.
        if let Err(error) = write(&mut file, &note) {
            tracing::warn!(
                "{}: {error}; should the run be cut off, it is not begun again",
                path.display()
            );
        }
        Ok(LockOutcome::Taken(Self { file }))
    }

    /// Marks the run as not cut off: whatever becomes of this process, its work is not repeated for
    /// the same scheduled time.
    pub(super) fn done(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Releases the lock. The note stays, unless the run is [done](Self::done).
    pub(super) fn give_back(self) -> io::Result<()> {
        // Closing the file would not suffice: a running command may have inherited it.
        self.file.unlock()
    }
}

/// The last run of `job`, if it was cut off and no other is running.
pub(in crate::operations) fn cut_off(state_dir: &Path, job: Job) -> io::Result<Option<Note>> {
    let path = path(state_dir, job);
    let mut file = match open(&path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if take(&file)? {
        read(&mut file)
    } else {
        Ok(None)
    }
}

/// Whether a run of `job` is at work on this machine, or a command that has outlived one. If that
/// cannot be told, it may be.
pub(super) fn is_held(state_dir: &Path, job: Job) -> bool {
    match open(&path(state_dir, job), false) {
        Ok(file) => !matches!(take(&file), Ok(true)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn path(state_dir: &Path, job: Job) -> PathBuf {
    state_dir.join(format!("{job}.lock"))
}

/// Opens the file for writing even for a check, because NFS grants exclusive locks only then.
fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
}

fn take(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // Some network file systems have no locks; there, concurrent runs are not prevented.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn write(file: &mut File, note: &Note) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(note)?)?;
    file.sync_all()
}

/// The note in the file, if it is complete.
fn read(file: &mut File) -> io::Result<Option<Note>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}

/// Lets commands inherit the lock: one that outlives its killed supervisor keeps the next run out
/// until it has stopped.
#[cfg(unix)]
fn keep_for_children(file: &File) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?)
}

#[cfg(not(unix))]
fn keep_for_children(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(due_at_us: Option<i64>) -> Note {
        Note::of_this_process(due_at_us, false)
    }

    fn take(folder: &Path, due_at_us: Option<i64>) -> JobLock {
        match JobLock::acquire(folder, Job::Update, note(due_at_us)).unwrap() {
            LockOutcome::Taken(lock) => lock,
            LockOutcome::Held(note) => panic!("{note:?} has it"),
        }
    }

    #[test]
    fn one_at_a_time_and_others_learn_who() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let lock = take(&state, None);
        let LockOutcome::Held(Some(holder)) =
            JobLock::acquire(&state, Job::Update, note(None)).unwrap()
        else {
            panic!("taken twice")
        };
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(cut_off(&state, Job::Update).unwrap(), None);
        assert!(is_held(&state, Job::Update) && !is_held(&state, Job::Retrain));
        // The lock of another job is independent.
        let other = JobLock::acquire(&state, Job::Backup, note(None)).unwrap();
        assert!(matches!(other, LockOutcome::Taken(_)));
        lock.done().unwrap();
        lock.give_back().unwrap();
        assert!(!is_held(&state, Job::Update));
        assert_eq!(cut_off(&state, Job::Update).unwrap(), None);
        take(&state, None);
    }

    /// NFS requires this for an exclusive lock.
    #[cfg(unix)]
    #[test]
    fn whoever_looks_opens_the_file_to_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.lock");
        assert!(open(&path, false).is_err());
        open(&path, true).unwrap();
        let flags = rustix::fs::fcntl_getfl(open(&path, false).unwrap()).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::RDWR), "{flags:?}");
    }

    #[test]
    fn a_run_that_was_cut_off_is_known_and_its_starts_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        for starts in 1..=3 {
            take(state, Some(7)).give_back().unwrap();
            let note = cut_off(state, Job::Update).unwrap().unwrap();
            assert_eq!((note.due_at_us, note.starts), (Some(7), starts));
        }
        take(state, Some(8)).give_back().unwrap();
        assert_eq!(cut_off(state, Job::Update).unwrap().unwrap().starts, 1);
        // Killed after its work, but before it released the lock.
        let lock = take(state, Some(8));
        lock.done().unwrap();
        drop(lock);
        assert_eq!(cut_off(state, Job::Update).unwrap(), None);
    }
}
