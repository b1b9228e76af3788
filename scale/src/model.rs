//! A model's folder, every byte of which is checked before it is used. The rules are those of the store, which this crate does
//! not depend on.

use crate::hash::{Hashing, sha256};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;

/// Layout of the folder that this program reads.
const FORMAT: u64 = 2;

const MANIFEST: &str = "manifest.json";
const PREPROCESSING: &str = "preprocessing.json";
const WEIGHTS: &str = "weights.safetensors";

/// Why a model cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ModelError {
    #[error("{0} holds no model: name the folder that `twotower train` wrote")]
    Missing(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} {reason}: copy the whole folder again, or train a new model")]
    Corrupt { path: PathBuf, reason: String },
    #[error(
        "{path} is another model than the one asked for: every executor must see the very folder that --model names"
    )]
    Another { path: PathBuf },
}

/// What of a manifest is needed here.
#[derive(Debug, Deserialize)]
struct Manifest {
    format: u64,
    version: i64,
    hyperparameters: Hyperparameters,
    files: BTreeMap<String, String>,
}

/// A model whose files are what their manifest says.
#[derive(Debug)]
pub(crate) struct CheckedModel {
    pub(crate) model: Model,
    /// From the database's sequence.
    pub(crate) version: i64,
    /// Of the whole of `manifest.json`, hex.
    pub(crate) manifest_file_sha256: String,
}

/// The folder of one model: `dir` itself, or its subfolder with the highest number for a name.
pub(crate) fn resolve(dir: &Path) -> Result<PathBuf, ModelError> {
    let is_model = |dir: &Path| dir.join(MANIFEST).is_file();
    let absolute = std::path::absolute(dir).map_err(|source| ModelError::Io {
        path: dir.to_owned(),
        source,
    })?;
    if is_model(&absolute) {
        return Ok(absolute);
    }
    let versions = fs::read_dir(&absolute).into_iter().flatten().flatten();
    versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok())
        .max()
        .map(|version| absolute.join(version.to_string()))
        .filter(|folder| is_model(folder))
        .ok_or(ModelError::Missing(absolute))
}

/// Reads and checks the model in `folder`; with `manifest_file_sha256`, it must be the model of that very manifest.
pub(crate) fn load(
    folder: &Path,
    manifest_file_sha256: Option<&str>,
) -> Result<CheckedModel, ModelError> {
    let path = folder.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelError::Missing(folder.to_owned()));
        }
        Err(source) => return Err(ModelError::Io { path, source }),
    };
    let found = sha256(&bytes);
    if manifest_file_sha256.is_some_and(|expected| expected != found) {
        return Err(ModelError::Another { path });
    }
    let manifest = parse(&path, &bytes)?;
    let mut files = BTreeMap::new();
    // Every file is checked, also those that are not needed here: it is the folder that is good or bad.
    for (name, expected) in &manifest.files {
        let path = folder.join(name);
        if name.contains(['/', '\\']) {
            return Err(corrupt(&path, "lies outside the folder"));
        }
        let bytes = fs::read(&path).map_err(|source| ModelError::Io {
            path: path.clone(),
            source,
        })?;
        if sha256(&bytes) != *expected {
            return Err(corrupt(
                &path,
                "does not have the SHA-256 that the manifest states",
            ));
        }
        if name == PREPROCESSING || name == WEIGHTS {
            files.insert(name.as_str(), bytes);
        }
    }
    let file = |name: &str| {
        let bytes = files.get(name).map(Vec::as_slice);
        bytes.ok_or_else(|| corrupt(&path, &format!("does not list {name}")))
    };
    let preprocessing = serde_json::from_slice(file(PREPROCESSING)?).map_err(|error| {
        let path = folder.join(PREPROCESSING);
        corrupt(&path, &format!("is not as expected ({error})"))
    })?;
    let model = Model::from_safetensors(manifest.hyperparameters, preprocessing, file(WEIGHTS)?)
        .map_err(|error| {
            let path = folder.join(WEIGHTS);
            corrupt(&path, &format!("is not as expected ({error})"))
        })?;
    Ok(CheckedModel {
        model,
        version: manifest.version,
        manifest_file_sha256: found,
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, ModelError> {
    if !checksum_holds(bytes) {
        return Err(corrupt(path, "does not have the checksum that it states"));
    }
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|error| corrupt(path, &format!("is not as expected ({error})")))?;
    if manifest.format != FORMAT {
        let reason = format!(
            "has format {}, and format {FORMAT} is read",
            manifest.format
        );
        return Err(corrupt(path, &reason));
    }
    Ok(manifest)
}

/// Whether a manifest is, to the byte, the one whose checksum it states: its first field, taken over all other bytes.
fn checksum_holds(bytes: &[u8]) -> bool {
    const PREFIX: &[u8] = b"{\n  \"checksum\": \"";
    const DIGITS: usize = 64;
    let parts = bytes
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_at_checked(DIGITS))
        .and_then(|(digits, rest)| Some((digits, rest.strip_suffix(b"\n")?)));
    parts.is_some_and(|(digits, rest)| {
        let mut hash = Hashing::new(io::sink());
        // A sink takes everything.
        hash.write_all(PREFIX).is_ok()
            && hash.write_all(rest).is_ok()
            && hash.finish().1.as_bytes() == digits
    })
}

fn corrupt(path: &Path, reason: &str) -> ModelError {
    ModelError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}
