//! One run of a job at a time on a machine, and what is known of one that was cut off.

use super::super::Job;
use crate::jobs::host;
use crate::jobs::now_us;
use crate::serve::rfc3339;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// Who is at work. Stays in the file if the run is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::operations) struct Note {
    pub(in crate::operations) host: String,
    pub(in crate::operations) pid: u32,
    pub(in crate::operations) since_us: i64,
    /// The moment of the schedule that it is the run of.
    pub(in crate::operations) due_at_us: Option<i64>,
    pub(in crate::operations) fine_tune: bool,
    /// Runs that were begun for that moment, this one included.
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
        let since = UNIX_EPOCH + Duration::from_micros(self.since_us.max(0) as u64);
        write!(
            f,
            "process {} on {} has been at it since {}",
            self.pid,
            self.host,
            rfc3339(since)
        )
    }
}

/// What came of asking.
pub(super) enum Asked {
    Taken(JobLock),
    /// Another process is at it; who, unless it has not said so yet.
    Held(Option<Note>),
}

/// Held until it is given back, or this process and the commands that it has started have all ended, however they end.
pub(super) struct JobLock {
    file: File,
}

impl JobLock {
    /// Asks for the lock of `job`, in the name of `note`.
    pub(super) fn ask(state_dir: &Path, job: Job, note: Note) -> anyhow::Result<Asked> {
        let path = path(state_dir, job);
        Self::ask_at(&path, note).with_context(|| {
            format!(
                "lock {}: `state_dir` of section [run] has to be a folder that this user may write to",
                path.display()
            )
        })
    }

    fn ask_at(path: &Path, mut note: Note) -> io::Result<Asked> {
        if let Some(state_dir) = path.parent() {
            fs::create_dir_all(state_dir)?;
        }
        let mut file = open(path, true)?;
        let mut looks = 5;
        while !take(&file)? {
            looks -= 1;
            if looks == 0 {
                return Ok(Asked::Held(read(&mut file)?));
            }
            // A scheduler that looks whether the last run was cut off has it for a moment.
            thread::sleep(Duration::from_millis(20));
        }
        keep_for_children(&file)?;
        if let Some(before) = read(&mut file)?
            && note.due_at_us.is_some()
            && before.due_at_us == note.due_at_us
        {
            note.starts += before.starts;
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&note)?)?;
        file.sync_all()?;
        Ok(Asked::Taken(Self { file }))
    }

    /// The run was not cut off: from here on, whatever becomes of this process, nobody does its work again for the same moment.
    pub(super) fn done(&self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Gives it back. The note stays, unless the run is [done](Self::done).
    pub(super) fn give_back(self) -> io::Result<()> {
        // Not by closing it: a command of the operator's that is still at work may have inherited it.
        self.file.unlock()
    }
}

/// The run of `job` that was cut off, if the last one was and nobody is at it.
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

fn path(state_dir: &Path, job: Job) -> PathBuf {
    state_dir.join(format!("{job}.lock"))
}

/// To be written, too, by whoever only looks: NFS gives an exclusive lock to no other.
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
        // Some network file systems know no locks; there nobody is kept out.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What is written there, if it is whole.
fn read(file: &mut File) -> io::Result<Option<Note>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}

/// A command that outlives a supervisor that was killed keeps the next one out until it has stopped.
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
        match JobLock::ask(folder, Job::Update, note(due_at_us)).unwrap() {
            Asked::Taken(lock) => lock,
            Asked::Held(note) => panic!("{note:?} has it"),
        }
    }

    #[test]
    fn one_at_a_time_and_others_learn_who() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let lock = take(&state, None);
        let Asked::Held(Some(holder)) = JobLock::ask(&state, Job::Update, note(None)).unwrap()
        else {
            panic!("taken twice")
        };
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(cut_off(&state, Job::Update).unwrap(), None);
        // Of another job.
        let other = JobLock::ask(&state, Job::Backup, note(None)).unwrap();
        assert!(matches!(other, Asked::Taken(_)));
        lock.done().unwrap();
        lock.give_back().unwrap();
        assert_eq!(cut_off(&state, Job::Update).unwrap(), None);
        take(&state, None);
    }

    /// What NFS asks of an exclusive lock.
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
        // Killed after its work, and before it could give the lock back.
        let lock = take(state, Some(8));
        lock.done().unwrap();
        drop(lock);
        assert_eq!(cut_off(state, Job::Update).unwrap(), None);
    }
}
