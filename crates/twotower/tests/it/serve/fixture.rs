//! A small catalogue with a small model in a database file, and a server on it.

use super::client::Client;
use crate::support::{fresh_postgres, migrated_postgres, sql};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use twotower::serve::auth::{Config, Secret};
use twotower::serve::{ConsoleAccess, CorsOrigins, Limits, Policy, ServeConfig, Server};
use twotower_core::feature::{Catalogue, Preprocessing, PreprocessingOptions, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::split::SplitKind;
use twotower_store::model_files::{self, ModelInfo, TrainedOn};
use twotower_store::{
    Activation, ActivationKind, ConnectOptions, EmbeddingRow, EventPolicy, InteractionKind,
    InteractionRow, ModelState, NewModel, Store, VectorTable,
};
use uuid::Uuid;

pub(crate) const SECRET: &str = "a test's secret, known to everybody who reads this";
pub(crate) const VIDEOS: u128 = 40;

pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) runtime: Runtime,
    pub(crate) store: Store,
}

/// Id of video `n` of `1..=VIDEOS`.
pub(crate) fn video(n: u128) -> Uuid {
    Uuid::from_u128(0x0a00_0000_0000_4000_8000_0000_0000_0000 + n)
}

/// Id of user `n`.
pub(crate) fn user(n: u128) -> Uuid {
    Uuid::from_u128(0x0b00_0000_0000_4000_8000_0000_0000_0000 + n)
}

impl Fixture {
    /// Videos and likes: video n is liked by users 1..=(12 - n), so video 1 has the most likes.
    pub(super) fn without_model() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        Self::in_database(folder, url)
    }

    /// Like `without_model`, in PostgreSQL.
    pub(crate) fn on_postgres() -> Self {
        Self::in_database(tempfile::tempdir().unwrap(), migrated_postgres())
    }

    fn in_database(folder: TempDir, url: String) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(async {
            let store = Store::connect(&url, ConnectOptions::default())
                .await
                .unwrap();
            store.migrate().await.unwrap();
            store.write_videos(&catalogue()).await.unwrap();
            store
        });
        let fixture = Self {
            folder,
            url,
            runtime,
            store,
        };
        for n in 1..12 {
            for who in 1..=(12 - n) {
                fixture.interact(InteractionKind::Like, user(who), &[video(n)]);
            }
        }
        fixture
    }

    /// With an active model as well.
    pub(crate) fn new() -> Self {
        let fixture = Self::without_model();
        fixture.train(1);
        fixture
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    pub(crate) fn interact(&self, kind: InteractionKind, user: Uuid, videos: &[Uuid]) {
        let rows: Vec<_> = videos
            .iter()
            .zip(1_700_000_000_000_000..)
            .map(|(&video, at_us)| InteractionRow { user, video, at_us })
            .collect();
        let written = self.store.write_interactions(kind, &rows);
        self.runtime.block_on(written).unwrap();
    }

    /// Saves a model with random weights, loads its vectors, and activates it. Returns its version.
    pub(crate) fn train(&self, seed: u64) -> i64 {
        let version = self.load(seed);
        self.activate(version);
        version
    }

    /// Like `train`, without activating it.
    pub(crate) fn load(&self, seed: u64) -> i64 {
        self.runtime.block_on(async {
            let version = self.store.next_model_version().await.unwrap();
            let model = model(seed);
            let record = save_model(&self.models(), &model, version);
            self.store.register_model(&record).await.unwrap();
            let videos = catalogue();
            let vectors = model.embed_videos(&videos).unwrap();
            let rows: Vec<_> = videos
                .iter()
                .enumerate()
                .map(|(row, video)| EmbeddingRow {
                    id: video.id,
                    fingerprint: row as i64,
                    vector: vectors.row(row),
                })
                .collect();
            let written = self
                .store
                .write_embeddings(VectorTable::Videos, version, &rows);
            written.await.unwrap();
            let tower = self.store.write_user_tower(version, &model.user_tower);
            tower.await.unwrap();
            let state = self.store.set_model_state(version, ModelState::Candidate);
            state.await.unwrap();
            version
        })
    }

    /// Activates a version.
    pub(crate) fn activate(&self, version: i64) {
        let activation = Activation {
            version,
            kind: ActivationKind::Promotion,
            by: "test".into(),
            reason: "test".into(),
            forced: false,
        };
        let activated = self.store.activate_model(&activation);
        self.runtime.block_on(activated).unwrap();
    }

    pub(super) fn config(&self) -> ServeConfig {
        config(self.models())
    }

    pub(crate) fn serve(&self) -> Running {
        self.serve_with(self.config())
    }

    pub(super) fn serve_with(&self, config: ServeConfig) -> Running {
        Running::start(self.store.clone(), config)
    }
}

/// On a free port.
pub(crate) fn config(models: PathBuf) -> ServeConfig {
    ServeConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        models,
        auth: Config {
            secret: Some(Secret::new(SECRET).unwrap()),
            ..Config::default()
        },
        console: ConsoleAccess::Off,
        limits: Limits {
            // Tests send requests as fast as they can.
            user_rate: None,
            // A busy machine must not cause partial answers.
            soft_deadline: Duration::from_secs(2),
            user_events: None,
            ..Limits::default()
        },
        policy: Policy::default(),
        new_days: 14,
        cors: CorsOrigins::None,
        metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        events: EventPolicy::default(),
        replica: None,
    }
}

/// A server in a thread of its own; it is stopped when dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    /// Client of the metrics listener.
    pub(crate) metrics: Client,
    /// The address that opens the console, if it is served; `client` has opened it.
    pub(crate) console: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(store: Store, config: ServeConfig) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (started, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let server = Server::bind(store, config).await.unwrap();
                let addresses = (
                    server.address(),
                    server.metrics_address().unwrap(),
                    server.console_address(),
                );
                started.send(addresses).unwrap();
                let shutdown = async {
                    let _ = stopped.await;
                };
                server.serve(shutdown).await;
            });
        });
        let (address, metrics, console) = addresses.recv().expect("the server starts");
        let mut client = Client::new(address);
        if let Some(console) = &console {
            client.open_console(console);
        }
        Self {
            address,
            client,
            metrics: Client::new(metrics),
            console,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A client with its own connection.
    pub(crate) fn another_client(&self) -> Client {
        Client::new(self.address)
    }

    /// The value of a series in the metrics, named with its labels.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.get("/metrics", &[]).text;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    pub(super) fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The address in the log file of a `twotower serve` that listens on any port, once it is there.
pub(crate) fn address_in(log: &Path, server: &mut Child) -> SocketAddr {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let address = lines
            .filter(|line: &Value| line["fields"]["message"] == "serving")
            .find_map(|line| line["fields"]["address"].as_str()?.parse().ok());
        if let Some(address) = address {
            return address;
        }
        let ended = server.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {text}");
        assert!(begun.elapsed() < Duration::from_mins(1), "{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends all sessions of a PostgreSQL database, and makes it refuse new ones.
pub(super) fn out_of_reach(url: &str) {
    let (_, name) = url.rsplit_once('/').unwrap();
    let server = fresh_postgres();
    sql(
        &server,
        &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
    );
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    sql(&server, &end);
}

/// Writes the folder of a version; returns what is registered of it.
pub(crate) fn save_model(models: &Path, model: &Model, version: i64) -> NewModel {
    let info = ModelInfo {
        version,
        created_at_us: 1_732_000_000_000_000,
        trained_on: TrainedOn {
            cut_off_us: Some(1_731_999_000_000_000),
            learned_until_us: None,
            learned_since_us: None,
            fine_tuned_from: None,
            snapshot_sha256: "0".repeat(64),
            likes: 66,
            skips: 0,
            users: 11,
            videos: VIDEOS as u64,
            split: SplitKind::Temporal,
            erasures_seen: Some(0),
            origin: None,
            max_age_days: None,
        },
        metrics: metrics(),
        training_log: training_log(),
        card: "# Model\n".into(),
    };
    let (folder, _) = model_files::save(models, model, &[], &info).unwrap();
    let manifest = model_files::manifest(&folder).unwrap();
    NewModel {
        version,
        embedding_dim: model.hyperparameters.embedding_dim,
        cut_off_us: info.trained_on.cut_off_us,
        snapshot_sha256: info.trained_on.snapshot_sha256,
        hyperparameters: serde_json::to_value(&model.hyperparameters).unwrap(),
        metrics: info.metrics,
        manifest_sha256: manifest.checksum,
        erasures_seen: info.trained_on.erasures_seen,
    }
}

/// Claims of a valid token of `user`.
pub(crate) fn claims(user: Uuid) -> Value {
    json!({"sub": user, "aud": "authenticated", "exp": get_current_timestamp() + 600, "role": "authenticated"})
}

/// A valid token of the application itself.
pub(crate) fn service_token() -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"aud": "authenticated", "exp": get_current_timestamp() + 600, "role": "service_role"});
    encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// A valid token of `user`.
pub(crate) fn token(user: Uuid) -> String {
    sign(&claims(user))
}

/// Signs a token with these claims.
pub(crate) fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

pub(crate) fn catalogue() -> Vec<Video> {
    const GENRES: [&str; 5] = ["ドラマ", "Documentary", "コメディ", "Travel", "Cooking"];
    const TITLES: [&str; 5] = [
        "夜明けの街角",
        "The quiet harbour",
        "笑う門には福来たる",
        "Across the high plateau",
        "Bread, slowly",
    ];
    (1..=VIDEOS)
        .map(|n| {
            let kind = (n % 5) as usize;
            Video {
                id: video(n),
                title: format!("{} {n}", TITLES[kind]),
                description: format!("Part {n}"),
                genre: Some(GENRES[kind].into()),
                maker: Some(["North Light", "青空スタジオ", "Half Moon"][(n % 3) as usize].into()),
                price: Some((n % 4 * 300) as f32),
                duration_seconds: Some((600 + n * 90) as f32),
                tags: vec![
                    ["calm", "family", "classic"][(n % 3) as usize].into(),
                    ["朝", "evening"][(n % 2) as usize].into(),
                ],
                ..Video::default()
            }
        })
        .collect()
}

/// Random weights, eight dimensions.
pub(crate) fn model(seed: u64) -> Model {
    model_of(8, seed)
}

/// Random weights.
pub(crate) fn model_of(embedding_dim: usize, seed: u64) -> Model {
    let catalogue = Catalogue::new(catalogue()).unwrap();
    let options = PreprocessingOptions {
        min_term_videos: 2,
        ngram_buckets: 64,
    };
    let hyperparameters = Hyperparameters {
        embedding_dim,
        user_hidden: 16,
        item_hidden: 16,
        ngram_buckets: 64,
        ..Hyperparameters::default()
    };
    let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
    let mut model = Model::zeros(hyperparameters, preprocessing);
    let mut state = seed;
    for (_, _, weights) in model.tensors_mut() {
        weights.fill_with(|| split_mix(&mut state));
    }
    model
}

/// Uniform in -0.5..0.5 (`SplitMix64`, Steele et al. 2014).
fn split_mix(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 - 0.5
}

fn metrics() -> Value {
    json!({
        "best_epoch": 9,
        "validation": {"ndcg_at_10": 0.0913, "recall_at_10": 0.176, "recall_at_50": 0.435, "auc": 0.894},
        "test": {
            "two-tower": {"ndcg_at_10": 0.0897, "recall_at_10": 0.171, "auc": 0.889},
            "popularity": {"ndcg_at_10": 0.0412, "recall_at_10": 0.083, "auc": 0.853},
        },
    })
}

fn training_log() -> Value {
    (1..=12)
        .map(|epoch| {
            let x = f64::from(epoch);
            json!({
                "epoch": epoch,
                "loss": 4.2 + 2.4 / x,
                "validation": {"ndcg_at_10": 0.092 - 0.06 / x - (x - 9.0).max(0.0) * 0.002, "recall_at_50": 0.44 - 0.2 / x},
            })
        })
        .collect()
}
