//! A folder that appears whole or not at all.

use crate::hash::Hashing;
use anyhow::{Context, bail, ensure};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Begins the names of what is no part of the result.
const SPILL: &str = ".spill";
const LOCK: &str = ".lock";

/// A file of Parquet as manifests list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name in the folder.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// Writes into `.NAME.unfinished` beside the folder asked for, which gets its name when everything is there.
#[derive(Debug)]
pub(crate) struct Output {
    to: PathBuf,
    folder: PathBuf,
    lock: File,
}

impl Output {
    /// Takes away what an earlier run that was cut off has left.
    ///
    /// # Errors
    /// If the folder is there already, another run writes it, or the file system refuses.
    pub(crate) fn create(to: &Path) -> anyhow::Result<Self> {
        let to = std::path::absolute(to).with_context(|| format!("{}", to.display()))?;
        let (Some(parent), Some(name)) = (to.parent(), to.file_name().and_then(|n| n.to_str()))
        else {
            bail!("--to {}: name a folder that can be made", to.display());
        };
        let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut f| f.next().is_none());
        ensure!(
            !to.exists() || is_empty(&to),
            "{} exists already and stays as it is: remove it, or name another folder",
            to.display()
        );
        // An empty folder gives way at once: what is mounted there, or is a link, could not be replaced in the end either.
        if let Err(error) = fs::remove_dir(&to)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error).with_context(|| {
                format!(
                    "{} exists already, and the result cannot take its place: name a folder inside it",
                    to.display()
                )
            });
        }
        let folder = parent.join(format!(".{name}.unfinished"));
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let lock = folder.join(LOCK);
        let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another run is writing {}: wait for it, or name another folder",
                to.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", folder.display()));
            }
        }
        let output = Self { to, folder, lock };
        output.clear()?;
        fs::create_dir(output.spill()).with_context(|| format!("create {}", output.name()))?;
        Ok(output)
    }

    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// Where files are written.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the engine may spill, on the disk that the result needs space on as well.
    pub(crate) fn spill(&self) -> PathBuf {
        self.folder.join(SPILL)
    }

    /// Removes everything but the lock and the spill folder, so that writing can begin again.
    pub(crate) fn restart(&self) -> anyhow::Result<()> {
        self.remove(&[LOCK, SPILL])
    }

    fn clear(&self) -> anyhow::Result<()> {
        self.remove(&[LOCK])
    }

    fn remove(&self, keep: &[&str]) -> anyhow::Result<()> {
        let entries = fs::read_dir(&self.folder).with_context(|| self.name())?;
        for entry in entries {
            let entry = entry.with_context(|| self.name())?;
            if keep.iter().any(|keep| entry.file_name() == **keep) {
                continue;
            }
            let path = entry.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// A file of the result.
    pub(crate) fn file(&self, name: &str) -> anyhow::Result<OutputFile> {
        OutputFile::create(&self.folder.join(name))
    }

    /// Writes the manifest, last of all files, and gives the folder its name.
    pub(crate) fn finish(
        self,
        manifest: &str,
        content: &impl Serialize,
    ) -> anyhow::Result<PathBuf> {
        fs::remove_dir_all(self.spill()).with_context(|| self.name())?;
        sync(&self.folder)?;
        let mut file = self.file(manifest)?;
        let mut bytes = serde_json::to_vec_pretty(content).context("write the manifest")?;
        bytes.push(b'\n');
        file.write_all(&bytes)
            .with_context(|| format!("write {manifest}"))?;
        file.finish()?;
        fs::remove_file(self.folder.join(LOCK)).with_context(|| self.name())?;
        sync(&self.folder)?;
        fs::rename(&self.folder, &self.to)
            .with_context(|| format!("rename {} to {}", self.name(), self.to.display()))?;
        if let Some(parent) = self.to.parent() {
            sync(parent)?;
        }
        drop(self.lock);
        Ok(self.to)
    }
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("write {} to the disk", folder.display()))
}

/// A file that knows its SHA-256.
pub(crate) struct OutputFile {
    writer: Hashing<BufWriter<File>>,
    path: PathBuf,
}

impl OutputFile {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            writer: Hashing::new(BufWriter::with_capacity(1 << 20, file)),
            path: path.to_owned(),
        })
    }

    /// Writes what is left to the disk; returns the SHA-256, hex.
    pub(crate) fn finish(self) -> anyhow::Result<String> {
        let (writer, sha256) = self.writer.finish();
        let file = writer
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all())
            .with_context(|| format!("write {}", self.path.display()))?;
        Ok(sha256)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

/// Properties that all files of ours share. Who wrote them is said without a version, so that bytes change with their
/// content alone.
pub(crate) fn properties() -> anyhow::Result<WriterPropertiesBuilder> {
    use datafusion::parquet::basic::{Compression, ZstdLevel};
    let level = ZstdLevel::try_new(1).context("set the compression")?;
    Ok(WriterProperties::builder()
        .set_created_by("twotower".to_owned())
        .set_compression(Compression::ZSTD(level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole() {
        let root = tempfile::tempdir().unwrap();
        let to = root.path().join("deep/shards");
        let output = Output::create(&to).unwrap();
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        fs::write(output.folder().join("half"), "x").unwrap();
        drop(output);
        assert!(!to.exists());
        let output = Output::create(&to).unwrap();
        let mut file = output.file("a").unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(file.finish().unwrap(), crate::hash::sha256("abc"));
        output
            .finish("m.json", &serde_json::json!({"format": 1}))
            .unwrap();
        let mut names: Vec<_> = fs::read_dir(&to)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "m.json"]);
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read_dir(root.path().join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_folder_gives_way_and_a_link_to_one_is_refused_at_once() {
        let root = tempfile::tempdir().unwrap();
        let to = root.path().join("empty");
        fs::create_dir(&to).unwrap();
        let output = Output::create(&to).unwrap();
        output.finish("m.json", &serde_json::json!({})).unwrap();
        assert!(to.join("m.json").exists());
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = Output::create(&link).unwrap_err().to_string();
        assert!(error.contains("name a folder inside it"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
    }
}
