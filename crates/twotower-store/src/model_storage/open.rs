//! Opens the storage behind an address.

use super::address::{Address, Endpoint};
use super::connection::Connector;
use super::privacy::Outside;
use super::supabase::{self, Api, SupabaseObjects};
use super::{Credentials, ModelStorage, StorageError};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

/// Location of the models, and how to connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// Folder or bucket.
    pub address: Address,
    /// Endpoint of the bucket's server; AWS if `None`.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Supabase project of a bucket that is used over the REST API, `https://<ref>.supabase.co`.
    pub supabase_url: Option<String>,
    /// Deadline of a whole command.
    pub deadline: Duration,
}

impl ModelStorage {
    /// Prepares a storage without connecting. `variable` reads the environment, for the credentials
    /// of a bucket.
    ///
    /// # Errors
    /// [`StorageError::is_usage`]
    pub fn open(
        settings: &StorageSettings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        match &settings.address {
            Address::Folder(folder) => {
                let refuse = |reason| StorageError::Address { reason };
                let absolute = std::path::absolute(folder)
                    .map_err(|_| refuse("names a folder that cannot be found from here"))?;
                let prefix = Key::from_absolute_path(&absolute)
                    .map_err(|_| refuse("names a folder whose path cannot be used"))?;
                Ok(Self {
                    objects: Arc::new(LocalFileSystem::new().with_fsync(true)),
                    outside: None,
                    deadline: settings.deadline,
                    name: folder.display().to_string(),
                    prefix,
                    supabase: None,
                    secrets: Vec::new(),
                })
            }
            Address::Supabase { bucket, prefix } => {
                Self::supabase(settings, bucket, prefix, variable)
            }
            Address::Bucket { bucket, prefix } => {
                let region = settings.region.as_deref().ok_or(StorageError::Region)?;
                let label = |c: char| c.is_ascii_alphanumeric() || c == '-';
                if region.is_empty() || !region.chars().all(label) {
                    return Err(StorageError::Region);
                }
                let endpoint = match &settings.endpoint {
                    Some(text) => Endpoint::parse(text)?,
                    None => Endpoint::aws(region),
                };
                let credentials = Credentials::from_variables(variable)?;
                Self::bucket(settings, bucket, prefix, region, &endpoint, &credentials)
            }
        }
    }

    fn bucket(
        settings: &StorageSettings,
        bucket: &str,
        prefix: &Key,
        region: &str,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<Self, StorageError> {
        let connector = Connector {
            plain: endpoint.plain,
        };
        let name = format!("s3://{bucket}/{prefix}");
        let name = name.trim_end_matches('/').to_owned();
        let unusable = |reason: String| StorageError::Storage {
            doing: "prepare",
            key: name.clone(),
            reason,
            outage: false,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_endpoint(&endpoint.url)
            .with_virtual_hosted_style_request(false)
            .with_allow_http(endpoint.plain)
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(&credentials.secret_access_key)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retries())
            .with_http_connector(connector);
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token);
        }
        let objects = builder
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let client = connector
            .client()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            objects: Arc::new(objects),
            outside: Some(Outside::of_s3(client, endpoint, bucket)),
            deadline: settings.deadline,
            name,
            prefix: prefix.clone(),
            supabase: None,
            secrets: credentials.secrets(),
        })
    }

    fn supabase(
        settings: &StorageSettings,
        bucket: &str,
        prefix: &Key,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let url = settings.supabase_url.as_deref();
        let project = Endpoint::parse(url.ok_or(StorageError::Project)?)?;
        let key = supabase::secret(&variable)?;
        let publishable = supabase::publishable(&variable);
        let name = format!("supabase://{bucket}/{prefix}");
        let name = name.trim_end_matches('/').to_owned();
        let connector = Connector {
            plain: project.plain,
        };
        let client = connector.client().map_err(|error| StorageError::Storage {
            doing: "prepare",
            key: name.clone(),
            reason: error.to_string(),
            outage: false,
        })?;
        let secrets = vec![key.secret().to_owned()];
        let api = Arc::new(Api::new(client.clone(), &project, bucket, key));
        Ok(Self {
            outside: Some(Outside::of_supabase(client, &api, publishable)),
            objects: Arc::new(SupabaseObjects(Arc::clone(&api))),
            deadline: settings.deadline,
            name,
            prefix: prefix.clone(),
            supabase: Some(api),
            secrets,
        })
    }
}

/// Number of tries of one request to S3. All of them fit in the 15 minutes for which the signature
/// of the first is valid.
fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_mins(2),
    }
}
