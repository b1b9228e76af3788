use super::Api;
use super::api::{Call, Failure};
use http::Method;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Bucket {
    public: bool,
}

impl Api {
    /// Whether the bucket is public; `None` if it does not exist.
    pub(in super::super) async fn is_public(&self) -> Result<Option<bool>, Failure> {
        let call = Call::new(Method::GET, format!("/bucket/{}", self.bucket));
        match self.document::<Bucket>(&call).await {
            Ok(bucket) => Ok(Some(bucket.public)),
            Err(failure) if failure.status() == Some(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Creates the bucket as private. One that was created meanwhile is left as it is.
    pub(in super::super) async fn make_private_bucket(&self) -> Result<(), Failure> {
        let name = self.bucket.as_str();
        let call = Call::new(Method::POST, "/bucket".into())
            .json(&json!({"id": name, "name": name, "public": false}));
        match self.done(&call).await {
            Err(failure) if failure.status() == Some(409) => Ok(()),
            outcome => outcome,
        }
    }
}
