//! Server, SQL function and Edge Function give the same users the same lists.

use super::project::{Project, RECOMMENDATIONS, UPDATE};
use crate::serve::fixture::{catalogue, token, user, video};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use twotower_core::feature::Video;
use twotower_store::InteractionKind::{Like, Skip};

/// Scores closer than this are ties: sums are computed in another order and precision.
const TIE: f64 = 1e-5;

fn scored(list: &Value) -> Vec<(String, f64)> {
    let row = |it: &Value| {
        let id = it["video_id"].as_str().unwrap().to_owned();
        (id, it["score"].as_f64().unwrap())
    };
    list.as_array().unwrap().iter().map(row).collect()
}

/// Asserts that scores are equal by position, and videos where scores distinguish them.
fn assert_same(what: &str, a: &[(String, f64)], b: &[(String, f64)]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (place, ((id, score), (other_id, other))) in a.iter().zip(b).enumerate() {
        assert!((score - other).abs() < TIE, "{what}, {place}: {a:?} {b:?}");
        let tied = |list: &[(String, f64)]| {
            let neighbours = place.saturating_sub(1)..list.len().min(place + 2);
            let near = list[neighbours]
                .iter()
                .filter(|it| (it.1 - score).abs() < TIE);
            near.count() > 1
        };
        // The last score may also belong to a video that was cut off.
        assert!(
            id == other_id || tied(a) || place + 1 == a.len(),
            "{what}, {place}: {a:?} {b:?}"
        );
    }
}

#[test]
fn the_same_user_gets_the_same_list_on_every_way() {
    let project = Project::new();
    let fixture = &project.fixture;
    for who in [20, 21, 22] {
        fixture.interact(Like, user(who), &[video(who), video(who + 9)]);
        fixture.interact(Skip, user(who), &[video(3), video(who + 1)]);
    }
    let server = fixture.serve();
    let update = project.function(UPDATE);
    // First with the tower in the database, then with that of the Edge Function.
    for in_database in [true, false] {
        if !in_database {
            project.without_towers_in_the_database();
        }
        let edge = project.function(RECOMMENDATIONS);
        // After likes have come in, each recounts popularity for new users at its own time.
        let stranger = in_database.then_some(900);
        for who in [1, 2, 3, 8, 11, 20, 21, 22].into_iter().chain(stranger) {
            for body in [
                json!({}),
                json!({"limit": 38}),
                json!({"exclude_liked": false}),
            ] {
                let text = body.to_string();
                let (_, from_server) = server.client.recommended(&token(user(who)), &text);
                let (_, from_edge) = edge.list(who, &text);
                let what = format!("{who} {text} {in_database}");
                for field in ["source", "model_version", "user_id", "reason"] {
                    assert_eq!(from_server[field], from_edge[field], "{what}");
                }
                let expected = scored(&from_server["recommendations"]);
                assert_same(&what, &expected, &scored(&from_edge["recommendations"]));
                // Without a tower, the database gives the same list once it has the user's vector.
                if !in_database {
                    assert_eq!(update.post(&token(user(who)), "").status, 200);
                }
                let rows = project.rpc(user(who), "recommend_videos", &body).json();
                assert_same(&what, &expected, &scored(&rows));
            }
        }
        // A like between two requests counts in the second one everywhere.
        for who in [2, 21, 30] {
            let new = who + 5 + u128::from(in_database);
            fixture.interact(Like, user(who), &[video(new), video(new - 2)]);
            let (_, from_server) = server.client.recommended(&token(user(who)), "{}");
            let (_, from_edge) = edge.list(who, "{}");
            let expected = scored(&from_server["recommendations"]);
            let what = format!("{who} {in_database}");
            assert_same(&what, &expected, &scored(&from_edge["recommendations"]));
            if in_database {
                let rows = project
                    .rpc(user(who), "recommend_videos", &json!({}))
                    .json();
                assert_same(&what, &expected, &scored(&rows));
            }
        }
    }
}

/// Whether a block excludes a video.
type LeavesOut = fn(&Video) -> bool;

/// Facts as untidy as in an application's tables, and blocks in any spelling that users write.
#[test]
fn blocks_leave_out_the_same_videos_on_every_way() {
    let project = Project::new();
    let url = &project.fixture.url;
    crate::support::sql(
        url,
        r"UPDATE videos SET maker = E'\u3000' || maker || E'\u00a0\n', genre = E'\t' || genre || E'\u2003';
          UPDATE tags SET name = E'\u2028' || name || ' ' WHERE name IN ('calm', 'evening')",
    );
    let server = project.fixture.serve();
    let edge = project.function(RECOMMENDATIONS);
    // The videos that each block excludes.
    let cases: [(&str, String, LeavesOut); 10] = [
        ("maker", "North Light".into(), |it| {
            it.maker.as_deref() == Some("North Light")
        }),
        ("maker", "\u{2029}青空スタジオ\u{3000}".into(), |it| {
            it.maker.as_deref() == Some("青空スタジオ")
        }),
        ("genre", "ドラマ\r\n".into(), |it| {
            it.genre.as_deref() == Some("ドラマ")
        }),
        ("genre", "\u{3000}".into(), |_| false),
        ("tag", "calm".into(), |it| it.tags.contains(&"calm".into())),
        ("tag", "\u{1680}family".into(), |it| {
            it.tags.contains(&"family".into())
        }),
        ("tag", "Family".into(), |_| false),
        ("video", video(3).urn().to_string().to_uppercase(), |it| {
            it.id == video(3)
        }),
        ("video", video(3).braced().to_string(), |it| {
            it.id == video(3)
        }),
        ("video", "0a000000000040008000-000000000003".into(), |it| {
            it.id == video(3)
        }),
    ];
    // Each for a new user, who has no cached list yet.
    for (who, (kind, value, blocked)) in (600..).zip(cases) {
        let block = format!(
            "INSERT INTO recommendation_blocks (user_id, kind, value) VALUES ('{}', '{kind}', '{value}')",
            user(who)
        );
        crate::support::sql(url, &block);
        let passes = catalogue().into_iter().filter(|it| !blocked(it));
        let expected: BTreeSet<String> = passes.map(|it| it.id.to_string()).collect();
        let body = json!({"limit": 100});
        let text = body.to_string();
        let (from_server, _) = server.client.recommended(&token(user(who)), &text);
        let (from_edge, _) = edge.list(who, &text);
        let rows = project.rpc(user(who), "recommend_videos", &body).json();
        let from_sql = scored(&rows).into_iter().map(|(id, _)| id).collect();
        for (way, list) in [
            ("server", from_server),
            ("edge", from_edge),
            ("SQL", from_sql),
        ] {
            let list: BTreeSet<String> = list.into_iter().collect();
            assert_eq!(list, expected, "{way}: {kind} {value:?}");
        }
    }
}
