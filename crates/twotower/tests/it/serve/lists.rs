//! Parameters of a list, and the conditions that operator and user set.

use super::fixture::{
    Fixture, Running, VIDEOS, catalogue, claims, service_token, token, user, video,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use twotower::config::{Choice, Conditions, Range, Rules};
use twotower::serve::{Policy, ServeConfig};
use twotower_core::feature::Video;
use twotower_store::InteractionKind::Like;
use twotower_store::{Block, BlockKind, EmbeddingRow, InteractionKind, VectorTable};
use uuid::Uuid;

const ME: u128 = 900;

fn by_id() -> HashMap<String, Video> {
    let videos = catalogue().into_iter();
    videos.map(|video| (video.id.to_string(), video)).collect()
}

fn ids(body: &Value) -> Vec<String> {
    let list = body["recommendations"].as_array().unwrap();
    list.iter()
        .map(|it| it["video_id"].as_str().unwrap().to_owned())
        .collect()
}

fn ask(server: &Running, body: &Value) -> Value {
    let (_, answer) = server
        .client
        .recommended(&token(user(ME)), &body.to_string());
    answer
}

fn choice(any: &[&str], none: &[&str]) -> Choice {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Choice {
        any: names(any),
        none: names(none),
    }
}

/// A user with three likes, and a server.
fn liking(policy: Policy) -> (Fixture, Running) {
    let fixture = Fixture::new();
    fixture.interact(Like, user(ME), &[video(20), video(27), video(33)]);
    let server = fixture.serve_with(ServeConfig {
        policy,
        ..fixture.config()
    });
    (fixture, server)
}

/// Whether a video passes a filter.
type Holds = fn(&Video) -> bool;

#[test]
fn a_filter_leaves_exactly_what_it_says() {
    let (_fixture, server) = liking(Policy::default());
    let known = by_id();
    let everything = ids(&ask(&server, &json!({"limit": 100})));
    assert_eq!(everything.len(), VIDEOS as usize - 3);
    let cases: [(Value, Holds); 6] = [
        (json!({"tags": {"any": ["朝"]}}), |v| {
            v.tags.contains(&"朝".into())
        }),
        (
            json!({"tags": {"any": ["朝", "calm"], "none": ["family"]}}),
            |v| {
                v.tags.iter().any(|tag| tag == "朝" || tag == "calm")
                    && !v.tags.contains(&"family".into())
            },
        ),
        (
            json!({"makers": {"none": ["Half Moon"]}, "genres": {"any": ["Travel", "コメディ"]}}),
            |v| {
                v.maker.as_deref() != Some("Half Moon")
                    && ["Travel", "コメディ"].contains(&v.genre.as_deref().unwrap())
            },
        ),
        (json!({"price": {"min": 300, "max": 600}}), |v| {
            (300.0..=600.0).contains(&v.price.unwrap())
        }),
        (json!({"genres": {"any": ["nothing is called so"]}}), |_| {
            false
        }),
        (
            json!({"performers": {"none": ["nobody"]}, "price": {}}),
            |_| true,
        ),
    ];
    for (filter, holds) in cases {
        let answer = ask(&server, &json!({"limit": 100, "filter": filter}));
        let expected: Vec<&String> = everything.iter().filter(|id| holds(&known[*id])).collect();
        assert_eq!(
            ids(&answer).iter().collect::<Vec<_>>(),
            expected,
            "{filter}"
        );
    }
    // No video of the catalogue has a publication date, but the time of its creation is known.
    let answer = ask(
        &server,
        &json!({"limit": 100, "filter": {"age_days": {"max": 1}}}),
    );
    assert_eq!(ids(&answer).len(), VIDEOS as usize - 3);
    let answer = ask(
        &server,
        &json!({"limit": 100, "filter": {"age_days": {"min": 1}}}),
    );
    assert_eq!(ids(&answer), [""; 0]);
    assert_eq!(answer["reason"], "catalogue_exhausted");
}

#[test]
fn rules_hold_for_everybody_and_caps_spread_makers() {
    let rules = Rules {
        max_per_maker: 2,
        only: Conditions {
            tags: choice(&[], &["family"]),
            price: Range {
                min: None,
                max: Some(600.0),
            },
            ..Conditions::default()
        },
        ..Rules::default()
    };
    let (_fixture, server) = liking(Policy {
        rules,
        ..Policy::default()
    });
    let known = by_id();
    for who in [ME, 901] {
        let (all, _) = server
            .client
            .recommended(&token(user(who)), r#"{"limit":100}"#);
        assert!(all.len() > 10);
        for id in &all {
            let video = &known[id];
            assert!(!video.tags.contains(&"family".into()) && video.price.unwrap() <= 600.0);
        }
        let mut makers: HashMap<&str, usize> = HashMap::new();
        for id in &all[..4] {
            *makers
                .entry(known[id].maker.as_deref().unwrap())
                .or_default() += 1;
        }
        assert!(makers.values().all(|&count| count <= 2), "{makers:?}");
    }
}

#[test]
fn what_a_user_blocks_is_gone_at_once_and_for_nobody_else() {
    let (fixture, server) = liking(Policy::default());
    let known = by_id();
    let before = ask(&server, &json!({"limit": 100}));
    let first = ids(&before)[0].clone();
    let blocks = [
        (BlockKind::Video, first.as_str()),
        (BlockKind::Maker, "Half Moon"),
        (BlockKind::Tag, "朝"),
        (BlockKind::Genre, "Travel"),
    ];
    for (kind, value) in blocks {
        let block = Block {
            kind,
            value: value.into(),
        };
        let added = fixture.store.add_block(user(ME), &block);
        assert!(fixture.runtime.block_on(added).unwrap());
    }
    let after = ids(&ask(&server, &json!({"limit": 100})));
    let stays = |id: &&String| {
        let video = &known[*id];
        **id != first
            && video.maker.as_deref() != Some("Half Moon")
            && !video.tags.contains(&"朝".into())
            && video.genre.as_deref() != Some("Travel")
    };
    let expected: Vec<String> = ids(&before).iter().filter(stays).cloned().collect();
    assert_eq!(after, expected);
    let (others, _) = server
        .client
        .recommended(&token(user(ME + 1)), r#"{"limit":100}"#);
    assert_eq!(others.len(), VIDEOS as usize);
}

#[test]
fn diversity_trades_scores_for_difference() {
    let (_fixture, server) = liking(Policy::default());
    let list = |diversity: f32| ask(&server, &json!({"limit": 8, "diversity": diversity}));
    let (plain, diverse) = (list(0.0), list(0.9));
    let total = |body: &Value| -> f64 {
        let list = body["recommendations"].as_array().unwrap();
        list.iter().map(|it| it["score"].as_f64().unwrap()).sum()
    };
    assert_eq!(ids(&plain)[0], ids(&diverse)[0], "the best one comes first");
    assert_ne!(ids(&plain), ids(&diverse));
    assert!(total(&plain) > total(&diverse));
}

#[test]
fn reasons_name_likes_and_only_likes() {
    let (_fixture, server) = liking(Policy::default());
    let answer = ask(&server, &json!({"limit": 20, "include_reasons": true}));
    let liked: HashSet<String> = [20, 27, 33].map(|n| video(n).to_string()).into();
    let mut named = 0;
    for it in answer["recommendations"].as_array().unwrap() {
        let Some(because) = it["because"].as_array() else {
            assert_eq!(it["reason"], Value::Null);
            continue;
        };
        assert_eq!(it["reason"], "because_you_liked");
        let shares: Vec<f64> = because
            .iter()
            .map(|it| it["contribution"].as_f64().unwrap())
            .collect();
        assert!(shares.is_sorted_by(|a, b| a >= b) && shares.iter().all(|&share| share > 0.0));
        for like in because {
            assert!(liked.contains(like["video_id"].as_str().unwrap()));
            assert!(!like["title"].as_str().unwrap().is_empty());
        }
        named += 1;
    }
    assert!(named > 10, "{named} of 20");
    let (_, answer) = server
        .client
        .recommended(&token(user(950)), r#"{"include_reasons":true,"limit":1}"#);
    assert_eq!(answer["recommendations"][0]["reason"], "popular");
}

#[test]
fn low_scores_can_be_left_out() {
    let (_fixture, server) = liking(Policy::default());
    let all = ask(&server, &json!({"limit": 100}));
    let bound = all["recommendations"][4]["score"].as_f64().unwrap();
    let answer = ask(&server, &json!({"limit": 100, "min_score": bound}));
    assert_eq!(ids(&answer), ids(&all)[..5]);
    assert_eq!(answer["reason"], "min_score");
}

#[test]
fn new_videos_get_their_share_with_their_propensity() {
    let (_fixture, server) = liking(Policy {
        exploration_share: 0.3,
        ..Policy::default()
    });
    let answer = ask(&server, &json!({"limit": 10, "seed": 7}));
    assert_eq!(
        ids(&answer),
        ids(&ask(&server, &json!({"limit": 10, "seed": 7})))
    );
    let mut drawn = 0;
    for seed in 0..40 {
        let answer = ask(&server, &json!({"limit": 10, "seed": seed}));
        let list = answer["recommendations"].as_array().unwrap();
        assert_eq!(list.len(), 10);
        let distinct: HashSet<String> = ids(&answer).into_iter().collect();
        assert_eq!(distinct.len(), 10);
        for it in list.iter().filter(|it| it["reason"] == "new") {
            // Every video was added a moment ago, and three are liked.
            let propensity = it["propensity"].as_f64().unwrap();
            assert!((propensity - 3.0 / 37.0).abs() < 1e-6, "{propensity}");
            drawn += 1;
        }
    }
    assert_eq!(drawn, 120, "three of ten, each time");
}

#[test]
fn similar_videos_are_those_with_the_nearest_vectors() {
    let (fixture, server) = liking(Policy::default());
    let post = |token: &str, body: Value| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let path = "/functions/v1/similar_videos";
        server.client.post(path, &headers, &body.to_string())
    };
    let me = token(user(ME));
    let answer = post(&me, json!({"video_id": video(5), "limit": 100}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    let list = ids(&body);
    assert_eq!(list.len(), VIDEOS as usize - 4, "not itself, not the liked");
    let version = body["model_version"].as_i64().unwrap();
    let read = fixture
        .store
        .read_embeddings(VectorTable::Videos, version, 8);
    let (order, vectors) = fixture.runtime.block_on(read).unwrap();
    let row = |id: &str| {
        let id: Uuid = id.parse().unwrap();
        vectors.row(order.binary_search(&id).unwrap())
    };
    let own = row(&video(5).to_string());
    let scores: Vec<f32> = list
        .iter()
        .map(|id| row(id).iter().zip(own).map(|(a, b)| a * b).sum())
        .collect();
    assert!(scores.is_sorted_by(|a, b| *a >= b - 1e-6), "{scores:?}");

    let wrong = post(&me, json!({"video_id": Uuid::from_u128(1)}));
    assert_eq!(wrong.error().0, 404);
    let wrong = post(&me, json!({"limit": 3}));
    assert!(wrong.error().2.contains("`video_id`"));
    // Parameters without effect are refused rather than ignored.
    for (field, value) in [("include_reasons", json!(true)), ("seed", json!(7))] {
        let wrong = post(&me, json!({"video_id": video(5), field: value}));
        let (status, code, message) = wrong.error();
        assert_eq!((status, code.as_str()), (400, "invalid_request"));
        let begin = format!("unknown field `{field}`; known: `video_id`, `limit`,");
        assert!(message.starts_with(&begin), "{message}");
    }
    assert_eq!(post("nonsense", json!({"video_id": video(5)})).status, 401);
}

#[test]
fn batches_are_for_the_service_role_alone() {
    let (fixture, server) = liking(Policy::default());
    fixture.interact(Like, user(1), &[video(40)]);
    let post = |token: &str, body: Value| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let path = "/functions/v1/batch_recommendations";
        server.client.post(path, &headers, &body.to_string())
    };
    let users = [user(ME), user(1), user(950)];
    let answer = post(&service_token(), json!({"user_ids": users, "limit": 5}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 3);
    for (result, user) in results.iter().zip(users) {
        let (own, body) = server.client.recommended(&token(user), r#"{"limit":5}"#);
        assert_eq!(result["user_id"], json!(user));
        assert_eq!((ids(result), &result["source"]), (own, &body["source"]));
    }
    assert_eq!(
        post(&token(user(ME)), json!({"user_ids": users})).status,
        403
    );
    let too_many = vec![user(1); 101];
    for bad in [
        json!([]),
        json!("x"),
        json!(too_many),
        json!(["x"]),
        Value::Null,
    ] {
        let answer = post(&service_token(), json!({"user_ids": bad}));
        assert!(answer.error().2.contains("`user_ids`"), "{}", answer.text);
    }
}

#[test]
fn a_service_token_asks_for_nobody() {
    let (_fixture, server) = liking(Policy::default());
    let answer = server.client.recommend(&service_token(), "{}");
    assert_eq!(answer.status, 403);
    assert!(claims(user(ME))["role"] != "service_role");
}

#[test]
fn the_same_answer_is_given_again_until_something_changes() {
    let (fixture, server) = liking(Policy::default());
    let ask = || ask(&server, &json!({"limit": 7}));
    let first = ask();
    assert_eq!(first["cached"], false);
    let again = ask();
    assert_eq!(again["cached"], true);
    assert_eq!(again["generated_at"], first["generated_at"]);
    assert_eq!(ids(&again), ids(&first));
    // Other queries and other users have their own cached answers.
    let (_, other) = server
        .client
        .recommended(&token(user(ME)), r#"{"limit":7,"diversity":0.5}"#);
    assert_eq!(other["cached"], false);
    let (_, other) = server.client.recommended(&token(user(1)), r#"{"limit":7}"#);
    assert_eq!(
        (&other["cached"], &other["user_id"]),
        (&json!(false), &json!(user(1)))
    );

    for kind in [Like, InteractionKind::Skip] {
        let gone: Uuid = ids(&ask())[0].parse().unwrap();
        fixture.interact(kind, user(ME), &[gone]);
        let after = ask();
        assert_eq!(after["cached"], false);
        assert!(!ids(&after).contains(&gone.to_string()));
    }
}

#[test]
fn a_new_video_appears_within_moments_and_rules_hold_for_it() {
    let fixture = Fixture::new();
    fixture.interact(Like, user(ME), &[video(20)]);
    let mut config = fixture.config();
    config.limits.active_model_poll = Duration::from_millis(20);
    config.policy.rules.only.tags = choice(&[], &["denied"]);
    let server = fixture.serve_with(config);
    let version = ask(&server, &json!({}))["model_version"].as_i64().unwrap();
    let best: Uuid = ids(&ask(&server, &json!({})))[0].parse().unwrap();
    let read = fixture
        .store
        .read_embeddings(VectorTable::Videos, version, 8);
    let (order, vectors) = fixture.runtime.block_on(read).unwrap();
    let best_row = vectors.row(order.binary_search(&best).unwrap());

    let new = |n: u128, tag: &str| Video {
        id: video(n),
        title: format!("new {n}"),
        tags: vec![tag.into()],
        ..Video::default()
    };
    // Ids before, between and after the existing ones.
    let added = [new(0, "fresh"), new(500, "denied"), new(600, "fresh")];
    let rows: Vec<_> = added
        .iter()
        .map(|video| EmbeddingRow {
            id: video.id,
            fingerprint: 1,
            vector: best_row,
        })
        .collect();
    fixture.runtime.block_on(async {
        fixture.store.write_videos(&added).await.unwrap();
        let written = fixture
            .store
            .write_embeddings(VectorTable::Videos, version, &rows[..]);
        written.await.unwrap();
    });
    let begun = Instant::now();
    let expected: HashSet<String> = [0, 600].map(|n| video(n).to_string()).into();
    loop {
        let answer = ask(&server, &json!({"limit": 100}));
        let list = ids(&answer);
        assert!(!list.contains(&video(500).to_string()));
        if list.iter().filter(|id| expected.contains(*id)).count() == 2 {
            let first: HashSet<String> = list[..3].iter().cloned().collect();
            let mut nearest = expected.clone();
            nearest.insert(best.to_string());
            assert_eq!(first, nearest, "they score as the best one does: {answer}");
            assert_eq!(list.len(), VIDEOS as usize + 1);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{list:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let filter = json!({"limit": 100, "filter": {"tags": {"any": ["fresh"]}}});
    assert_eq!(ids(&ask(&server, &filter)).len(), 2);
    fixture.interact(Like, user(ME), &[video(600)]);
    assert_eq!(ids(&ask(&server, &filter)), [video(0).to_string()]);
}
