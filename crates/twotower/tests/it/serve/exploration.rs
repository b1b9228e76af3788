//! New videos and similar videos must meet the same conditions as all others.

use super::client::Answer;
use super::fixture::{Fixture, Running, VIDEOS, catalogue, token, user, video};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use twotower::config::Rules;
use twotower::serve::{Policy, ServeConfig};
use twotower_store::InteractionKind::{Like, Skip};
use twotower_store::{EmbeddingRow, VectorTable};
use uuid::Uuid;

const ME: u128 = 900;

/// A user with three likes. Every video was added a moment ago, so all are new.
fn liking(policy: Policy) -> (Fixture, Running) {
    let fixture = Fixture::new();
    fixture.interact(Like, user(ME), &[video(20), video(27), video(33)]);
    let server = fixture.serve_with(ServeConfig {
        policy,
        ..fixture.config()
    });
    (fixture, server)
}

/// The recommendations of an answer.
fn list(server: &Running, body: &Value) -> Vec<Value> {
    let (_, answer) = server
        .client
        .recommended(&token(user(ME)), &body.to_string());
    answer["recommendations"].as_array().unwrap().clone()
}

fn is_new(it: &Value) -> bool {
    it["reason"] == "new"
}

#[test]
fn new_videos_score_as_much_as_is_asked_for() {
    let (_fixture, server) = liking(Policy {
        exploration_share: 0.5,
        ..Policy::default()
    });
    let (_other, plain) = liking(Policy::default());
    let bound = list(&plain, &json!({"limit": 100}))[11]["score"].as_f64();
    let bound = bound.unwrap();
    let mut drawn = 0;
    for seed in 0..20 {
        let list = list(
            &server,
            &json!({"limit": 8, "seed": seed, "min_score": bound}),
        );
        assert_eq!(list.len(), 8);
        for it in &list {
            assert!(it["score"].as_f64().unwrap() >= bound, "{it}");
        }
        for it in list.iter().filter(|it| is_new(it)) {
            let propensity = it["propensity"].as_f64().unwrap();
            assert!((propensity - 4.0 / 12.0).abs() < 1e-6, "{propensity}");
            drawn += 1;
        }
    }
    assert_eq!(drawn, 80, "four of eight, each time");
}

#[test]
fn caps_hold_for_new_videos() {
    let rules = Rules {
        max_per_maker: 2,
        ..Rules::default()
    };
    let (_fixture, server) = liking(Policy {
        rules,
        exploration_share: 0.5,
    });
    let makers: HashMap<String, String> = catalogue()
        .into_iter()
        .map(|video| (video.id.to_string(), video.maker.unwrap()))
        .collect();
    for seed in 0..40 {
        // Six is the most that the caps allow for three makers.
        let list = list(&server, &json!({"limit": 6, "seed": seed}));
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for it in &list {
            let maker = &makers[it["video_id"].as_str().unwrap()];
            *counts.entry(maker).or_default() += 1;
        }
        assert_eq!((list.len(), counts.len()), (6, 3), "{list:?}");
        assert!(counts.values().all(|&count| count == 2), "{counts:?}");
        assert_eq!(list.iter().filter(|it| is_new(it)).count(), 3);
    }
}

#[test]
fn who_is_new_does_not_depend_on_how_many_places_there_are() {
    let rules = Rules {
        max_per_maker: 2,
        ..Rules::default()
    };
    // One or two places of a list of six.
    let (_fixture, server) = liking(Policy {
        rules,
        exploration_share: 0.25,
    });
    let (mut propensities, mut places) = (HashSet::new(), HashSet::new());
    for seed in 0..40 {
        let list = list(&server, &json!({"limit": 6, "seed": seed}));
        let new: Vec<&Value> = list.iter().filter(|it| is_new(it)).collect();
        places.insert(new.len());
        propensities.extend(new.iter().map(|it| it["propensity"].to_string()));
    }
    assert_eq!(places, HashSet::from([1, 2]));
    assert_eq!(propensities.len(), 1, "{propensities:?}");
}

#[test]
fn new_videos_come_before_skipped_ones() {
    let (fixture, server) = liking(Policy {
        exploration_share: 0.1,
        ..Policy::default()
    });
    let skipped: Vec<Uuid> = (1..=5).map(video).collect();
    fixture.interact(Skip, user(ME), &skipped);
    for seed in 0..10 {
        let list = list(&server, &json!({"limit": 40, "seed": seed}));
        let ids: HashSet<&str> = list
            .iter()
            .map(|it| it["video_id"].as_str().unwrap())
            .collect();
        let all = VIDEOS as usize - 3;
        assert_eq!((list.len(), ids.len()), (all, all));
        for (place, it) in list.iter().enumerate() {
            let expected = match all - place {
                ..=5 => Some("skipped_before"),
                6..=9 => Some("new"),
                _ => None,
            };
            assert_eq!(it["reason"].as_str(), expected, "{place}");
        }
    }
}

#[test]
fn nothing_is_like_a_video_that_cannot_be_recommended() {
    let mut rules = Rules::default();
    rules.only.tags.none = vec!["family".into()];
    let fixture = Fixture::new();
    // It has a vector, but was removed from the catalogue.
    let gone = video(700);
    let vector = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    let rows = [EmbeddingRow {
        id: gone,
        fingerprint: 1,
        vector: &vector,
    }];
    let written = fixture
        .store
        .write_embeddings(VectorTable::Videos, 1, &rows);
    fixture.runtime.block_on(written).unwrap();
    let server = fixture.serve_with(ServeConfig {
        policy: Policy {
            rules,
            ..Policy::default()
        },
        ..fixture.config()
    });
    let ask = |id: Uuid| -> Answer {
        let authorization = format!("Bearer {}", token(user(ME)));
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let path = "/functions/v1/similar_videos";
        let body = json!({"video_id": id});
        server.client.post(path, &headers, &body.to_string())
    };
    assert_eq!(ask(gone).error().0, 404);
    for video in catalogue() {
        let (answer, family) = (ask(video.id), video.tags.contains(&"family".to_owned()));
        let expected = if family { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{}", answer.text);
    }
}
