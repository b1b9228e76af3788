//! The log file, which a program such as logrotate may rename while it is open.

use arc_swap::ArcSwap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tracing_subscriber::fmt::MakeWriter;

/// A file to which several processes append whole lines. Clones refer to the same file.
#[derive(Debug, Clone)]
pub struct LogFile(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    file: ArcSwap<File>,
    times: AtomicU32,
    failing: AtomicBool,
}

impl LogFile {
    /// Opens the file, or creates it, writable by its owner and readable by its group.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Opened {
            path: path.to_owned(),
            file: ArcSwap::from_pointee(append_to(path)?),
            times: AtomicU32::new(0),
            failing: AtomicBool::new(false),
        })))
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Opens the file again by its name. If that fails, lines go on to the file that is open.
    pub(crate) fn reopen(&self) {
        match append_to(&self.0.path) {
            Ok(file) => self.0.file.store(Arc::new(file)),
            Err(error) => tracing::error!(
                "the log file {} cannot be opened again, and lines go to the old one: {error}",
                self.0.path.display()
            ),
        }
        self.0.times.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of calls of [`LogFile::reopen`], for callers that pass them on.
    pub(crate) fn times_reopened(&self) -> u32 {
        self.0.times.load(Ordering::Relaxed)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            file: self.0.file.load_full(),
            log: self.clone(),
        }
    }
}

/// Writes one line in one system call: with `O_APPEND`, lines of several processes do not mix.
#[derive(Debug)]
pub struct Line {
    file: Arc<File>,
    log: LogFile,
}

impl Write for Line {
    /// Never fails: a line that cannot be written to the file goes to standard error.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let opened = &self.log.0;
        match (&*self.file).write_all(line) {
            Ok(()) => opened.failing.store(false, Ordering::Relaxed),
            Err(error) => {
                let mut stderr = io::stderr().lock();
                if !opened.failing.swap(true, Ordering::Relaxed) {
                    // If standard error fails too, there is nowhere left to report it.
                    let _ = writeln!(stderr, "the log file {}: {error}", opened.path.display());
                }
                let _ = stderr.write_all(line);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lines_go_to_the_file_of_that_name_once_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
        fs::write(&path, "before\n").unwrap();
        let log = LogFile::open(&path).unwrap();
        log.make_writer().write_all(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        log.make_writer().write_all(b"two\n").unwrap();
        log.reopen();
        log.make_writer().write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "before\none\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(log.times_reopened(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn others_cannot_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        LogFile::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_stops_nobody() {
        let log = LogFile::open(Path::new("/dev/full")).unwrap();
        log.make_writer().write_all(b"a line\n").unwrap();
        assert!(log.0.failing.load(Ordering::Relaxed));
    }
}
