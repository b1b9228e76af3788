//! Requests with Bob's token that ask for Ann's data in every conceivable way. Answers are about
//! Bob, name nobody else, and change nothing of hers.
//!
//! `make test` tries 1,000, `make torture` (`TWOTOWER_TORTURE=full`) 50,000; the seed is `TWOTOWER_TORTURE_SEED`, 1 by default.

use super::project::{Project, RECOMMENDATIONS, UPDATE};
use crate::serve::fixture::{token, user, video};
use crate::support::sql;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Map, Value, json};
use twotower_store::InteractionKind::{Like, Skip};

const ANN: u128 = 31;
const BOB: u128 = 32;

const KEYS: [&str; 14] = [
    "limit",
    "exclude_liked",
    "min_score",
    "user_id",
    "userId",
    "sub",
    "asked",
    "caller",
    "known_state",
    "query",
    "model_version",
    "role",
    "__proto__",
    "filter",
];

const HEADERS: [&str; 8] = [
    "x-user-id",
    "apikey",
    "prefer",
    "content-profile",
    "accept-profile",
    "x-supabase-auth",
    "cookie",
    "x-forwarded-user",
];

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn probes() -> usize {
    match setting("TWOTOWER_TORTURE").as_deref() {
        Some("full") => 50_000,
        _ => 1_000,
    }
}

fn value(random: &mut Pcg64Mcg, ann: &str) -> Value {
    match random.random_range(0..9) {
        0 | 1 => json!(ann),
        2 => json!(random.random_range(-2..120)),
        3 => json!([ann, ann]),
        4 => json!({ "eq": ann, "user_id": ann }),
        5 => json!(format!("{ann}' or user_id::text like '%")),
        6 => Value::Null,
        7 => json!(random.random_bool(0.5)),
        _ => json!(format!("eq.{ann}")),
    }
}

fn body(random: &mut Pcg64Mcg, ann: &str) -> String {
    let mut body = Map::new();
    for _ in 0..random.random_range(0..4) {
        let key = KEYS[random.random_range(0..KEYS.len())];
        body.insert(key.into(), value(random, ann));
    }
    Value::Object(body).to_string()
}

#[test]
fn heavy_torture_bob_learns_nothing_of_ann() {
    let project = Project::new();
    let fixture = &project.fixture;
    fixture.interact(Like, user(ANN), &[video(21), video(22), video(23)]);
    fixture.interact(Skip, user(ANN), &[video(24)]);
    fixture.interact(Like, user(BOB), &[video(1)]);
    let functions = [RECOMMENDATIONS, UPDATE].map(|name| project.function(name));
    // Ann's data that could leak.
    for function in &functions {
        assert_eq!(function.post(&token(user(ANN)), "{}").status, 200);
    }
    let hers = "SELECT md5(string_agg(t, '' ORDER BY t)) FROM (
                    SELECT l::text FROM likes AS l WHERE user_id = 'ID' UNION ALL SELECT s::text FROM skips AS s WHERE user_id = 'ID'
                    UNION ALL SELECT v::text FROM user_embeddings AS v WHERE user_id = 'ID'
                    UNION ALL SELECT c::text FROM recommendation_cache AS c WHERE user_id = 'ID') AS rows (t)";
    let hers = hers.replace("ID", &user(ANN).to_string());
    let before = sql(&fixture.url, &hers);

    let seed = setting("TWOTOWER_TORTURE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let (ann, bob) = (user(ANN).to_string(), user(BOB).to_string());
    let authorization = format!("Bearer {}", token(user(BOB)));
    let mut answered = 0;
    for number in 0..probes() {
        let function = &functions[random.random_range(0..2)];
        let text = body(&mut random, &ann);
        let path = match random.random_range(0..4) {
            0 => format!("/?user_id=eq.{ann}"),
            1 => format!("/{ann}"),
            _ => "/".to_owned(),
        };
        let named = HEADERS[random.random_range(0..HEADERS.len())];
        let mut headers = vec![
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        if random.random_bool(0.3) {
            headers.push((named, &ann));
        }
        let answer = function.client.post(&path, &headers, &text);
        let what = format!(
            "seed {seed}, number {number}: {path} {headers:?} {text}: {}",
            answer.text
        );
        // Errors may repeat what was sent, and nothing else.
        let said = answer.text.contains(&ann);
        assert!(!said || answer.status >= 400, "{what}");
        if answer.status == 200 {
            answered += 1;
            let told = answer.json();
            assert_eq!(told["user_id"], bob, "{what}");
            let listed = told["recommendations"].as_array();
            let keys = listed.into_iter().flatten();
            assert!(
                keys.clone().all(|video| video.get("user_id").is_none()),
                "{what}"
            );
        } else {
            assert!((400..500).contains(&answer.status), "{what}");
        }
    }
    assert!(answered > probes() / 20, "{answered} were answered");
    assert_eq!(sql(&fixture.url, &hers), before);
    for function in &functions {
        for line in function.log() {
            assert!(!line.to_string().contains(&ann), "{line}");
        }
    }
}
