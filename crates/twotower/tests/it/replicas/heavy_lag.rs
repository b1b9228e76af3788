//! A lagging replica, and a primary that dies: liked videos do not reappear.

use super::pair::Pair;
use crate::life_cycle::place::{Place, USERS};
use crate::serve::client::Client;
use crate::serve::fixture::{Running, config, token, user, video};
use crate::support::{Workplace, sql};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower::serve::ReplicaConfig;
use twotower_store::{ConnectOptions, InteractionKind, Replica, Store, StoreError};
use uuid::Uuid;

const REPLICA_READS: &str = r#"twotower_user_state_reads_total{source="replica"}"#;
const MAX_LAG: Duration = Duration::from_secs(1);

struct Scene {
    pair: Pair,
    place: Place,
    server: Running,
}

impl Scene {
    fn start() -> Self {
        let pair = Pair::start();
        let place = Place::new(Workplace::on_postgres(pair.primary.clone()));
        place.next_model();
        place.json("update");
        let mut config = config(place.models());
        let replica = {
            let _runtime = place.runtime.enter();
            Replica::open(&pair.replica, ConnectOptions::default()).unwrap()
        };
        config.replica = Some(ReplicaConfig {
            replica,
            max_lag: MAX_LAG,
        });
        let server = Running::start(place.store.clone(), config);
        Self {
            pair,
            place,
            server,
        }
    }

    fn metric(&self, series: &str) -> f64 {
        self.server.metric(series).unwrap_or_default()
    }

    fn fallbacks(&self, reason: &str) -> f64 {
        self.metric(&format!(
            "twotower_replica_fallbacks_total{{reason=\"{reason}\"}}"
        ))
    }

    /// All recommendations of a user, and the answer.
    fn list(&self, user: Uuid) -> (Vec<String>, Value) {
        self.server
            .client
            .recommended(&token(user), r#"{"limit": 40}"#)
    }

    /// Waits until lists are based on the replica.
    fn wait_for_the_replica(&self) {
        let before = self.metric(REPLICA_READS);
        let begun = Instant::now();
        while self.metric(REPLICA_READS) <= before {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the replica is not read: {}",
                self.server.metrics.get("/metrics", &[]).text
            );
            self.list(user(USERS + 100));
            sleep(Duration::from_millis(50));
        }
    }
}

fn like_by_event(client: &Client, user: Uuid, video: Uuid) {
    let authorization = format!("Bearer {}", token(user));
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let event = json!({"event_id": Uuid::from_u128(video.as_u128() ^ user.as_u128()), "kind": "like", "video_id": video});
    let body = json!({"events": [event]}).to_string();
    let answer = client.post("/functions/v1/events", &headers, &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn a_like_is_known_at_once_although_the_replica_does_not_have_it() {
    let scene = Scene::start();
    scene.wait_for_the_replica();
    let begun = Instant::now();
    while scene.metric("twotower_replica_lag_seconds") >= MAX_LAG.as_secs_f64() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it lags");
        sleep(Duration::from_millis(50));
    }

    sql(&scene.pair.replica, "SELECT pg_wal_replay_pause()");
    let somebody = user(USERS + 1);
    let begun = Instant::now();
    let mut liked = Vec::new();
    // Within the allowed lag, and beyond it.
    for n in 1..=8 {
        like_by_event(&scene.server.client, somebody, video(n));
        liked.push(video(n).to_string());
        let (list, answer) = scene.list(somebody);
        assert_eq!(list.len(), 40 - liked.len(), "{answer}");
        assert!(list.iter().all(|id| !liked.contains(id)), "{answer}");
        assert_eq!(answer["partial"], false);
        sleep(Duration::from_millis(250));
    }
    assert!(begun.elapsed() > MAX_LAG);
    // Written directly to the database, which notifies the server: the replica has an older state
    // of this user.
    for n in 9..=12 {
        let other = user(n);
        scene.list(other);
        let record = scene
            .place
            .store
            .record(InteractionKind::Like, other, video(n));
        scene.place.runtime.block_on(record).unwrap();
        sleep(Duration::from_millis(100));
        let (list, answer) = scene.list(other);
        assert!(!list.contains(&video(n).to_string()), "{answer}");
    }
    assert!(scene.fallbacks("behind") > 0.0);
    let lag = scene.metric("twotower_replica_lag_seconds");
    assert!(lag > 1.0, "{lag}");

    sql(&scene.pair.replica, "SELECT pg_wal_replay_resume()");
    scene.wait_for_the_replica();
    let (list, answer) = scene.list(somebody);
    assert_eq!(list.len(), 32, "{answer}");
    assert!(list.iter().all(|id| !liked.contains(id)), "{answer}");
}

#[test]
fn without_the_primary_the_replica_says_what_it_knows() {
    let mut scene = Scene::start();
    scene.wait_for_the_replica();
    let somebody = user(USERS + 1);
    for n in 1..=4 {
        like_by_event(&scene.server.client, somebody, video(n));
    }
    // Replication is asynchronous, so a primary that dies may lose the writes.
    scene.pair.wait_for_the_replica();
    scene.pair.stop_primary();
    for _ in 0..20 {
        let (list, answer) = scene.list(somebody);
        assert_eq!(list.len(), 36, "{answer}");
        assert_eq!(answer["source"], "two_tower");
        sleep(Duration::from_millis(100));
    }
    let (_, answer) = scene.list(somebody);
    assert_eq!(answer["partial"], true, "nobody can say what is missing");
    assert!(scene.fallbacks("primary_away") > 0.0);
    let ready = scene.server.client.get("/readyz", &[]);
    assert_eq!(ready.status, 200, "{}", ready.text);
}

#[test]
fn a_server_that_takes_no_writes_says_so() {
    let pair = Pair::start();
    let place = Place::new(Workplace::on_postgres(pair.primary.clone()));
    pair.wait_for_the_replica();
    place.runtime.block_on(async {
        let options = ConnectOptions::default();
        let store = Store::connect(&pair.replica, options).await.unwrap();
        let written = store.record(InteractionKind::Like, user(1), video(9)).await;
        let error = written.unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
        assert!(error.is_outage() && error.is_transient());
        let position = store.primary_position().await;
        assert!(matches!(position, Err(StoreError::Standby)), "{position:?}");
        let listening = store.listen_user_changes().await;
        assert!(
            matches!(listening, Err(StoreError::ReadOnly(_))),
            "{listening:?}"
        );

        let primary = place.store.primary_position().await.unwrap().unwrap();
        let replica = Replica::open(&pair.replica, options).unwrap();
        let states = replica
            .user_states(&[user(0), user(999)], 10)
            .await
            .unwrap();
        assert!(
            states.position.unwrap() >= primary.position,
            "{states:?} {primary:?}"
        );
        let likes: Vec<_> = states
            .states
            .iter()
            .flatten()
            .map(|it| it.likes.clone())
            .collect();
        assert_eq!(likes, [vec![video(1)], vec![]]);
        let wrong = Replica::open("sqlite://a.db", options).unwrap_err();
        assert!(matches!(wrong, StoreError::ReplicaUrl(_)), "{wrong}");
    });
    // Like a server that archives its log in a quiet hour.
    sql(&pair.primary, "SELECT pg_switch_wal()");
    pair.wait_for_the_replica();
    place.runtime.block_on(async {
        let primary = place.store.primary_position().await.unwrap().unwrap();
        let replica = Replica::open(&pair.replica, ConnectOptions::default()).unwrap();
        let position = replica.position().await.unwrap();
        assert!(
            position.unwrap() >= primary.position,
            "{position:?} {primary:?}"
        );
    });
}
