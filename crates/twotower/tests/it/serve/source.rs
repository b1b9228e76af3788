//! An application with other table names: `films`, `favourites` and related ones.

use super::client::{Answer, EVENTS};
use super::fixture::{Fixture, Running, token, user, video};
use super::readiness::{ready, reason, wait_for};
use crate::support::{Workplace, sql};
use serde_json::{Value, json};
use std::process::Command;
use twotower::config::Config;
use twotower::serve::ConsoleAccess;
use twotower_store::ErasePlan;
use uuid::Uuid;

/// As in the operator's file.
const SOURCE: &str = r#"
[source]
videos = """
    SELECT film AS id, name AS title, text AS description, genre, maker, price, duration_seconds, published_at, thumbnail_url FROM films
    WHERE NOT withdrawn"""
video_tags = "SELECT film AS video_id, label AS name FROM labels;"
likes = "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites"
skips = "SELECT member AS user_id, film AS video_id, since AS created_at FROM passes"
[erase]
statements = ["DELETE FROM favourites WHERE member = $1"]
"#;

/// Moves all our rows into tables with these names.
const MOVED: &str = "
    CREATE TABLE films AS SELECT id AS film, title AS name, description AS text, genre, maker, price, duration_seconds, published_at,
                                 thumbnail_url, false AS withdrawn FROM videos;
    CREATE TABLE labels AS SELECT video_id AS film, tags.name AS label FROM video_tags JOIN tags ON tags.id = tag_id;
    CREATE TABLE favourites AS SELECT user_id AS member, video_id AS film, created_at AS since FROM likes;
    CREATE TABLE passes AS SELECT user_id AS member, video_id AS film, created_at AS since FROM skips;
    CREATE INDEX favourites_member ON favourites (member, since DESC);
    DELETE FROM likes;
    DELETE FROM skips;
    DELETE FROM video_tags;
    DELETE FROM video_performers;
    DELETE FROM videos;";

/// Runs SQL directly, bypassing twotower.
fn execute(url: &str, text: &str) {
    let Some(file) = url.strip_prefix("sqlite://") else {
        sql(url, text);
        return;
    };
    let python = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()";
    let done = Command::new("python3")
        .args(["-c", python, file, text])
        .status();
    assert!(done.unwrap().success(), "{text}");
}

/// A literal of an id in the SQL of the database at `url`.
fn literal(url: &str, id: Uuid) -> String {
    if url.starts_with("sqlite:") {
        format!("x'{}'", id.simple())
    } else {
        format!("'{id}'")
    }
}

fn favour(fixture: &Fixture, who: Uuid, of: Uuid) {
    let url = &fixture.url;
    let now = if url.starts_with("sqlite:") {
        "CAST(strftime('%s') AS INTEGER) * 1000000"
    } else {
        "now()"
    };
    let (who, of) = (literal(url, who), literal(url, of));
    let row = format!("INSERT INTO favourites (member, film, since) VALUES ({who}, {of}, {now})");
    execute(url, &row);
}

/// A server on tables with other names, with an active model.
fn served(fixture: &Fixture) -> Running {
    execute(&fixture.url, MOVED);
    let config = Config::parse(SOURCE, "twotower.toml".as_ref()).unwrap();
    let store = fixture.store.with_source(&config.source);
    let store = fixture.runtime.block_on(store).unwrap();
    let mut settings = fixture.config();
    settings.console = ConsoleAccess::Loopback;
    Running::start(store, settings)
}

fn send(server: &Running, token: &str, events: &Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let body = json!({ "events": events }).to_string();
    server.client.post(EVENTS, &headers, &body)
}

fn on_both() -> [Fixture; 2] {
    let fixtures = [Fixture::without_model(), Fixture::on_postgres()];
    for fixture in &fixtures {
        fixture.train(1);
    }
    fixtures
}

#[test]
fn lists_are_made_of_what_tables_of_other_names_hold() {
    for fixture in on_both() {
        let server = served(&fixture);
        // User 1 likes the videos 1 to 11.
        let one = token(user(1));
        let (list, body) = server.client.recommended(&one, r#"{"limit": 40}"#);
        assert_eq!(body["source"], "two_tower", "{body}");
        assert_eq!(list.len(), 29, "{body}");
        assert!((1..=11).all(|n| !list.contains(&video(n).to_string())));
        assert!(body["recommendations"][0]["title"].is_string(), "{body}");
        // A user without likes gets what is popular among favourites.
        let nobody = token(user(500));
        let (popular, body) = server.client.recommended(&nobody, "{}");
        assert_eq!(body["source"], "popular");
        assert_eq!(popular[..3], [1, 2, 3].map(|n| video(n).to_string()));
        let calm = r#"{"limit": 5, "filter": {"tags": {"any": ["calm"]}}}"#;
        let (calm, _) = server.client.recommended(&one, calm);
        assert!(!calm.is_empty(), "labels are tags");

        // Writes of the application show in the next answer, both a fresh one and after a cached
        // one.
        for n in 0..2 {
            let (before, _) = server.client.recommended(&one, "{}");
            let first = Uuid::try_parse(&before[0]).unwrap();
            favour(&fixture, user(1), first);
            let (after, _) = server.client.recommended(&one, "{}");
            assert!(!after.contains(&before[0]), "{n}: {after:?}");
        }

        let view = json!({"event_id": Uuid::from_u128(1), "kind": "view", "video_id": video(20), "watch_fraction": 0.5});
        let like = json!({"event_id": Uuid::from_u128(2), "kind": "like", "video_id": video(20)});
        let skip = json!({"event_id": Uuid::from_u128(3), "kind": "skip", "video_id": video(20)});
        let (status, code, message) = send(&server, &one, &json!([view, like])).error();
        assert_eq!((status, &*code), (400, "invalid_request"));
        assert_eq!(
            message,
            "`events[1].kind` is \"like\", and likes are read from the application's own table, as section [source] of the server's \
             configuration says: write it there, and send the other events without it"
        );
        let (status, _, message) = send(&server, &one, &json!([skip])).error();
        assert_eq!(status, 400);
        assert!(message.contains("and skips are read from"), "{message}");
        // Nothing of the refused call was stored.
        let answer = send(&server, &one, &json!([view]));
        assert_eq!(answer.json(), json!({"accepted": 1, "duplicates": 0}));
        let gone = json!([{"event_id": Uuid::from_u128(4), "kind": "view", "video_id": video(77)}]);
        let (_, _, message) = send(&server, &one, &gone).error();
        assert_eq!(message, "`events[0].video_id` names no video");
        // Our own tables are empty, and remain so.
        let counts = fixture.runtime.block_on(fixture.store.counts()).unwrap();
        assert_eq!((counts.videos, counts.likes, counts.skips), (0, 0, 0));
    }
}

#[test]
fn nobody_who_was_erased_is_answered_while_their_rows_are_still_there() {
    for fixture in on_both() {
        let server = served(&fixture);
        let one = token(user(1));
        assert_eq!(server.client.recommend(&one, "{}").status, 200);
        let plan = ErasePlan {
            likes: false,
            skips: false,
            statements: Vec::new(),
        };
        let erased = fixture.store.erase_user(user(1), &plan);
        fixture.runtime.block_on(erased).unwrap();
        let (status, code, _) = server.client.recommend(&one, "{}").error();
        assert_eq!((status, &*code), (401, "unauthorized"));
    }
}

#[test]
fn a_source_that_cannot_be_read_keeps_a_server_from_starting() {
    let fixtures = [Fixture::without_model(), Fixture::on_postgres()];
    for fixture in fixtures {
        let place = Workplace {
            url: fixture.url.clone(),
            folder: tempfile::tempdir().unwrap(),
        };
        place.configure("[source]\nskips = \"SELECT nobody AS user_id FROM skips\"");
        for line in [
            "serve --listen 127.0.0.1:0",
            "--json doctor --only data-sufficiency",
        ] {
            let code = if line.starts_with("serve") { 2 } else { 1 };
            let output = place
                .command(line)
                .env("TWOTOWER_JWT_SECRET", super::fixture::SECRET)
                .output()
                .unwrap();
            let said = [&output.stderr[..], &output.stdout].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(output.status.code(), Some(code), "{line}: {said}");
            assert!(said.contains("[source] skips: "), "{line}: {said}");
            assert!(said.contains("nobody"), "{line}: {said}");
        }
    }
}

#[test]
fn a_table_of_the_source_that_is_gone_is_named_and_the_server_is_not_ready() {
    for fixture in on_both() {
        let server = served(&fixture);
        assert_eq!(ready(&server).0, 200);
        execute(&fixture.url, "ALTER TABLE favourites RENAME TO gone");
        wait_for("word of it", || {
            let (status, body) = ready(&server);
            let said = reason(&body, "database");
            status == 503 && said.contains("favourites") && said.contains("section [source]")
        });
        execute(&fixture.url, "ALTER TABLE gone RENAME TO favourites");
        wait_for("its end", || ready(&server).0 == 200);
    }
}

#[test]
fn the_console_shows_what_is_there_and_writes_nothing_that_nobody_reads() {
    for fixture in on_both() {
        let server = served(&fixture);
        let bearer = format!("Bearer {}", token(user(2)));
        let headers = [
            ("x-twotower-console", "1"),
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
        ];
        let start = server.client.get("/", &headers);
        assert!(start.text.contains("11 likes"), "{}", start.text);
        // User 2 likes the videos 1 to 10.
        let likes = server.client.get("/console/history", &headers).json();
        assert_eq!(likes["count"], 10, "{likes}");
        assert!(likes["likes"][0]["tags"][0].is_string(), "{likes}");
        let like = json!({"video_id": video(30), "kind": "like"}).to_string();
        let answer = server.client.post("/console/interactions", &headers, &like);
        let (status, _, message) = answer.error();
        assert_eq!(status, 400);
        assert!(message.contains("likes are read from"), "{message}");
        let hide = json!({"video_id": video(30), "kind": "hide"}).to_string();
        let answer = server.client.post("/console/interactions", &headers, &hide);
        assert_eq!(answer.json(), json!({"recorded": true}));
    }
}
