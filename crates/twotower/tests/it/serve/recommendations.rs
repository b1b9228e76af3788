use super::fixture::{Fixture, Running, VIDEOS, catalogue, config, model, token, user, video};
use crate::life_cycle::place::Place;
use serde_json::json;
use std::collections::HashSet;
use twotower_core::feature::Video;
use twotower_core::kernel::dot;
use twotower_store::InteractionKind::{Like, Skip};
use twotower_store::{InteractionRow, VectorTable};
use uuid::Uuid;

/// An unknown user.
const STRANGER: u128 = 900;

fn names(videos: impl IntoIterator<Item = u128>) -> Vec<String> {
    videos.into_iter().map(|n| video(n).to_string()).collect()
}

#[test]
fn a_stranger_sees_the_most_liked_videos() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let (ids, mut body) = server
        .client
        .recommended(&token(user(STRANGER)), r#"{"limit":3}"#);
    assert_eq!(ids, names([1, 2, 3]));
    let generated_at = body["generated_at"].take();
    assert!(
        generated_at
            .as_str()
            .is_some_and(|at| at.ends_with('Z') && at.len() == 24)
    );
    let expected = json!({
        "user_id": user(STRANGER),
        "source": "popular",
        "model_version": 1,
        "recommendations": [
            {"video_id": video(1), "title": "The quiet harbour 1", "score": 1.0},
            {"video_id": video(2), "title": "笑う門には福来たる 2", "score": 0.909_090_94},
            {"video_id": video(3), "title": "Across the high plateau 3", "score": 0.818_181_8},
        ],
        "partial": false,
        "cached": false,
        "generated_at": null,
    });
    assert_eq!(body, expected);
}

#[test]
fn an_empty_body_asks_for_ten() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let token = token(user(1));
    let with_defaults = server.client.recommended(&token, "{}").0;
    assert_eq!(with_defaults.len(), 10);
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let empty = server
        .client
        .post(super::client::RECOMMENDATIONS, &headers, "");
    assert_eq!(empty.status, 200, "{}", empty.text);
    assert_eq!(empty.header("cache-control"), "no-store");
}

#[test]
fn a_like_counts_at_once_and_never_comes_back() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let (me, limit) = (user(STRANGER), r#"{"limit":10}"#);
    let token = token(me);
    let mut lists = vec![server.client.recommended(&token, limit).0];
    let mut liked = Vec::new();
    for _ in 0..3 {
        let best = lists.last().unwrap()[0].clone();
        fixture.interact(Like, me, &[best.parse().unwrap()]);
        liked.push(best);
        let (ids, body) = server.client.recommended(&token, limit);
        assert_eq!(body["source"], "two_tower");
        assert_eq!(ids.len(), 10);
        assert!(
            ids.iter().all(|id| !liked.contains(id)),
            "{liked:?} in {ids:?}"
        );
        lists.push(ids);
    }
    let before: HashSet<_> = lists[0].iter().filter(|id| !liked.contains(id)).collect();
    let after: HashSet<_> = lists[3].iter().collect();
    assert_ne!(before, after, "three likes move the list");

    let everything = format!(r#"{{"limit":{VIDEOS}}}"#);
    let (ids, _) = server.client.recommended(&token, &everything);
    assert_eq!(ids.len(), VIDEOS as usize - 3);
    assert!(ids.iter().all(|id| !liked.contains(id)));
}

#[test]
fn scores_descend_and_are_inner_products_of_unit_vectors() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let (_, body) = server
        .client
        .recommended(&token(user(3)), r#"{"limit":25}"#);
    let scores: Vec<f64> = body["recommendations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["score"].as_f64().unwrap())
        .collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(scores.iter().all(|score| score.abs() < 1.001), "{scores:?}");
}

#[test]
fn liked_videos_come_back_only_if_asked_for() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let body = r#"{"limit":100,"exclude_liked":false}"#;
    let (ids, answer) = server.client.recommended(&token(user(1)), body);
    assert_eq!(ids.len(), VIDEOS as usize);
    assert_eq!(answer["reason"], "catalogue_exhausted");
}

#[test]
fn skipped_videos_come_last_and_say_so() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let me = user(STRANGER);
    let skipped: Vec<Uuid> = (1..=5).map(video).collect();
    fixture.interact(Skip, me, &skipped);
    fixture.interact(Like, me, &[video(6)]);

    let (ids, _) = server.client.recommended(&token(me), r#"{"limit":30}"#);
    assert!(ids.iter().all(|id| !names(1..=6).contains(id)));

    let (ids, body) = server.client.recommended(&token(me), r#"{"limit":100}"#);
    assert_eq!(ids.len(), VIDEOS as usize - 1);
    let unseen = VIDEOS as usize - 6;
    assert!(ids[unseen..].iter().all(|id| names(1..=5).contains(id)));
    for (place, it) in body["recommendations"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let expected = (place >= unseen).then_some("skipped_before");
        assert_eq!(it["reason"].as_str(), expected);
    }
    assert_eq!(body["reason"], "catalogue_exhausted");
    assert_eq!(body["partial"], false);
}

#[test]
fn a_user_who_liked_everything_gets_an_empty_list() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let all: Vec<Uuid> = (1..=VIDEOS).map(video).collect();
    fixture.interact(Like, user(STRANGER), &all);
    let (ids, body) = server.client.recommended(&token(user(STRANGER)), "{}");
    assert!(ids.is_empty());
    assert_eq!(body["reason"], "catalogue_exhausted");
}

#[test]
fn without_a_model_everybody_sees_the_most_liked_videos() {
    let fixture = Fixture::without_model();
    let server = fixture.serve();
    let (ids, body) = server
        .client
        .recommended(&token(user(11)), r#"{"limit":2}"#);
    assert_eq!(ids, names([2, 3]), "user 11 has liked video 1");
    assert_eq!(body["source"], "popular");
    assert_eq!(body["model_version"], json!(null));
}

#[test]
fn users_do_not_see_each_other() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let list = |n: u128| {
        server
            .client
            .recommended(&token(user(n)), r#"{"limit":40}"#)
    };
    let (of_1, body) = list(1);
    assert_eq!(body["user_id"], json!(user(1)));
    assert_eq!(of_1.len(), VIDEOS as usize - 11);
    let (of_11, _) = list(11);
    assert_eq!(of_11.len(), VIDEOS as usize - 1);
}

/// However many skips came after it. The vector uses only the latest thousand.
#[test]
fn what_was_skipped_long_ago_comes_last_too() {
    const AFTER: u128 = 1001;
    let fixture = Fixture::new();
    let me = user(STRANGER);
    let others: Vec<Video> = (0..AFTER)
        .map(|n| Video {
            id: video(1000 + n),
            ..Video::default()
        })
        .collect();
    let written = fixture.store.write_videos(&others);
    fixture.runtime.block_on(written).unwrap();
    let long_ago = names(1..=30);
    let skipped: Vec<Uuid> = (1..=30)
        .map(video)
        .chain(others.iter().map(|it| it.id))
        .collect();
    // Two of those with vectors are among the latest thousand.
    let latest = [video(39), video(40)];
    fixture.interact(Skip, me, &[&skipped[..], &latest].concat());
    let server = fixture.serve();
    let list = |path: &str, body: &serde_json::Value| {
        let authorization = format!("Bearer {}", token(me));
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let path = format!("/functions/v1/{path}");
        let answer = server.client.post(&path, &headers, &body.to_string());
        let body = answer.json();
        let list = body["recommendations"].as_array().unwrap().clone();
        assert_eq!(
            (list.len(), &body["partial"]),
            (20, &json!(false)),
            "{body}"
        );
        (list, body)
    };
    let (listed, body) = list("two_tower_recommendations", &json!({"limit": 20}));
    assert_eq!(body["source"], "two_tower");
    for it in [
        listed.clone(),
        list(
            "similar_videos",
            &json!({"limit": 20, "video_id": video(40)}),
        )
        .0,
    ] {
        // Eight others remain.
        for (place, it) in it.iter().enumerate() {
            let expected = (place >= 8).then_some("skipped_before");
            assert_eq!(it["reason"].as_str(), expected, "{place}: {it}");
            let id = it["video_id"].as_str().unwrap();
            assert_eq!(
                place >= 8,
                long_ago.iter().chain(&names([39, 40])).any(|it| it == id)
            );
        }
    }
    let read = fixture.store.read_embeddings(
        VectorTable::Videos,
        body["model_version"].as_i64().unwrap(),
        8,
    );
    let (ids, vectors) = fixture.runtime.block_on(read).unwrap();
    let vector = |id: Uuid| vectors.row(ids.binary_search(&id).unwrap());
    let tower = model(1).user_tower;
    let history = tower.history(std::iter::empty(), latest.map(vector));
    let mine = tower.embed(&history).unwrap();
    for it in &listed {
        let (score, id) = (
            it["score"].as_f64().unwrap() as f32,
            it["video_id"].as_str(),
        );
        let expected = dot(&mine, vector(id.unwrap().parse().unwrap()));
        assert!((score - expected).abs() < 1e-5, "{it}: {expected}");
    }
}

/// A vector of only the latest likes would differ from what the tower was trained and evaluated
/// with, and from what is stored.
#[test]
fn a_long_history_counts_as_a_whole() {
    const LIKES: usize = 2500;
    const FIRST: u128 = 1000;
    let place = Place::on_sqlite();
    // Earlier likes are of another kind than the latest thousand.
    let kinds = catalogue();
    let videos: Vec<Video> = (0..LIKES)
        .map(|n| Video {
            id: video(FIRST + n as u128),
            ..kinds[if n < LIKES - 1000 { 3 } else { 16 }].clone()
        })
        .collect();
    let likes: Vec<InteractionRow> = (1_700_000_000_000_000..)
        .zip(&videos)
        .map(|(at_us, video)| InteractionRow {
            user: user(STRANGER),
            video: video.id,
            at_us,
        })
        .collect();
    let model = model(1);
    let version = place.next_version();
    place.save(version, &model);
    place.runtime.block_on(async {
        place.store.write_videos(&videos).await.unwrap();
        place.store.write_interactions(Like, &likes).await.unwrap();
    });
    place.json("update");
    let read = |table| {
        let read = place.store.read_embeddings(table, version, 8);
        place.runtime.block_on(read).unwrap()
    };
    let (users, user_vectors) = read(VectorTable::Users);
    let (ids, video_vectors) = read(VectorTable::Videos);
    let stored = user_vectors.row(users.binary_search(&user(STRANGER)).unwrap());
    let vector = |id: Uuid| video_vectors.row(ids.binary_search(&id).unwrap());

    let server = Running::start(place.store.clone(), config(place.models()));
    let (list, body) = server
        .client
        .recommended(&token(user(STRANGER)), r#"{"limit":40}"#);
    assert_eq!((list.len(), &body["source"]), (40, &json!("two_tower")));
    let latest = likes[LIKES - 1000..].iter().map(|like| vector(like.video));
    let state = model.user_tower.history(latest, std::iter::empty());
    let cut = model.user_tower.embed(&state).unwrap();
    let mut apart = 0.0_f32;
    for (id, it) in list.iter().zip(body["recommendations"].as_array().unwrap()) {
        let (score, video) = (
            it["score"].as_f64().unwrap() as f32,
            vector(id.parse().unwrap()),
        );
        assert!((score - dot(stored, video)).abs() < 1e-5, "{it}");
        apart = apart.max((score - dot(&cut, video)).abs());
    }
    assert!(apart > 1e-3, "the older likes make no difference: {apart}");
}
