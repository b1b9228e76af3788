use crate::import::{Fault, FileKind};
use serde::Serialize;
use std::fmt;
use thiserror::Error;

/// Result of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file, as the arguments name it.
    pub file: String,
    /// What it holds.
    pub kind: FileKind,
    /// Rows imported: `inserted + updated + unchanged`.
    pub rows: u64,
    /// Rows that are new in the database.
    pub inserted: u64,
    /// Videos whose content changed.
    pub updated: u64,
    /// Rows that the database had already.
    pub unchanged: u64,
    /// Rows skipped because of faults.
    pub skipped: u64,
    /// The first of those.
    pub faults: Vec<Fault>,
}

/// Results of all files, in the order of import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One entry per file.
    pub files: Vec<FileReport>,
}

/// A file has rows, and all of them were skipped.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "nothing of {files} was imported: none of the rows can be, and the faults above say what was expected. Does the file hold what its name or \
     --as says, are its columns named (--column) and its fields separated (--delimiter) as was given, and are the ids of likes and skips \
     those of the catalogue?"
)]
pub struct NothingImported {
    /// The files, separated by commas.
    pub files: String,
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
    /// Number of skipped rows of all files.
    pub fn skipped(&self) -> u64 {
        self.files.iter().map(|file| file.skipped).sum()
    }

    /// Checks that something was imported of each file with rows.
    ///
    /// # Errors
    /// [`NothingImported`]: this is an error even if rows may be skipped.
    pub fn something_of_each(&self) -> Result<(), NothingImported> {
        let left_out = self
            .files
            .iter()
            .filter(|it| it.rows == 0 && it.skipped > 0);
        let files: Vec<&str> = left_out.map(|it| it.file.as_str()).collect();
        if files.is_empty() {
            return Ok(());
        }
        Err(NothingImported {
            files: files.join(", "),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_which_nothing_came_in_is_no_success() {
        let file = |name: &str, rows, skipped| FileReport {
            rows,
            skipped,
            ..FileReport::new(name.to_owned(), FileKind::Likes)
        };
        let outcome = |files: &[FileReport]| {
            let files = files.to_vec();
            Report { files }.something_of_each()
        };
        let (some, none) = (file("some.csv", 1, 9), file("none.csv", 0, 9));
        // A file without rows has no fault.
        assert_eq!(outcome(&[some.clone(), file("empty.csv", 0, 0)]), Ok(()));
        let other = file("other.csv", 0, 1);
        let error = outcome(&[some, none, other]).unwrap_err();
        assert_eq!(error.files, "none.csv, other.csv");
    }
}
