//! Models in a folder or a bucket: `models/<version>/<file>`. Each key is written once,
//! `manifest.json` last.
//!
//! A version is complete once its manifest is there. Its signature ([`signature`]) proves who
//! published it.

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

/// The secret key of a Supabase project, from the environment variable (`variable`) that publishing
/// uses, for other requests that need it.
///
/// # Errors
/// [`StorageError::ServiceKey`] if it is unset or malformed.
pub fn supabase_secret_key(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, StorageError> {
    supabase::secret(variable).map(|key| key.secret().to_owned())
}

/// Why a model could not be published or fetched. No message contains a credential.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The address cannot be parsed.
    #[error("the address of the storage {reason}")]
    Address {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The endpoint is no valid server address.
    #[error("the endpoint of the storage {reason}")]
    Endpoint {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No region is set, which S3 signatures need.
    #[error(
        "no region is known: give --region, AWS_REGION or `region` of section [storage] (a server of your own takes us-east-1)"
    )]
    Region,
    /// Credentials are missing.
    #[error(
        "{variable} is not set: a bucket wants the credentials of somebody who may read or write it"
    )]
    Credentials {
        /// The missing environment variable.
        variable: &'static str,
    },
    /// The key of the project is missing or malformed.
    #[error("the project's service key {reason}")]
    ServiceKey {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The address of the project is missing.
    #[error(
        "no Supabase project is known: give --supabase-url, SUPABASE_URL or `supabase_url` of section [storage], https://<ref>.supabase.co"
    )]
    Project,
    /// The bucket does not exist.
    #[error("there is no bucket `{bucket}`: `twotower publish` makes it, private")]
    NoBucket {
        /// Bucket name.
        bucket: String,
    },
    /// The bucket is public by its own settings.
    #[error(
        "the bucket `{bucket}` is public: make it private (dashboard: Storage, the bucket's settings), then try again; nothing was transferred"
    )]
    PublicBucket {
        /// Bucket name.
        bucket: String,
    },
    /// The model on this machine cannot be read or written.
    #[error(transparent)]
    Model(#[from] ModelFilesError),
    /// The storage refused a request, or did not answer.
    #[error("{doing} {key}: {reason}")]
    Storage {
        /// What was attempted.
        doing: &'static str,
        /// The key or URL concerned.
        key: String,
        /// The reason given.
        reason: String,
        /// Whether a retry may succeed.
        outage: bool,
    },
    /// A key of a published version holds other bytes than those to be published.
    #[error(
        "{key} is there with other bytes: what is published never changes. Train a new version, or, if this one was never complete, delete its keys first"
    )]
    Conflict {
        /// The key.
        key: String,
    },
    /// The bucket can be read without credentials.
    #[error(
        "the storage is public: {url} answers {status} without credentials. Make the bucket private (and its policies, and any \
         site in front of it), then try again; nothing was transferred"
    )]
    Public {
        /// The URL that answered.
        url: String,
        /// The answer.
        status: u16,
    },
    /// Whether the bucket is public could not be determined.
    #[error(
        "whether the storage is private cannot be told: without credentials, {url} answers {answer}, where 400, 401, 403 or 404 \
         would be a refusal. Check the address of the server, and the region"
    )]
    Undetermined {
        /// The URL that was requested.
        url: String,
        /// The answer.
        answer: String,
    },
    /// There is nothing to fetch.
    #[error("{storage} holds no complete version: publish one with `twotower publish`")]
    Empty {
        /// The place.
        storage: String,
    },
    /// The requested version does not exist there.
    #[error(
        "{storage} holds no complete version {version}: without --version the newest one is taken"
    )]
    Missing {
        /// The place.
        storage: String,
        /// The requested version.
        version: i64,
    },
    /// No key is trusted.
    #[error(
        "no trusted key is known: name one (--trusted-key or `trusted_keys` of section [storage]), or say --allow-unsigned"
    )]
    NoTrustedKeys,
    /// The signature is missing.
    #[error(
        "{key} is missing, and only signed models are taken where trusted keys are set: publish with --signing-key"
    )]
    Unsigned {
        /// Key under which it would be.
        key: String,
    },
    /// The signature is not valid.
    #[error("{key}: {cause}; nothing was taken over")]
    Signature {
        /// Key of the signature.
        key: String,
        /// What is wrong with it.
        cause: SignatureError,
    },
    /// A file differs from the manifest.
    #[error("{key} {reason}: what is stored was damaged or exchanged; nothing was taken over")]
    Damaged {
        /// The file.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model has another dimension than requested.
    #[error(
        "version {version} has {actual} dimensions, expected {expected}; nothing was taken over"
    )]
    Dimension {
        /// Version number.
        version: i64,
        /// Requested dimension.
        expected: usize,
        /// Dimension of the model.
        actual: usize,
    },
    /// Another model with this version number is here already.
    #[error(
        "{path} holds another model than version {version} of {storage}: numbers come from one database each. Use another --output-dir"
    )]
    Differs {
        /// The folder.
        path: PathBuf,
        /// Version.
        version: i64,
        /// The place it was fetched from.
        storage: String,
    },
    /// The total time limit has passed.
    #[error("not done within {} s: run it again, what is there already is kept (`deadline_minutes` of section [storage])", .0.as_secs())]
    Deadline(Duration),
    /// The caller asked to stop.
    #[error("interrupted; run it again to go on")]
    Interrupted,
}

impl StorageError {
    /// Whether the storage is unreachable, so that the same command may succeed later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Storage { outage: true, .. } | Self::Deadline(_))
    }

    /// Whether the command line or the configuration is at fault.
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
