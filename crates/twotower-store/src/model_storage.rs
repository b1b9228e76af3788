//! Models in a folder or a bucket: `models/<version>/<file>`, each key written once, `manifest.json` last.
//!
//! A version is complete once its manifest is there. Its signature ([`signature`]) says who published it.

mod address;

mod credentials;

mod connection;

mod supabase;

mod storage;

mod open;

pub mod signature;

mod privacy;

mod upload;

mod publish;

mod fetch;

pub use address::Address;
pub use credentials::Credentials;
pub use fetch::{FETCH_FOLDER, FetchOptions, Fetched, verify_folder};
pub use open::StorageSettings;
pub use publish::{PublishOptions, Published};
pub use storage::{ModelStorage, Progress, Watch};

use crate::model_files::ModelFilesError;
use signature::SignatureError;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// The secret key of a Supabase project, as publishing takes it from the environment (`variable`), for what else is asked with it.
///
/// # Errors
/// [`StorageError::ServiceKey`] if none is set, or what is set is none.
pub fn supabase_secret_key(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, StorageError> {
    supabase::secret(variable).map(|key| key.secret().to_owned())
}

/// Why a model was not published or fetched. No message holds a credential.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Not an address.
    #[error("the address of the storage {reason}")]
    Address {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a server.
    #[error("the endpoint of the storage {reason}")]
    Endpoint {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// S3 signs with a region.
    #[error(
        "no region is known: give --region, AWS_REGION or `region` of section [storage] (a server of your own takes us-east-1)"
    )]
    Region,
    /// A bucket is not asked without credentials.
    #[error(
        "{variable} is not set: a bucket wants the credentials of somebody who may read or write it"
    )]
    Credentials {
        /// The variable that is missing.
        variable: &'static str,
    },
    /// A project is not asked without its key.
    #[error("the project's service key {reason}")]
    ServiceKey {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A bucket of a project has no address without the project's.
    #[error(
        "no Supabase project is known: give --supabase-url, SUPABASE_URL or `supabase_url` of section [storage], https://<ref>.supabase.co"
    )]
    Project,
    /// A bucket that is not there.
    #[error("there is no bucket `{bucket}`: `twotower publish` makes it, private")]
    NoBucket {
        /// Bucket.
        bucket: String,
    },
    /// A bucket that is public by its own settings.
    #[error(
        "the bucket `{bucket}` is public: make it private (dashboard: Storage, the bucket's settings), then try again; nothing was transferred"
    )]
    PublicBucket {
        /// Bucket.
        bucket: String,
    },
    /// The model on this machine.
    #[error(transparent)]
    Model(#[from] ModelFilesError),
    /// The storage refused, or did not answer.
    #[error("{doing} {key}: {reason}")]
    Storage {
        /// What was tried.
        doing: &'static str,
        /// With what.
        key: String,
        /// What it said.
        reason: String,
        /// Whether another try may help.
        outage: bool,
    },
    /// A key of a published version holds other bytes than were to be published.
    #[error(
        "{key} is there with other bytes: what is published never changes. Train a new version, or, if this one was never complete, delete its keys first"
    )]
    Conflict {
        /// The key.
        key: String,
    },
    /// Anybody may read it.
    #[error(
        "the storage is public: {url} answers {status} without credentials. Make the bucket private (and its policies, and any \
         site in front of it), then try again; nothing was transferred"
    )]
    Public {
        /// What answered.
        url: String,
        /// How.
        status: u16,
    },
    /// Neither yes nor no.
    #[error(
        "whether the storage is private cannot be told: without credentials, {url} answers {answer}, where 400, 401, 403 or 404 \
         would be a refusal. Check the address of the server, and the region"
    )]
    Undetermined {
        /// What was asked.
        url: String,
        /// What it said.
        answer: String,
    },
    /// Nothing to fetch.
    #[error("{storage} holds no complete version: publish one with `twotower publish`")]
    Empty {
        /// Where.
        storage: String,
    },
    /// Not the version that was asked for.
    #[error(
        "{storage} holds no complete version {version}: without --version the newest one is taken"
    )]
    Missing {
        /// Where.
        storage: String,
        /// What was asked for.
        version: i64,
    },
    /// Nobody is trusted.
    #[error(
        "no trusted key is known: name one (--trusted-key or `trusted_keys` of section [storage]), or say --allow-unsigned"
    )]
    NoTrustedKeys,
    /// Without signature.
    #[error(
        "{key} is missing, and only signed models are taken where trusted keys are set: publish with --signing-key"
    )]
    Unsigned {
        /// Where it would be.
        key: String,
    },
    /// With one that does not count.
    #[error("{key}: {cause}; nothing was taken over")]
    Signature {
        /// The signature.
        key: String,
        /// What is wrong with it.
        cause: SignatureError,
    },
    /// A file is not what the manifest says.
    #[error("{key} {reason}: what is stored was damaged or exchanged; nothing was taken over")]
    Damaged {
        /// The file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model is not of the dimension that is wanted.
    #[error(
        "version {version} has {actual} dimensions, expected {expected}; nothing was taken over"
    )]
    Dimension {
        /// Version.
        version: i64,
        /// What was asked for.
        expected: usize,
        /// What it has.
        actual: usize,
    },
    /// Another model of this number is here.
    #[error(
        "{path} holds another model than version {version} of {storage}: numbers come from one database each. Use another --output-dir"
    )]
    Differs {
        /// The folder.
        path: PathBuf,
        /// Version.
        version: i64,
        /// Where from.
        storage: String,
    },
    /// All of it took too long.
    #[error("not done within {} s: run it again, what is there already is kept (`deadline_minutes` of section [storage])", .0.as_secs())]
    Deadline(Duration),
    /// Somebody asked to stop.
    #[error("interrupted; run it again to go on")]
    Interrupted,
}

impl StorageError {
    /// Whether the storage is out of reach, and the same command may succeed later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Storage { outage: true, .. } | Self::Deadline(_))
    }

    /// Whether the command line or the configuration is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Address { .. }
                | Self::Endpoint { .. }
                | Self::Region
                | Self::Credentials { .. }
                | Self::ServiceKey { .. }
                | Self::Project
                | Self::NoTrustedKeys
        )
    }
}
