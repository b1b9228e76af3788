//! Small models, and storages to publish them to.

use super::server::{BUCKET, S3Server, credentials};
use super::supabase_server::{self, SupabaseServer};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twotower_core::feature::{Catalogue, Preprocessing, PreprocessingOptions, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::split::SplitKind;
use twotower_store::model_files::{self, ModelInfo, TrainedOn};
use twotower_store::model_storage::signature::{PublicKey, SigningKey};
use twotower_store::model_storage::{
    Address, FetchOptions, Fetched, ModelStorage, Progress, PublishOptions, Published,
    StorageError, StorageSettings,
};
use uuid::Uuid;

pub(super) const FILES: [&str; 8] = [
    "user_tower.onnx",
    "user_tower.safetensors",
    "item_tower.onnx",
    "preprocessing.json",
    "preprocessing.pkl",
    "weights.safetensors",
    "optimizer.safetensors",
    "model_card.md",
];

pub(super) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

pub(super) fn trusted(n: u8) -> Vec<PublicKey> {
    vec![key(n).public()]
}

/// Writes `root/<version>`, a model whose every file depends on the version.
pub(super) fn save(root: &Path, version: i64, optimizer: &[u8]) -> PathBuf {
    let videos = (1..=3).map(|n| Video {
        id: Uuid::from_u128(n),
        genre: Some(format!("genre {version}")),
        ..Video::default()
    });
    let options = PreprocessingOptions {
        min_term_videos: 1,
        ngram_buckets: 8,
    };
    let catalogue = Catalogue::new(videos).unwrap();
    let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
    let hyperparameters = Hyperparameters {
        embedding_dim: 4,
        user_hidden: 3,
        item_hidden: 3,
        ..Hyperparameters::default()
    };
    let mut model = Model::zeros(hyperparameters, preprocessing);
    for (_, _, data) in model.tensors_mut() {
        for (n, x) in data.iter_mut().enumerate() {
            *x = ((n as i64 + version) as f32).sin();
        }
    }
    let info = ModelInfo {
        version,
        created_at_us: 1,
        trained_on: TrainedOn {
            cut_off_us: None,
            learned_until_us: None,
            learned_since_us: None,
            fine_tuned_from: None,
            snapshot_sha256: "ab".into(),
            likes: 3,
            skips: 4,
            users: 5,
            videos: 6,
            split: SplitKind::Temporal,
            erasures_seen: None,
            origin: None,
            max_age_days: None,
        },
        metrics: serde_json::json!({}),
        training_log: serde_json::json!([]),
        card: format!("# Model {version}\n"),
    };
    model_files::save(root, &model, optimizer, &info).unwrap().0
}

/// A folder of models to publish from and one to fetch to, with a storage between them.
pub(super) struct Place {
    pub(super) here: tempfile::TempDir,
    pub(super) there: tempfile::TempDir,
    pub(super) storage: ModelStorage,
    /// Files of the storage.
    pub(super) folder: PathBuf,
    pub(super) server: Option<S3Server>,
    pub(super) supabase: Option<SupabaseServer>,
}

impl Place {
    pub(super) fn on_folder() -> Self {
        let there = tempfile::tempdir().unwrap();
        let folder = there.path().join("deep/stör age");
        let settings = settings(Address::Folder(folder.clone()), None);
        Self {
            here: tempfile::tempdir().unwrap(),
            storage: ModelStorage::open(&settings, |_| None).unwrap(),
            there,
            folder,
            server: None,
            supabase: None,
        }
    }

    pub(super) fn on_s3() -> Self {
        let server = S3Server::start();
        Self {
            here: tempfile::tempdir().unwrap(),
            there: tempfile::tempdir().unwrap(),
            storage: bucket(&server),
            folder: server.file("pre/fix"),
            server: Some(server),
            supabase: None,
        }
    }

    /// The bucket does not exist yet.
    pub(super) fn on_supabase() -> Self {
        let server = SupabaseServer::start();
        Self {
            here: tempfile::tempdir().unwrap(),
            there: tempfile::tempdir().unwrap(),
            storage: supabase_bucket(&server),
            folder: server.file("pre/fix"),
            server: None,
            supabase: Some(server),
        }
    }

    /// One of each kind.
    pub(super) fn all() -> [Self; 3] {
        [Self::on_folder(), Self::on_s3(), Self::on_supabase()]
    }

    /// The same storage as another process sees it.
    pub(super) fn second_storage(&self) -> Option<ModelStorage> {
        let s3 = self.server.as_ref().map(bucket);
        s3.or_else(|| self.supabase.as_ref().map(supabase_bucket))
    }

    pub(super) fn save(&self, version: i64) -> PathBuf {
        let optimizer = format!("optimizer of {version}");
        save(self.here.path(), version, optimizer.as_bytes())
    }

    pub(super) async fn publish(&self, version: i64) -> Result<Published, StorageError> {
        self.publish_until(version, u64::MAX).await
    }

    /// Publishes, signed with key 1, and is interrupted after this many pieces.
    pub(super) async fn publish_until(
        &self,
        version: i64,
        pieces: u64,
    ) -> Result<Published, StorageError> {
        let count = std::sync::atomic::AtomicU64::new(0);
        let watch = |_: Progress<'_>| {
            if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < pieces {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let options = PublishOptions {
            folder: &self.here.path().join(version.to_string()),
            signing_key: Some(&key(1)),
            dry_run: false,
        };
        self.storage.publish(&options, &watch).await
    }

    pub(super) fn output(&self) -> PathBuf {
        self.there.path().join("models")
    }

    pub(super) async fn fetch(&self, trusted: &[PublicKey]) -> Result<Fetched, StorageError> {
        let output = self.output();
        let options = FetchOptions {
            version: None,
            output_dir: &output,
            trusted,
            allow_unsigned: trusted.is_empty(),
            embedding_dim: None,
        };
        self.storage.fetch(&options, &go_on).await
    }

    /// The file behind a key.
    pub(super) fn stored(&self, version: i64, name: &str) -> PathBuf {
        self.folder.join(format!("models/{version}/{name}"))
    }

    /// Checks that a fetch left nothing that could pass for a model.
    pub(super) fn nothing_fetched(&self) {
        for entry in fs::read_dir(self.output()).into_iter().flatten() {
            assert_eq!(entry.unwrap().file_name(), ".fetch");
        }
        let left = fs::read_dir(self.output().join(".fetch"))
            .into_iter()
            .flatten();
        assert_eq!(left.count(), 0);
    }
}

pub(super) fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(super) fn bucket(server: &S3Server) -> ModelStorage {
    bucket_until(server, Duration::from_mins(2))
}

/// With another deadline.
pub(super) fn bucket_until(server: &S3Server, deadline: Duration) -> ModelStorage {
    let address = Address::parse(&format!("s3://{BUCKET}/pre/fix")).unwrap();
    let settings = StorageSettings {
        deadline,
        ..settings(address, Some(server.endpoint()))
    };
    ModelStorage::open(&settings, credentials).unwrap()
}

pub(super) fn supabase_bucket(server: &SupabaseServer) -> ModelStorage {
    ModelStorage::open(&supabase_settings(server), supabase_server::variables).unwrap()
}

pub(super) fn supabase_settings(server: &SupabaseServer) -> StorageSettings {
    let address = Address::parse(&format!("supabase://{BUCKET}/pre/fix")).unwrap();
    StorageSettings {
        supabase_url: Some(server.url()),
        ..settings(address, None)
    }
}

pub(super) fn settings(address: Address, endpoint: Option<String>) -> StorageSettings {
    StorageSettings {
        address,
        endpoint,
        region: Some("us-east-1".into()),
        supabase_url: None,
        deadline: Duration::from_mins(2),
    }
}
