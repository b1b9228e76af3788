//! A folder that appears whole or not at all, for its owner alone: it may hold what people like.

use crate::hash::Hashing;
use anyhow::{Context, bail, ensure};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use tracing::warn;

/// No part of the result.
const SPILL: &str = ".spill";

/// How often a folder is removed into which somebody may still write, and how long they are waited for in between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The bit of a folder's mode by which only owners remove what is in it.
const STICKY: u32 = 0o1000;

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

/// Writes into `.NAME.unfinished` beside the folder asked for, which gets its name when everything is there. Dropped before, nothing of it
/// is left; what a killed process has left is removed by the next run.
#[derive(Debug)]
pub(crate) struct Output {
    to: PathBuf,
    folder: PathBuf,
    finished: bool,
    /// Given up last of all.
    _lock: Lock,
}

impl Output {
    /// Takes away what an earlier run that was killed has left.
    ///
    /// # Errors
    /// If the folder is there already, another run writes it, or the file system refuses.
    pub(crate) fn create(to: &Path) -> anyhow::Result<Self> {
        let asked = std::path::absolute(to).with_context(|| format!("{}", to.display()))?;
        let (Some(parent), Some(name)) =
            (asked.parent(), asked.file_name().and_then(|n| n.to_str()))
        else {
            bail!("--to {}: name a folder that can be made", asked.display());
        };
        // Without a slash at its end, behind which a link would pass for its folder.
        let to = parent.join(name);
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let lock = Lock::take(parent.join(format!(".{name}.lock")), &to)?;
        replaceable(&to, parent)?;
        let folder = parent.join(format!(".{name}.unfinished"));
        private_folder(&folder, parent)?;
        let output = Self {
            to,
            folder,
            finished: false,
            _lock: lock,
        };
        output.remove(&[])?;
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

    /// Removes everything but the spill folder, so that writing can begin again.
    pub(crate) fn restart(&self) -> anyhow::Result<()> {
        self.remove(&[SPILL])
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
        mut self,
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
        sync(&self.folder)?;
        fs::rename(&self.folder, &self.to)
            .with_context(|| format!("rename {} to {}", self.name(), self.to.display()))?;
        self.finished = true;
        if let Some(parent) = self.to.parent() {
            sync(parent)?;
        }
        Ok(self.to.clone())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Threads of the engine and of ours may be in the middle of a file: it goes under their hands, and they can begin no other.
        for _ in 0..TRIES {
            let removed = fs::remove_dir_all(&self.folder);
            if self.folder.symlink_metadata().is_err() {
                return;
            }
            if let Err(error) = removed {
                warn!("remove {}: {error}", self.name());
            }
            sleep(PAUSE);
        }
        warn!(
            "{} is left and may hold what people like: remove it, or begin the same run again, which does",
            self.name()
        );
    }
}

/// A file beside the folder that one run holds at a time, until the folder has its name. It goes with the run, so that nothing is left there.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// `to` is the folder that is to be written.
    fn take(path: PathBuf, to: &Path) -> anyhow::Result<Self> {
        let failed = || format!("lock {}", path.display());
        let foreign = || {
            format!(
                "{} is no file of this program: remove it, or name another folder",
                path.display()
            )
        };
        loop {
            // Made only where nothing is, never where a link points to; and opened to read as well, a pipe keeps nobody waiting.
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let mut opened = options.clone().create_new(true).mode(0o600).open(&path);
            if let Err(error) = &opened
                && error.kind() == ErrorKind::AlreadyExists
            {
                match fs::symlink_metadata(&path) {
                    Ok(named) => ensure!(named.is_file(), "{}", foreign()),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(error).with_context(failed),
                }
                opened = options.open(&path);
            }
            let file = match opened {
                // Taken away in between.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.with_context(failed)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!(
                    "another run is writing {}: wait for it, or name another folder",
                    to.display()
                ),
                Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            }
            // Whoever ended between the two has taken the name away, and a file without one keeps nobody out.
            let held = file.metadata().with_context(failed)?;
            match fs::symlink_metadata(&path) {
                Ok(named)
                    if named.is_file()
                        && (named.dev(), named.ino()) == (held.dev(), held.ino()) =>
                {
                    return Ok(Self { path, _file: file });
                }
                Ok(named) => ensure!(named.is_file(), "{}", foreign()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(failed),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still held, so that nobody else's goes.
        let _ = fs::remove_file(&self.path);
    }
}

/// Refuses at once what the result could not replace in the end. An empty folder stays until then: a run that fails leaves it as it was.
fn replaceable(to: &Path, parent: &Path) -> anyhow::Result<()> {
    let failed = || format!("{}", to.display());
    let found = match fs::symlink_metadata(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.with_context(failed)?,
    };
    let is_empty = || fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(
        found.is_symlink() || is_empty(),
        "{} exists already and stays as it is: remove it, or name another folder",
        to.display()
    );
    let holder = fs::metadata(parent).with_context(failed)?;
    let own = own_uid(parent).with_context(failed)?;
    // As in /tmp: there only the owner of either, and root, may take a folder away.
    let is_kept = holder.mode() & STICKY != 0 && ![found.uid(), holder.uid(), 0].contains(&own);
    let is_replaceable =
        !found.is_symlink() && found.dev() == holder.dev() && !is_mounted(to) && !is_kept;
    ensure!(
        is_replaceable,
        "{} exists already, and the result cannot take its place: name a folder inside it",
        to.display()
    );
    Ok(())
}

/// Whether something is mounted at `folder`, which may be a part of the same file system. Linux alone says so.
fn is_mounted(folder: &Path) -> bool {
    let (Ok(mounts), Ok(folder)) = (fs::read("/proc/self/mountinfo"), folder.canonicalize()) else {
        return false;
    };
    let name = folder.to_string_lossy().replace('\\', r"\134");
    let name = name.replace(' ', r"\040").replace('\t', r"\011");
    let name = name.replace('\n', r"\012");
    let mounts = String::from_utf8_lossy(&mounts);
    mounts
        .lines()
        .any(|mount| mount.split(' ').nth(4) == Some(name.as_str()))
}

/// Whose new files in `folder` are, which the file system decides.
fn own_uid(folder: &Path) -> std::io::Result<u32> {
    let file = tempfile::tempfile_in(folder)?;
    Ok(file.metadata()?.uid())
}

/// Makes `folder`, or takes over what an earlier run of this account has left: never a link, or a folder that somebody else has laid out.
fn private_folder(folder: &Path, parent: &Path) -> anyhow::Result<()> {
    let failed = || format!("create {}", folder.display());
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made.with_context(failed),
    }
    let found = fs::symlink_metadata(folder).with_context(failed)?;
    let own = own_uid(parent).with_context(failed)?;
    ensure!(
        found.is_dir() && found.uid() == own,
        "{} is there already and is no folder of this account: remove it, or name another folder",
        folder.display()
    );
    fs::set_permissions(folder, Permissions::from_mode(0o700)).with_context(failed)
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
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("create {}", path.display()))?;
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
    use std::process::Command;

    #[test]
    fn a_folder_appears_whole() {
        let root = tempfile::tempdir().unwrap();
        let to = root.path().join("deep/shards");
        let output = Output::create(&to).unwrap();
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        fs::write(output.folder().join("half"), "x").unwrap();
        drop(output);
        let beside = || fs::read_dir(root.path().join("deep")).unwrap().count();
        assert_eq!(beside(), 0, "nothing is left of what was not finished");
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
        assert_eq!(beside(), 1);
    }

    #[test]
    fn an_empty_folder_gives_way_and_a_link_to_one_is_refused_at_once() {
        let root = tempfile::tempdir().unwrap();
        let to = root.path().join("empty");
        fs::create_dir(&to).unwrap();
        fs::set_permissions(&to, Permissions::from_mode(0o750)).unwrap();
        let made = to.metadata().unwrap().ino();
        drop(Output::create(&to).unwrap());
        assert_eq!(to.metadata().unwrap().ino(), made);
        assert_eq!(mode(&to), 0o750, "a run that fails leaves it as it was");
        let output = Output::create(&to).unwrap();
        output.finish("m.json", &serde_json::json!({})).unwrap();
        assert!(to.join("m.json").exists());
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for link in [link.clone(), link.join("")] {
            let error = Output::create(&link).unwrap_err().to_string();
            assert!(error.contains("name a folder inside it"), "{error}");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
        assert!(!is_mounted(&target));
        assert!(!cfg!(target_os = "linux") || is_mounted(Path::new("/proc")));
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_reads_it_or_has_laid_it_out() {
        let root = tempfile::tempdir().unwrap();
        let (to, left) = (
            root.path().join("shards"),
            root.path().join(".shards.unfinished"),
        );
        // A killed run of ours, of before folders were private.
        fs::create_dir(&left).unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o755)).unwrap();
        fs::write(left.join("half"), "x").unwrap();
        let output = Output::create(&to).unwrap();
        assert_eq!(mode(&left), 0o700);
        output.file("a").unwrap().finish().unwrap();
        output.finish("m.json", &serde_json::json!({})).unwrap();
        assert_eq!(mode(&to), 0o700);
        for name in ["a", "m.json"] {
            assert_eq!(mode(&to.join(name)), 0o600, "{name}");
        }
        assert!(!to.join("half").exists());

        fs::remove_dir_all(&to).unwrap();
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("of others"), "x").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &left).unwrap();
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("no folder of this account"), "{error}");
        assert!(elsewhere.join("of others").exists());
        fs::remove_file(&left).unwrap();
        let lock = root.path().join(".shards.lock");
        std::os::unix::fs::symlink(elsewhere.join("lock"), &lock).unwrap();
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("no file of this program"), "{error}");
        assert!(!elsewhere.join("lock").exists());
        fs::remove_file(&lock).unwrap();
        let pipe = Command::new("mkfifo").arg(&lock).status().unwrap();
        assert!(pipe.success());
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("no file of this program"), "{error}");
    }

    /// As it is between the folder's getting its name and the end of the run.
    #[test]
    fn the_lock_outlives_the_name() {
        let root = tempfile::tempdir().unwrap();
        let to = root.path().join("shards");
        let output = Output::create(&to).unwrap();
        fs::rename(output.folder(), root.path().join("elsewhere")).unwrap();
        let error = Output::create(&to).unwrap_err().to_string();
        assert!(error.contains("another run"), "{error}");
        drop(output);
        drop(Output::create(&to).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
