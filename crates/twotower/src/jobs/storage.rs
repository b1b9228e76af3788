//! Publishes models to a storage, fetches them from it, and handles the keys that sign them.

use crate::files::lock_folder;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use anyhow::Context;
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use thiserror::Error;
use twotower_store::create_private;
use twotower_store::model_storage::signature::{KeyError, PublicKey, SigningKey};
use twotower_store::model_storage::{
    self, Address, FETCH_FOLDER, FetchOptions, Fetched, ModelStorage, PublishOptions, Published,
    StorageSettings,
};

/// Wrong usage of the commands on storage.
#[derive(Debug, Error)]
pub(crate) enum StorageUsage {
    /// No storage is named.
    #[error("no storage is named: give its address (`{flag}`, or `url` of section [storage])")]
    NoAddress {
        /// The command's flag.
        flag: &'static str,
    },
    /// No key to sign with.
    #[error(
        "no signing key is given: set TWOTOWER_SIGNING_KEY_FILE or --signing-key (`twotower keys generate` makes one), or say \
         --unsigned"
    )]
    NoSigningKey,
    /// A key that cannot be used.
    #[error("{place}: {cause}")]
    Key {
        /// Flag, variable or file of the key.
        place: String,
        /// What is wrong with it.
        cause: KeyError,
    },
}

/// Uploads a model. It is not signed if there is no key.
///
/// # Errors
/// [`model_storage::StorageError`]
pub(crate) async fn publish(
    settings: &StorageSettings,
    folder: &Path,
    signing_key: Option<&SigningKey>,
    dry_run: bool,
    interrupt: &Interrupt,
) -> anyhow::Result<Published> {
    let storage = ModelStorage::open(settings, variable)?;
    let options = PublishOptions {
        folder,
        signing_key,
        dry_run,
    };
    let watched = Watched::new("publish", interrupt);
    let published = storage
        .publish(&options, &|progress| watched.see(progress))
        .await;
    watched.finish();
    Ok(published?)
}

/// Options of a fetch.
#[derive(Debug)]
pub(crate) struct FetchJob {
    /// Storage.
    pub(crate) settings: StorageSettings,
    /// Version to fetch; `None` fetches the newest.
    pub(crate) version: Option<i64>,
    /// Folder of models.
    pub(crate) output_dir: PathBuf,
    /// The model must be signed by one of these keys.
    pub(crate) trusted: Vec<PublicKey>,
    /// Accept any model if `trusted` is empty.
    pub(crate) allow_unsigned: bool,
    /// Expected dimension of its embeddings.
    pub(crate) embedding_dim: Option<usize>,
}

/// Downloads a model.
///
/// # Errors
/// [`model_storage::StorageError`], or another process fetches into the same folder.
pub(crate) async fn fetch(job: &FetchJob, interrupt: &Interrupt) -> anyhow::Result<Fetched> {
    let storage = ModelStorage::open(&job.settings, variable)?;
    let _lock = lock_folder(&job.output_dir.join(FETCH_FOLDER), "fetch")?;
    let options = FetchOptions {
        version: job.version,
        output_dir: &job.output_dir,
        trusted: &job.trusted,
        allow_unsigned: job.allow_unsigned,
        embedding_dim: job.embedding_dim,
    };
    let watched = Watched::new("fetch", interrupt);
    let fetched = storage
        .fetch(&options, &|progress| watched.see(progress))
        .await;
    watched.finish();
    Ok(fetched?)
}

/// Shows progress, and ends the work when the user asks to stop.
struct Watched<'a> {
    title: &'static str,
    progress: Mutex<Option<Progress>>,
    interrupt: &'a Interrupt,
}

impl<'a> Watched<'a> {
    fn new(title: &'static str, interrupt: &'a Interrupt) -> Self {
        Self {
            title,
            progress: Mutex::new(None),
            interrupt,
        }
    }

    fn see(&self, seen: model_storage::Progress<'_>) -> ControlFlow<()> {
        if let Ok(mut progress) = self.progress.lock() {
            progress
                .get_or_insert_with(|| Progress::start(self.title, seen.total))
                .set(seen.done, seen.file);
        }
        if self.interrupt.is_set() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn finish(self) {
        if let Ok(Some(progress)) = self.progress.into_inner() {
            progress.finish("transferred and checked");
        }
    }
}

/// The address of the storage, from a flag or the configuration.
///
/// # Errors
/// [`StorageUsage::NoAddress`], or the text is no address.
pub(crate) fn address(text: Option<&str>, flag: &'static str) -> anyhow::Result<Address> {
    Ok(Address::parse(
        text.ok_or(StorageUsage::NoAddress { flag })?,
    )?)
}

/// The key to sign with: from `file`, else from `TWOTOWER_SIGNING_KEY`.
///
/// # Errors
/// If the file cannot be read, or holds no key. No message contains the key.
pub(crate) fn signing_key(file: Option<&Path>) -> anyhow::Result<Option<SigningKey>> {
    const VARIABLE: &str = "TWOTOWER_SIGNING_KEY";
    match file {
        Some(file) => read_signing_key(file).map(Some),
        None => match variable(VARIABLE).filter(|text| !text.trim().is_empty()) {
            None => Ok(None),
            Some(text) => parse_signing_key(&text, VARIABLE.into()).map(Some),
        },
    }
}

/// The private key in a file; warns if others can read it.
///
/// # Errors
/// As [`signing_key`].
pub(crate) fn read_signing_key(file: &Path) -> anyhow::Result<SigningKey> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("read the signing key {}", file.display()))?;
    warn_if_shared(file);
    parse_signing_key(&text, file.display().to_string())
}

fn parse_signing_key(text: &str, place: String) -> anyhow::Result<SigningKey> {
    let key = SigningKey::parse(text);
    Ok(key.map_err(|cause| StorageUsage::Key { place, cause })?)
}

#[cfg(unix)]
fn warn_if_shared(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{} can be read by others than its owner: `chmod 600` it",
            file.display()
        );
    }
}

#[cfg(not(unix))]
fn warn_if_shared(_: &Path) {}

/// Public keys, from flags or the configuration.
///
/// # Errors
/// [`StorageUsage::Key`] for the first text that is no key.
pub(crate) fn trusted_keys(texts: &[String]) -> Result<Vec<PublicKey>, StorageUsage> {
    let parse = |(n, text): (usize, &String)| {
        PublicKey::parse(text).map_err(|cause| StorageUsage::Key {
            place: format!("trusted key {}", n + 1),
            cause,
        })
    };
    texts.iter().enumerate().map(parse).collect()
}

/// Generates a key, and writes it to a new file that only its owner can read.
///
/// # Errors
/// If the file exists already, which stays as it is, or cannot be written.
pub(crate) fn generate_key(file: &Path) -> anyhow::Result<PublicKey> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| anyhow::anyhow!("no random numbers from the system: {error}"))?;
    let key = SigningKey::from_seed(&seed);
    let written = create_private(file).and_then(|mut created| {
        writeln!(created, "{}", key.to_text())?;
        created.sync_all()
    });
    match written {
        Ok(()) => Ok(key.public()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => anyhow::bail!(
            "{} is there already, and a key that is lost cannot be made again: name another file",
            file.display()
        ),
        Err(error) => Err(error).with_context(|| format!("write the key {}", file.display())),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
