//! Vectors computed on other machines by `twotower embed`: Parquet files, and `vectors.json`, which
//! is written last.

mod read;

pub(crate) use read::{Batch, Part, read};

use crate::interrupt::Interrupt;
use crate::jobs::JobError;
use crate::sha256;
use anyhow::{Context, bail, ensure};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use twotower_store::VectorTable;
use twotower_store::model_files::Manifest;

/// The version of the folder's layout that is supported.
const FORMAT: u32 = 1;

/// Name of the manifest in a folder of vectors.
pub(crate) const MANIFEST: &str = "vectors.json";

/// The content of `vectors.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VectorsManifest {
    /// Version of the layout.
    pub(crate) format: u32,
    /// Version of the model that computed the vectors.
    pub(crate) model_version: i64,
    /// SHA-256 of that model's whole `manifest.json`, hex; not [`Manifest::checksum`].
    #[serde(rename = "manifest_sha256")]
    pub(crate) manifest_file_sha256: String,
    /// Dimension of the vectors.
    pub(crate) dim: usize,
    /// Vectors of videos.
    pub(crate) videos: VectorFiles,
    /// Vectors of users, if they were computed.
    pub(crate) users: Option<VectorFiles>,
}

/// The vectors of one kind, ascending by id across all files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VectorFiles {
    /// Number of rows of all files.
    pub(crate) rows: u64,
    /// In order.
    pub(crate) files: Vec<VectorFile>,
}

/// A Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VectorFile {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Number of rows.
    pub(crate) rows: u64,
    /// SHA-256 of the file, hex.
    pub(crate) sha256: String,
}

/// A folder whose manifest was read.
#[derive(Debug, Clone)]
pub(crate) struct VectorsFolder {
    path: PathBuf,
    pub(crate) manifest: VectorsManifest,
}

impl VectorsFolder {
    /// Reads the manifest.
    ///
    /// # Errors
    /// If it is missing, cannot be parsed, or has another format.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = path.join(MANIFEST);
        let place = file.display().to_string();
        let bytes = std::fs::read(&file).with_context(|| {
            format!("read {place}, which `twotower embed` writes last: name a folder that it has finished")
        })?;
        let manifest: VectorsManifest =
            serde_json::from_slice(&bytes).with_context(|| format!("read {place}"))?;
        ensure!(
            manifest.format == FORMAT,
            "{place} is of format {}, and this program reads format {FORMAT}: use the program that wrote it",
            manifest.format
        );
        for file in manifest.all_files() {
            let plain = Path::new(&file.name).file_name() == Some(file.name.as_ref());
            ensure!(
                plain,
                "{place} lists `{}`, which is no name of a file",
                file.name
            );
        }
        for (kind, files) in [
            ("videos", Some(&manifest.videos)),
            ("users", manifest.users.as_ref()),
        ] {
            let Some(files) = files else { continue };
            let rows: u64 = files.files.iter().map(|file| file.rows).sum();
            ensure!(
                rows == files.rows,
                "{place} counts {} {kind}, and {rows} in its files: compute the vectors anew",
                files.rows
            );
        }
        Ok(Self {
            path: path.to_owned(),
            manifest,
        })
    }

    /// Refuses vectors of a model other than the one whose whole `manifest.json` has this SHA-256.
    pub(crate) fn is_of(&self, model: &Manifest, file_sha256: &str) -> anyhow::Result<()> {
        let folder = self.path.display();
        let VectorsManifest {
            model_version,
            manifest_file_sha256,
            dim,
            ..
        } = &self.manifest;
        ensure!(
            *model_version == model.version,
            "{folder} holds vectors of model {model_version}, and --model names model {}: name the one that they were computed with",
            model.version
        );
        ensure!(
            manifest_file_sha256 == file_sha256,
            "{folder} holds vectors of another model {model_version} (its manifest.json had SHA-256 {manifest_file_sha256}, this one has \
             {file_sha256}): compute them anew with this model"
        );
        let expected = model.hyperparameters.embedding_dim;
        ensure!(
            *dim == expected,
            "{folder} holds vectors of dimension {dim}, and those of model {model_version} have {expected}: compute them anew"
        );
        Ok(())
    }

    /// Verifies the checksums of all files, on all cores.
    ///
    /// # Errors
    /// If a file is missing or was changed, or on an interrupt.
    pub(crate) fn verify(&self, interrupt: &Interrupt) -> anyhow::Result<()> {
        let files: Vec<&VectorFile> = self.manifest.all_files().collect();
        files.par_iter().try_for_each(|file| {
            let path = self.path.join(&file.name);
            let found = sha256::of_file(&path, || {
                ensure!(!interrupt.is_set(), JobError::Interrupted);
                Ok(())
            })?;
            ensure!(
                found == file.sha256,
                "{} is not the file that was written: its SHA-256 is {found}, and {MANIFEST} says {}; copy it again, or compute the vectors \
                 anew",
                path.display(),
                file.sha256
            );
            Ok(())
        })
    }

    /// The parts that can be read in parallel, ascending by id; empty without vectors of that kind.
    ///
    /// # Errors
    /// If a file does not hold vectors, or its number of rows differs from the manifest.
    pub(crate) fn parts(&self, table: VectorTable) -> anyhow::Result<Vec<Part>> {
        let files = match table {
            VectorTable::Videos => Some(&self.manifest.videos),
            VectorTable::Users => self.manifest.users.as_ref(),
        };
        let mut parts = Vec::new();
        for file in files.into_iter().flat_map(|files| &files.files) {
            let path = self.path.join(&file.name);
            let of_file = read::parts(&path).with_context(|| path.display().to_string())?;
            let rows: u64 = of_file.iter().map(|part| part.rows).sum();
            if rows != file.rows {
                bail!(
                    "{} has {rows} rows, and {MANIFEST} says {}: compute the vectors anew",
                    path.display(),
                    file.rows
                );
            }
            parts.extend(of_file);
        }
        read::bound(&mut parts)?;
        Ok(parts)
    }
}

impl VectorsManifest {
    fn all_files(&self) -> impl Iterator<Item = &VectorFile> {
        let users = self.users.iter().flat_map(|users| &users.files);
        self.videos.files.iter().chain(users)
    }
}
