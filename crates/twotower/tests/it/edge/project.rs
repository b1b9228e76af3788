//! A project with the migrations, a catalogue, likes, an active model whose files are in the
//! bucket, and Edge Functions.

use super::processes::DenoServer;
use crate::serve::client::{Answer, Client};
use crate::serve::fixture::{Fixture, SECRET, token, user};
use crate::serve::public_keys::{ec, public};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use uuid::Uuid;

const PUBLISHABLE: &str = "sb_publishable_test";
const SECRET_KEY: &str = "sb_secret_test";

pub(super) const RECOMMENDATIONS: &str = "two_tower_recommendations";
pub(super) const UPDATE: &str = "update_user_embedding";

pub(super) struct Project {
    pub(super) fixture: Fixture,
    pub(super) version: i64,
    services: DenoServer,
    client: Client,
}

/// An Edge Function in an isolate of its own.
pub(super) struct Function {
    server: DenoServer,
    pub(super) client: Client,
}

impl Project {
    /// A project with the active model's files in the bucket.
    pub(super) fn new() -> Self {
        let project = Self::without_model_files();
        project.publish();
        project
    }

    pub(super) fn without_model_files() -> Self {
        let fixture = Fixture::on_postgres();
        let version = fixture.train(1);
        let storage = fixture.folder.path().join("storage");
        let keys = json!({PUBLISHABLE: "anon", SECRET_KEY: "service_role"}).to_string();
        let published = json!({"keys": [public(&ec(), "ec")]}).to_string();
        let services = DenoServer::start(
            "tests/stand-ins/project/main.ts",
            &["--frozen", "--allow-env", "--allow-read", "--allow-write"],
            &[
                ("STAND_IN_DATABASE", &fixture.url),
                ("STAND_IN_SECRET", SECRET),
                ("STAND_IN_JWKS", &published),
                ("STAND_IN_API_KEYS", &keys),
                ("STAND_IN_STORAGE", &storage.display().to_string()),
            ],
        );
        Self {
            client: Client::new(services.address),
            fixture,
            version,
            services,
        }
    }

    /// Puts the active model's files where `twotower publish` does.
    pub(super) fn publish(&self) {
        let version = self.version.to_string();
        let bucket = self.bucket_folder(&version);
        fs::create_dir_all(&bucket).unwrap();
        for name in ["manifest.json", "user_tower.safetensors"] {
            fs::copy(
                self.fixture.models().join(&version).join(name),
                bucket.join(name),
            )
            .unwrap();
        }
    }

    /// The state between the migration that introduced towers in the database and the first update
    /// after it.
    pub(super) fn without_towers_in_the_database(&self) {
        crate::support::sql(
            &self.fixture.url,
            "DELETE FROM twotower.user_towers; DELETE FROM recommendation_cache",
        );
    }

    /// Folder of a version in the bucket.
    pub(super) fn bucket_folder(&self, version: &str) -> PathBuf {
        let storage = self.fixture.folder.path().join("storage");
        storage.join("models/models").join(version)
    }

    /// Starts a function that knows the JWT secret.
    pub(super) fn function(&self, name: &str) -> Function {
        self.function_with(name, &[("TWOTOWER_JWT_SECRET", SECRET)])
    }

    pub(super) fn function_with(&self, name: &str, environment: &[(&str, &str)]) -> Function {
        let program = format!("supabase/functions/{name}/index.ts");
        self.function_at(&program, &["--frozen"], environment)
    }

    /// Starts the function with the entry point `program`.
    pub(super) fn function_at(
        &self,
        program: &str,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Function {
        let url = format!("http://{}", self.services.address);
        let publishable = json!({"default": PUBLISHABLE}).to_string();
        let secret = json!({"default": SECRET_KEY}).to_string();
        let mut all = vec![
            ("SUPABASE_URL", url.as_str()),
            ("SUPABASE_PUBLISHABLE_KEYS", &publishable),
            ("SUPABASE_SECRET_KEYS", &secret),
        ];
        all.extend(environment);
        let options = [options, &["--allow-env"]].concat();
        let server = DenoServer::start(program, &options, &all);
        Function {
            client: Client::new(server.address),
            server,
        }
    }

    /// Calls a function of the database like an application, with a user's token.
    pub(super) fn rpc(&self, who: Uuid, name: &str, parameters: &Value) -> Answer {
        let authorization = format!("Bearer {}", token(who));
        let headers = [
            ("apikey", PUBLISHABLE),
            ("authorization", &authorization),
            ("content-type", "application/json"),
        ];
        let path = format!("/rest/v1/rpc/{name}");
        self.client.post(&path, &headers, &parameters.to_string())
    }

    /// Likes a video through the API.
    pub(super) fn like(&self, who: u128, video: &str) {
        let answer = self.rpc(user(who), "like_video", &json!({ "video_id": video }));
        assert_eq!((answer.status, &*answer.text), (200, "true"));
    }

    /// Delays `PostgREST`'s answers; returns how many objects have been read so far.
    pub(super) fn delay(&self, ms: u32) -> u64 {
        self.stand_in(&json!({ "delay_ms": ms }))["storage_reads"]
            .as_u64()
            .unwrap()
    }

    /// Number of calls of database functions so far.
    pub(super) fn calls(&self) -> u64 {
        self.stand_in(&json!({}))["calls"].as_u64().unwrap()
    }

    fn stand_in(&self, body: &Value) -> Value {
        let answer = self.client.post("/stand-in", &[], &body.to_string());
        answer.json()
    }
}

impl Function {
    pub(super) fn post(&self, token: &str, body: &str) -> Answer {
        self.client.recommend(token, body)
    }

    /// The list for a user: ids, and the whole body.
    pub(super) fn list(&self, who: u128, body: &str) -> (Vec<String>, Value) {
        self.client.recommended(&token(user(who)), body)
    }

    /// Lines of its log.
    pub(super) fn log(&self) -> Vec<Value> {
        let output = self.server.output();
        let lines = output.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}
