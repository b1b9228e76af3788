//! Addresses of model storage, as an operator writes them.

use super::StorageError;
use crate::network::is_loopback;
use http::Uri;
use object_store::path::Path as Key;
use std::path::PathBuf;

/// Suffix of the path of Supabase Storage's S3 endpoint, used to derive the URLs of public buckets.
const SUPABASE_S3: &str = "/storage/v1/s3";

/// A folder, a bucket of a server that speaks S3, or one of a Supabase project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A local or mounted folder.
    Folder(PathBuf),
    /// A bucket and a key prefix.
    Bucket {
        /// Bucket.
        bucket: String,
        /// May be empty.
        prefix: Key,
    },
    /// A bucket of a Supabase project, reached by its REST API, and a key prefix.
    Supabase {
        /// Bucket.
        bucket: String,
        /// May be empty.
        prefix: Key,
    },
}

const SUPABASE: &str = "supabase://";

impl Address {
    /// Parses `s3://bucket`, `s3://bucket/prefix`, the same with `supabase`, `file:///folder`, or a
    /// folder's path.
    ///
    /// # Errors
    /// [`StorageError::Address`], which does not quote a possible password.
    pub fn parse(text: &str) -> Result<Self, StorageError> {
        let refuse = |reason: &'static str| StorageError::Address { reason };
        if text.trim().is_empty() {
            return Err(refuse("is empty"));
        }
        if let Some(path) = text.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(refuse("names no folder: write file:///folder"));
            }
            return Ok(Self::Folder(path.into()));
        }
        if let Some(rest) = text.strip_prefix(SUPABASE) {
            let (bucket, prefix) = bucket_of(rest)?;
            return Ok(Self::Supabase { bucket, prefix });
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = bucket_of(rest)?;
            return Ok(Self::Bucket { bucket, prefix });
        }
        if text.contains("://") {
            return Err(refuse(
                "has a scheme other than s3, supabase and file: the server goes into --endpoint or --supabase-url, the bucket \
                 into s3://bucket/prefix or supabase://bucket/prefix",
            ));
        }
        Ok(Self::Folder(text.into()))
    }
}

/// Bucket and prefix. Only characters that no URL escapes are allowed, so that the signed key is
/// also the key for requests without a signature.
fn bucket_of(rest: &str) -> Result<(String, Key), StorageError> {
    let refuse = |reason: &'static str| StorageError::Address { reason };
    if rest.contains(['@', '?', '#']) {
        return Err(refuse(
            "holds more than bucket and prefix: credentials are read from the environment alone",
        ));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if bucket.is_empty() || bucket.starts_with('.') || !plain(bucket) {
        return Err(refuse(
            "names no bucket: write s3://bucket/prefix or supabase://bucket/prefix",
        ));
    }
    let prefix = prefix.trim_end_matches('/');
    let parts = prefix.split('/').filter(|_| !prefix.is_empty());
    if parts
        .clone()
        .any(|part| part.is_empty() || part.starts_with('.') || !plain(part))
    {
        return Err(refuse(
            "has a prefix of other characters than letters, digits and -_.",
        ));
    }
    Ok((bucket.into(), parts.collect()))
}

/// The server of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Scheme, host, port and path, without a slash at the end.
    pub(super) url: String,
    /// Whether it is unencrypted; only for this machine.
    pub(super) plain: bool,
}

impl Endpoint {
    pub(super) fn parse(text: &str) -> Result<Self, StorageError> {
        let refuse = |reason: &'static str| StorageError::Endpoint { reason };
        let uri: Uri = text
            .parse()
            .map_err(|_| refuse("is no URL: write https://host or https://host/path"))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refuse("is no URL: write https://host or https://host/path"));
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(refuse(
                "holds more than host and path: credentials are read from the environment alone",
            ));
        }
        let plain = match scheme {
            "https" => false,
            "http" if is_loopback(authority.host()) => true,
            "http" => {
                return Err(refuse(
                    "is not encrypted, which is accepted on this machine alone: write https://",
                ));
            }
            _ => return Err(refuse("is neither https nor http")),
        };
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            url: format!("{scheme}://{authority}{path}"),
            plain,
        })
    }

    /// The endpoint of AWS.
    pub(super) fn aws(region: &str) -> Self {
        Self {
            url: format!("https://s3.{region}.amazonaws.com"),
            plain: false,
        }
    }

    /// Base URL for reading a public bucket of Supabase without credentials.
    pub(super) fn supabase_public(&self, bucket: &str) -> Option<String> {
        let project = self.url.strip_suffix(SUPABASE_S3)?;
        Some(format!("{project}/storage/v1/object/public/{bucket}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_each_kind() {
        let bucket = |prefix: &str| Address::Bucket {
            bucket: "models".into(),
            prefix: Key::from(prefix),
        };
        for (text, expected) in [
            ("s3://models", bucket("")),
            ("s3://models/", bucket("")),
            ("s3://models/a/b-c_1.d/", bucket("a/b-c_1.d")),
            (
                "supabase://models/a",
                Address::Supabase {
                    bucket: "models".into(),
                    prefix: Key::from("a"),
                },
            ),
            ("file:///srv/models", Address::Folder("/srv/models".into())),
            ("somewhere/else", Address::Folder("somewhere/else".into())),
        ] {
            assert_eq!(Address::parse(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "s3://",
            "s3:///x",
            "s3://..",
            "s3://models/../x",
            "supabase://",
            "supabase://KEY:hunter2@models",
            "s3://models//x",
            "s3://models/a b",
            "https://host/models",
            "s3://KEY:hunter2@models",
            "file://host/x",
            "gs://models",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_loopback_goes_without_encryption() {
        for text in [
            "http://127.0.0.1:9000",
            "http://localhost:1/x",
            "http://[::1]:9000/",
        ] {
            assert!(Endpoint::parse(text).unwrap().plain, "{text}");
        }
        let supabase = Endpoint::parse("https://ref.storage.supabase.co/storage/v1/s3/").unwrap();
        assert!(!supabase.plain);
        assert_eq!(
            supabase.supabase_public("models").unwrap(),
            "https://ref.storage.supabase.co/storage/v1/object/public/models"
        );
        for text in [
            "http://example.org",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "127.0.0.1",
            "/path",
            "https://user:hunter2@host",
            "https://host?key=hunter2",
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
