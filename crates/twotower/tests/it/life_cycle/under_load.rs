//! The active version is switched back and forth during requests.

use super::place::{Place, USERS};
use crate::serve::fixture::{Running, VIDEOS, catalogue, config, model_of, token, user};
use crate::support::sql;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_core::interaction::History;
use twotower_core::model::{Model, TwoTower};
#[cfg(target_os = "linux")]
use twotower_store::{Activation, ActivationKind};
use uuid::Uuid;

/// Number of users who send requests.
const ASKING: u128 = 6;

/// Each version's score of each video for each user, computed from its model.
type Scores = HashMap<(i64, u128, Uuid), f32>;

fn score(scores: &mut Scores, version: i64, model: &Model) {
    let videos = catalogue();
    let vectors = model.embed_videos(&videos).unwrap();
    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &vectors,
    };
    for n in 0..ASKING {
        let liked = u32::try_from(n % VIDEOS).unwrap();
        let history = History {
            likes: &[liked],
            skips: &[],
        };
        let vector = towers.embed_user(history).unwrap();
        for (row, video) in videos.iter().enumerate() {
            let score = vectors
                .row(row)
                .iter()
                .zip(vector.iter())
                .map(|(a, b)| a * b)
                .sum();
            scores.insert((version, n, video.id), score);
        }
    }
}

/// What clients have received so far.
#[derive(Default)]
struct Told {
    requests: AtomicU64,
    joins: AtomicU64,
    version: AtomicI64,
    failures: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Told {
    fn wrong(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn wait_for(&self, version: i64) {
        let begun = Instant::now();
        while self.version.load(Ordering::Relaxed) != version {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "no answer of version {version}"
            );
            sleep(Duration::from_millis(10));
        }
    }
}

/// Every answer succeeds, and its scores are those of the version that it names.
fn ask(server: &Running, scores: &Scores, told: &Told) {
    let tokens: Vec<_> = (0..ASKING).map(|n| (n, token(user(n)))).collect();
    for (n, token) in tokens.iter().cycle() {
        if !told.goes_on() {
            return;
        }
        let answer = server.client.recommend(token, r#"{"limit": 20}"#);
        told.requests.fetch_add(1, Ordering::Relaxed);
        if answer.status != 200 {
            told.wrong(format!("{}: {}", answer.status, answer.text));
            continue;
        }
        let body = answer.json();
        let version = body["model_version"].as_i64().unwrap_or_default();
        let list = body["recommendations"].as_array().unwrap();
        let right = list.iter().all(|entry| {
            let video = entry["video_id"].as_str().unwrap().parse().unwrap();
            let score = entry["score"].as_f64().unwrap() as f32;
            scores
                .get(&(version, *n, video))
                .is_some_and(|own| (own - score).abs() < 1e-5)
        });
        if list.len() != 20 || !right || body["source"] != "two_tower" {
            told.wrong(format!("not wholly of version {version}: {body}"));
        }
        told.version.store(version, Ordering::Relaxed);
    }
}

/// An application that joins vectors of users and videos in SQL: pgvector raises an error for
/// different dimensions.
fn join(url: &str, told: &Told) {
    const JOIN: &str =
        "SELECT count(u.embedding <#> v.embedding) FROM twotower.active_model AS active
        JOIN user_embeddings AS u ON u.model_version = active.version
        JOIN video_embeddings AS v ON v.model_version = active.version";
    while told.goes_on() {
        let pairs = sql(url, JOIN);
        told.joins.fetch_add(1, Ordering::Relaxed);
        if pairs != (USERS * VIDEOS).to_string() {
            told.wrong(format!("{pairs} pairs of vectors"));
        }
    }
}

#[test]
fn no_request_fails_and_no_answer_is_mixed_while_versions_come_and_go() {
    let place = Place::on_postgres();
    let mut scores = Scores::new();
    let versions = [(64, 1), (128, 2), (128, 3), (64, 4)].map(|(dim, seed)| {
        let (version, model) = (place.next_version(), model_of(dim, seed));
        score(&mut scores, version, &model);
        (version, model)
    });
    let save = |n: usize| place.save(versions[n].0, &versions[n].1);
    save(0);
    place.json("update");
    let mut config = config(place.models());
    config.limits.active_model_poll = Duration::from_millis(20);
    let server = Running::start(place.store.clone(), config);
    let told = Told::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| ask(&server, &scores, &told));
        }
        scope.spawn(|| join(&place.url, &told));
        // Stops the other threads even if an assertion fails.
        let stopping = Stopping(&told);
        told.wait_for(1);

        // Another dimension.
        save(1);
        assert_eq!(place.json("update --batch-size 20")["activated"], true);
        told.wait_for(2);
        place.json("models promote 1 --reason test");
        told.wait_for(1);
        place.json("rollback --reason test");
        told.wait_for(2);

        // A challenger that the gate refuses.
        place.configure("[update]\ngate = true");
        save(2);
        let refused = place.refused("update", 5);
        assert!(refused.contains("readers keep what they see"), "{refused}");
        sleep(Duration::from_millis(200));
        assert_eq!(
            (place.active(), told.version.load(Ordering::Relaxed)),
            (Some(2), 2)
        );

        // Back to the first dimension.
        place.configure("[update]\ngate = false");
        save(3);
        assert_eq!(place.json("update")["activated"], true);
        told.wait_for(4);
        drop(stopping);
    });
    let failures = told.failures.into_inner().unwrap();
    let (requests, joins) = (told.requests.into_inner(), told.joins.into_inner());
    println!("{requests} requests, {joins} joins");
    assert_eq!(failures, Vec::<String>::new());
    assert!(
        requests > 100 && joins > 5,
        "{requests} requests, {joins} joins"
    );
}

/// Open file descriptors of this process, and bytes of its memory.
#[cfg(target_os = "linux")]
fn held() -> (usize, u64) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    (descriptors, resident * 4096)
}

/// Each version's vectors and weights are half a megabyte or more, which the server lets go.
#[cfg(target_os = "linux")]
#[test]
fn switches_leave_nothing_behind() {
    const SWITCHES: usize = 60;
    let place = Place::on_sqlite();
    let versions = [1, 2].map(|seed| {
        let version = place.next_version();
        place.save(version, &model_of(2000, seed));
        assert_eq!(place.json("update")["activated"], true);
        version
    });
    let mut config = config(place.models());
    config.limits.active_model_poll = Duration::from_millis(10);
    let server = Running::start(place.store.clone(), config);
    let token = token(user(1));
    let mut after = Vec::new();
    for turn in 0..SWITCHES {
        let version = versions[turn % 2];
        let activation = Activation {
            version,
            kind: ActivationKind::Promotion,
            by: "test".into(),
            reason: "test".into(),
            forced: false,
        };
        let activated = place.store.activate_model(&activation);
        place.runtime.block_on(activated).unwrap();
        let begun = Instant::now();
        loop {
            let (_, body) = server.client.recommended(&token, "{}");
            assert_eq!(body["source"], "two_tower", "{body}");
            if body["model_version"] == version {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{body}");
            sleep(Duration::from_millis(2));
        }
        after.push(held());
    }
    // The first third fills pools and caches.
    let least = |of: &[(usize, u64)]| {
        let descriptors = of.iter().map(|it| it.0).min().unwrap();
        (descriptors, of.iter().map(|it| it.1).min().unwrap())
    };
    let (early, late) = (least(&after[20..30]), least(&after[50..]));
    println!("{early:?} after 30 switches, {late:?} after {SWITCHES}");
    assert!(late.0 <= early.0 + 4, "{early:?} {late:?} descriptors");
    assert!(late.1 <= early.1 + (8 << 20), "{early:?} {late:?} bytes");
}

struct Stopping<'a>(&'a Told);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
