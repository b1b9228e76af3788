use crate::import::{Value, values};
use crate::interrupt::Interrupt;
use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use twotower_store::model_files;
use uuid::Uuid;

/// Number of bytes searched at once.
const CHUNK: usize = 1 << 20;

/// Signatures of compressed files, whose bytes cannot be searched as they are: gzip, zstd, xz,
/// bzip2, zip, LZ4, 7z.
const PACKED: [&[u8]; 7] = [
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\0",
    b"BZh",
    b"PK\x03\x04",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf\x27\x1c",
];

/// Signature of the files of `pg_dump -Fc`, which are compressed in parts.
const DUMP: &[u8] = b"PGDMP";

/// Signature of Parquet files, which are compressed in parts as well, but can be read. Exports are
/// Parquet files.
const PARQUET: &[u8] = b"PAR1";

/// Results of searching files for an id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SearchedFiles {
    /// The given files and folders.
    pub(crate) paths: Vec<PathBuf>,
    /// Number of files searched.
    pub(crate) files: u64,
    /// Number of bytes searched.
    pub(crate) bytes: u64,
    /// Files that contain the id.
    pub(crate) found: Vec<FoundFile>,
    /// If a video has the same id: files that contain it as that of the video.
    pub(crate) passed_over: Vec<PathBuf>,
    /// Paths that could not be searched, and why.
    pub(crate) not_searched: Vec<(PathBuf, String)>,
}

/// A file that contains the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FoundFile {
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// Forms in which the file contains the id: `text`, `digits` (text without hyphens), `bytes`,
    /// or `id`, another id that import maps to this one.
    pub(crate) forms: BTreeSet<&'static str>,
}

/// The id to search for, and the places to search.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// The user.
    pub(super) user: Uuid,
    /// Whether a video has the same id.
    pub(super) is_video: bool,
    /// Files of the database, whose rows were searched.
    pub(super) database: Vec<PathBuf>,
    /// Other files and folders to search.
    pub(super) paths: Vec<PathBuf>,
}

/// Searches files, and all files below folders, for the id. Links are not followed.
///
/// # Errors
/// If a given path cannot be read, or [`crate::jobs::JobError::Interrupted`].
pub(super) fn search(search: &Search, interrupt: &Interrupt) -> anyhow::Result<SearchedFiles> {
    let needles = Needles::new(search.user, search.is_video);
    let paths = [&*search.database, &*search.paths].concat();
    let mut searched = SearchedFiles {
        paths: paths.clone(),
        ..SearchedFiles::default()
    };
    let mut waiting: Vec<PathBuf> = paths.into_iter().rev().collect();
    while let Some(path) = waiting.pop() {
        let metadata = std::fs::symlink_metadata(&path)
            .with_context(|| format!("search {}", path.display()))?;
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("search {}", path.display()))?;
            let mut inside: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
            inside.sort_unstable_by(|a, b| b.cmp(a));
            waiting.extend(inside);
        } else if metadata.is_file() {
            searched
                .file(&path, &needles, interrupt)
                .with_context(|| format!("search {}", path.display()))?;
        } else {
            let reason = "is a link or no file, and was not followed".into();
            searched.not_searched.push((path, reason));
        }
    }
    if search.is_video {
        searched.pass_over(search, &needles);
    }
    Ok(searched)
}

impl SearchedFiles {
    /// Moves files that contain the id only as that of a video out of the findings: the vocabulary
    /// of a model, and the database itself, whose bytes do not say whose id it is.
    fn pass_over(&mut self, search: &Search, needles: &Needles) {
        let database: Vec<PathBuf> = search.database.iter().map(|path| real(path)).collect();
        for mut found in std::mem::take(&mut self.found) {
            if database.contains(&real(&found.path)) {
                found.forms.clear();
            } else if let Some(rest) = model_files::without_videos(&found.path) {
                found.forms = needles.find(&rest).collect();
            }
            if found.forms.is_empty() {
                self.passed_over.push(found.path);
            } else {
                self.found.push(found);
            }
        }
    }

    fn file(
        &mut self,
        path: &Path,
        needles: &Needles,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let mut file = match File::open(path) {
            // A log may be rotated away during the search.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let (mut forms, mut buffer, mut bytes) = (BTreeSet::new(), Vec::new(), 0);
        loop {
            interrupt.check()?;
            // The rest of the previous chunk may be the beginning of an id.
            let read = (&mut file).take(CHUNK as u64).read_to_end(&mut buffer)? as u64;
            if bytes == 0 && buffer.starts_with(PARQUET) {
                return self.parquet(path, file, needles, interrupt);
            }
            if let Some(reason) = unreadable(&buffer).filter(|_| bytes == 0) {
                self.not_searched.push((path.to_owned(), reason.into()));
                return Ok(());
            }
            bytes += read;
            forms.extend(needles.find(&buffer));
            if read == 0 {
                break;
            }
            buffer.drain(..buffer.len().saturating_sub(Needles::LONGEST - 1));
        }
        self.add(path, bytes, forms);
        Ok(())
    }

    fn add(&mut self, path: &Path, bytes: u64, forms: BTreeSet<&'static str>) {
        self.files += 1;
        self.bytes += bytes;
        if !forms.is_empty() {
            let path = path.to_owned();
            self.found.push(FoundFile { path, forms });
        }
    }

    /// Searches the values of all columns.
    fn parquet(
        &mut self,
        path: &Path,
        file: File,
        needles: &Needles,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let bytes = file.metadata()?.len();
        let (mut forms, mut buffer) = (BTreeSet::new(), Vec::new());
        let (mut is_user, mut is_passed_over) = (false, false);
        let read = values(file, &mut |value| {
            match value {
                Value::Video(bytes) if needles.is_video => {
                    is_passed_over |= needles.find(bytes).next().is_some();
                }
                Value::Bytes(bytes) | Value::Video(bytes) => {
                    buffer.extend_from_slice(bytes);
                    // An id does not span two values.
                    buffer.push(b'\n');
                }
                Value::User(user) => is_user |= user == needles.user,
            }
            if buffer.len() >= CHUNK {
                forms.extend(needles.find(&buffer));
                buffer.clear();
            }
            if interrupt.is_set() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        interrupt.check()?;
        forms.extend(needles.find(&buffer));
        if is_user && forms.is_empty() {
            forms.insert("id");
        }
        if is_passed_over && forms.is_empty() {
            self.passed_over.push(path.to_owned());
        }
        if let Err(error) = read {
            let reason = format!("is a Parquet file that cannot be read to its end: {error}");
            self.not_searched.push((path.to_owned(), reason));
            if forms.is_empty() {
                return Ok(());
            }
        }
        self.add(path, bytes, forms);
        Ok(())
    }
}

/// The canonical path, if the file still exists.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Why a file that begins like this cannot be searched, if so.
fn unreadable(beginning: &[u8]) -> Option<&'static str> {
    if beginning.starts_with(DUMP) {
        return Some(
            "is a dump in a format of pg_dump's own: make text of it (`pg_restore -f FILE DUMP`) and name that with --also",
        );
    }
    let packed = PACKED.iter().any(|magic| beginning.starts_with(magic));
    packed.then_some("is packed: unpack it and name it with --also")
}

/// The forms of an id in files.
struct Needles {
    user: Uuid,
    /// Whether a video has the same id.
    is_video: bool,
    text: String,
    digits: String,
    bytes: [u8; 16],
}

impl Needles {
    /// Length of the longest form, bytes.
    const LONGEST: usize = 36;

    fn new(user: Uuid, is_video: bool) -> Self {
        Self {
            user,
            is_video,
            text: user.hyphenated().to_string(),
            digits: user.simple().to_string(),
            bytes: *user.as_bytes(),
        }
    }

    fn find(&self, bytes: &[u8]) -> impl Iterator<Item = &'static str> {
        let small = bytes.to_ascii_lowercase();
        [
            (contains(&small, self.text.as_bytes()), "text"),
            (contains(&small, self.digits.as_bytes()), "digits"),
            (contains(bytes, &self.bytes), "bytes"),
        ]
        .into_iter()
        .filter_map(|(found, form)| found.then_some(form))
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let mut windows = bytes.windows(needle.len());
    windows.any(|window| window[0] == needle[0] && window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobError;

    fn of(user: Uuid, path: &Path) -> Search {
        Search {
            user,
            paths: vec![path.to_owned()],
            ..Search::default()
        }
    }

    fn found_in(content: &[u8]) -> (Vec<&'static str>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let user = Uuid::from_u128(0xabcd_ef01_2345_4678_9abc_def0_1234_5678);
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(folder.path().join("deep/file"), content).unwrap();
        let searched = search(&of(user, folder.path()), &Interrupt::default()).unwrap();
        let forms = searched.found.first().map(|found| found.forms.clone());
        let forms = forms.unwrap_or_default().into_iter().collect();
        (forms, searched.not_searched.len())
    }

    #[test]
    fn every_spelling_is_found_wherever_chunks_end() {
        let user = Uuid::from_u128(0xabcd_ef01_2345_4678_9abc_def0_1234_5678);
        let text = user.hyphenated().to_string();
        let forms: [(&[u8], &str); 5] = [
            (text.as_bytes(), "text"),
            (&text.to_uppercase().into_bytes(), "text"),
            (&user.simple().to_string().into_bytes(), "digits"),
            (
                &user.simple().to_string().to_uppercase().into_bytes(),
                "digits",
            ),
            (user.as_bytes(), "bytes"),
        ];
        for (spelling, form) in forms {
            for before in [0, 1, CHUNK - 1, CHUNK - 17, CHUNK - 36, 2 * CHUNK - 20] {
                let content = [&vec![b'x'; before], spelling, b"\n"].concat();
                assert_eq!(found_in(&content), (vec![form], 0), "{form} after {before}");
            }
            let half = &spelling[..spelling.len() - 1];
            assert_eq!(found_in(half), (vec![], 0));
        }
    }

    #[test]
    fn an_interrupt_ends_the_search() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "text").unwrap();
        let interrupt = Interrupt::default();
        interrupt.set();
        let error = search(&of(Uuid::nil(), folder.path()), &interrupt).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(JobError::Interrupted)));
    }

    #[test]
    fn what_cannot_be_looked_into_is_said() {
        for unreadable in [
            b"\x1f\x8b\x08...".as_slice(),
            b"\x04\x22\x4d\x18\x64\x40\xa7",
            b"PGDMP\x01\x0e\x00",
            b"PAR1 and no more",
        ] {
            assert_eq!(found_in(unreadable), (vec![], 1), "{unreadable:?}");
        }
        let missing = of(Uuid::nil(), Path::new("no/such/log"));
        let error = search(&missing, &Interrupt::default()).unwrap_err();
        assert!(format!("{error:#}").contains("no/such/log"), "{error:#}");
    }
}
