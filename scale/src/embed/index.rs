use crate::hash::sha256;
use crate::output::Output;
use crate::vector_file::VectorFiles;
use anyhow::{Context, ensure};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const NAME: &str = ".videos.json";

/// A file that tells executors which vectors of videos to go by.
#[derive(Debug)]
pub(crate) struct VideoIndex {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
}

impl VideoIndex {
    pub(super) fn write(output: &Output, videos: &VectorFiles) -> anyhow::Result<Self> {
        let bytes = serde_json::to_vec(videos).context("list the vectors")?;
        let mut file = output.file(NAME)?;
        file.write_all(&bytes).context("list the vectors")?;
        Ok(Self {
            path: output.folder().join(NAME),
            sha256: file.finish()?,
        })
    }

    pub(super) fn remove(self) -> anyhow::Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }

    /// The folder and the files that the index at `path` lists, if it has this SHA-256.
    pub(crate) fn read(path: &Path, expected: &str) -> anyhow::Result<(PathBuf, VectorFiles)> {
        let hint = "every executor must see the folder that --to names, under the same path";
        let bytes = fs::read(path).with_context(|| format!("read {}: {hint}", path.display()))?;
        ensure!(
            sha256(&bytes) == expected,
            "{} is another file than was written: {hint}",
            path.display()
        );
        let files = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not as expected", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        Ok((folder.to_owned(), files))
    }
}
