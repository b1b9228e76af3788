//! Users who request lists, like videos from them, and verify every answer.

use super::scene::Scene;
use crate::serve::fixture::{VIDEOS, catalogue, token, user};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_core::interaction::History;
use twotower_core::model::TwoTower;
use twotower_store::InteractionKind;
use uuid::Uuid;

/// Users whose likes never change, so that each version's scores for them are known.
const STEADY: u128 = 12;

/// Number of likes of each of the other users, after which a new user follows.
const LIKES: usize = 12;

const LIMIT: usize = 20;

/// Each version's score of each video for each steady user, computed from its model.
pub(super) type Scores = HashMap<(i64, u128, Uuid), f32>;

pub(super) fn scores(scene: &Scene) -> Scores {
    let mut scores = Scores::new();
    let videos = catalogue();
    for (version, model) in &scene.models {
        let vectors = model.embed_videos(&videos).unwrap();
        let towers = TwoTower {
            user_tower: &model.user_tower,
            videos: &vectors,
        };
        for n in 0..STEADY {
            let history = History {
                likes: &[u32::try_from(n % VIDEOS).unwrap()],
                skips: &[],
            };
            let vector = towers.embed_user(history).unwrap();
            for (row, video) in videos.iter().enumerate() {
                let products = vectors.row(row).iter().zip(vector.iter());
                let score = products.map(|(a, b)| a * b).sum();
                scores.insert((*version, n, video.id), score);
            }
        }
    }
    scores
}

/// What clients have seen.
#[derive(Default)]
pub(super) struct Told {
    pub(super) requests: AtomicU64,
    pub(super) partial: AtomicU64,
    pub(super) likes: AtomicU64,
    /// Number of failed tries to write a like to the database.
    pub(super) writes_failed: AtomicU64,
    pub(super) slow: AtomicU64,
    pub(super) slowest_ms: AtomicU64,
    pub(super) errors: Mutex<Vec<String>>,
    pub(super) wrong: Mutex<Vec<String>>,
    pub(super) stop: AtomicBool,
    next_user: AtomicU64,
}

impl Told {
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }
}

pub(super) struct Client<'a> {
    pub(super) scene: &'a Scene,
    pub(super) scores: &'a Scores,
    pub(super) told: &'a Told,
    agent: ureq::Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(scene: &'a Scene, scores: &'a Scores, told: &'a Told) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(40)))
            .build()
            .new_agent();
        Self {
            scene,
            scores,
            told,
            agent,
        }
    }

    /// Serves one user after the other, until the test ends.
    pub(super) fn run(&self) {
        while self.told.goes_on() {
            let number = self.told.next_user.fetch_add(1, Ordering::Relaxed);
            let who =
                Uuid::from_u128(0x0c00_0000_0000_4000_8000_0000_0000_0000 + u128::from(number));
            let token = token(who);
            let mut liked = HashSet::new();
            for n in 0..LIKES {
                if !self.told.goes_on() {
                    return;
                }
                self.ask_as_steady_user((number as u128 + n as u128) % STEADY);
                let Some(list) = self.ask(who, &token, &liked) else {
                    continue;
                };
                let Some(video) = list.get(n % 3) else {
                    self.told.wrong(format!("{} videos of {LIMIT}", list.len()));
                    continue;
                };
                // Alternately through the database and through the API.
                if n % 2 == 0 {
                    self.like_in_database(who, *video);
                } else {
                    self.like_by_event(who, &token, *video);
                }
                if self.told.goes_on() {
                    liked.insert(*video);
                }
            }
        }
    }

    /// Requests the list of a user who has liked these videos, all of which the database or the API
    /// has accepted.
    fn ask(&self, who: Uuid, token: &str, liked: &HashSet<Uuid>) -> Option<Vec<Uuid>> {
        let body = self.recommend(token)?;
        let list = list(&body);
        let back: Vec<_> = list.iter().filter(|id| liked.contains(id)).collect();
        if !back.is_empty() || list.len() != LIMIT || body["user_id"] != who.to_string() {
            self.told.wrong(format!(
                "{} likes, of which {back:?} came back: {body}",
                liked.len()
            ));
        }
        Some(list)
    }

    /// Checks that every score is that of the version which the answer names.
    fn ask_as_steady_user(&self, n: u128) {
        let Some(body) = self.recommend(&token(user(n))) else {
            return;
        };
        let version = body["model_version"].as_i64().unwrap_or_default();
        let entries = body["recommendations"].as_array().unwrap();
        let right = entries.iter().all(|entry| {
            let video = entry["video_id"].as_str().unwrap().parse().unwrap();
            let score = entry["score"].as_f64().unwrap() as f32;
            let own = self.scores.get(&(version, n, video));
            own.is_some_and(|own| (own - score).abs() < 1e-5)
        });
        if !right || entries.len() != LIMIT {
            self.told
                .wrong(format!("not wholly of version {version}: {body}"));
        }
    }

    fn recommend(&self, token: &str) -> Option<Value> {
        let begun = Instant::now();
        let body = json!({"limit": LIMIT, "exclude_liked": true}).to_string();
        let body = self.post("two_tower_recommendations", token, &body)?;
        let version = body["model_version"].as_i64().unwrap_or_default();
        if !self.scene.may_be(version, begun, Instant::now()) {
            self.told
                .wrong(format!("version {version} is not active: {body}"));
        }
        if body["partial"] == true {
            self.told.partial.fetch_add(1, Ordering::Relaxed);
        }
        Some(body)
    }

    /// The body of a successful answer; anything else counts as an error.
    fn post(&self, path: &str, token: &str, body: &str) -> Option<Value> {
        let begun = Instant::now();
        let answer = self
            .agent
            .post(format!("http://{}/functions/v1/{path}", self.scene.api()))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .send(body);
        let failed = match answer {
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                match answer.body_mut().read_to_string() {
                    Ok(text) if status == 200 => {
                        self.took(begun.elapsed());
                        return Some(serde_json::from_str(&text).unwrap());
                    }
                    Ok(text) => format!("{path}: {status}: {text}"),
                    Err(error) => format!("{path}: {status}: {error}"),
                }
            }
            Err(error) => format!("{path}: {error}"),
        };
        self.took(begun.elapsed());
        let at = format!(" after {:?}", begun.elapsed());
        self.told.errors.lock().unwrap().push(failed + &at);
        None
    }

    fn took(&self, time: Duration) {
        let ms = time.as_millis() as u64;
        self.told.requests.fetch_add(1, Ordering::Relaxed);
        self.told.slowest_ms.fetch_max(ms, Ordering::Relaxed);
        if ms > 1000 {
            self.told.slow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes like an application: retries until the database has accepted it.
    fn like_in_database(&self, who: Uuid, video: Uuid) {
        let (store, runtime) = (&self.scene.application, &self.scene.place.runtime);
        while let Err(error) = runtime.block_on(store.record(InteractionKind::Like, who, video)) {
            assert!(error.is_transient(), "{error}");
            self.told.writes_failed.fetch_add(1, Ordering::Relaxed);
            if !self.told.goes_on() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        self.told.likes.fetch_add(1, Ordering::Relaxed);
    }

    /// Reports like an app: retries until it is accepted, and counts each failure as an error.
    fn like_by_event(&self, who: Uuid, token: &str, video: Uuid) {
        let event = json!({"event_id": Uuid::from_u128(who.as_u128() ^ video.as_u128()), "kind": "like", "video_id": video});
        let body = json!({"events": [event]}).to_string();
        while self.post("events", token, &body).is_none() {
            if !self.told.goes_on() {
                return;
            }
            sleep(Duration::from_millis(200));
        }
        self.told.likes.fetch_add(1, Ordering::Relaxed);
    }
}

fn list(body: &Value) -> Vec<Uuid> {
    let entries = body["recommendations"].as_array().unwrap();
    let ids = entries.iter().map(|it| it["video_id"].as_str().unwrap());
    ids.map(|id| id.parse().unwrap()).collect()
}
