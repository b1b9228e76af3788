use crate::import::{Fault, FileKind};
use serde::Serialize;
use std::fmt;

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file, as it was named.
    pub file: String,
    /// What it holds.
    pub kind: FileKind,
    /// Rows imported: `inserted + updated + unchanged`.
    pub rows: u64,
    /// Rows that were not in the database before.
    pub inserted: u64,
    /// Videos whose content changed.
    pub updated: u64,
    /// Rows that were in the database already.
    pub unchanged: u64,
    /// Rows left out because something was wrong with them.
    pub skipped: u64,
    /// The first of those.
    pub faults: Vec<Fault>,
}

/// What became of each file, in the order of the import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One entry a file.
    pub files: Vec<FileReport>,
}

impl FileReport {
    pub(crate) fn new(file: String, kind: FileKind) -> Self {
        Self {
            file,
            kind,
            rows: 0,
            inserted: 0,
            updated: 0,
            unchanged: 0,
            skipped: 0,
            faults: Vec::new(),
        }
    }
}

impl Report {
    /// Rows left out of all files.
    pub fn skipped(&self) -> u64 {
        self.files.iter().map(|file| file.skipped).sum()
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file, kind, rows, ..
        } = self;
        write!(f, "{file}: {rows} {kind}, {} new", self.inserted)?;
        if self.updated > 0 {
            write!(f, ", {} changed", self.updated)?;
        }
        write!(f, ", {} already there", self.unchanged)?;
        if self.skipped > 0 {
            write!(f, ", {} rows skipped:", self.skipped)?;
            for fault in &self.faults {
                write!(f, "\n  {fault}")?;
            }
            let unlisted = self.skipped - self.faults.len() as u64;
            if unlisted > 0 {
                write!(f, "\n  and {unlisted} more")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.files.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{file}")?;
        }
        Ok(())
    }
}
