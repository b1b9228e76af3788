//! Answers while the database is late with a user's state, and that no like is overlooked once it
//! has been read.

use super::client::{Answer, Client, EVENTS};
use super::fixture::{Running, VIDEOS, config, model, token, user, video};
use super::readiness::wait_for;
use crate::life_cycle::place::Place;
use crate::support::{psql_command, sql};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use twotower::serve::ServeConfig;
use twotower_store::InteractionKind::{Like, Skip};
use twotower_store::{ErasePlan, UserState};

/// A database with an active version, and a server on it.
pub(super) fn served(change: impl FnOnce(&mut ServeConfig)) -> (Place, Running) {
    let place = Place::on_postgres();
    place.save(place.next_version(), &model(1));
    place.json("update");
    let mut config = config(place.models());
    change(&mut config);
    let server = Running::start(place.store.clone(), config);
    (place, server)
}

/// For tests of answers without a user's state, each of which takes this long. Where a state must
/// be in time, a busy machine is asked again.
fn soon_late(config: &mut ServeConfig) {
    config.limits.soft_deadline = Duration::from_millis(300);
}

/// Asks until the answer is not a partial one.
fn in_time(ask: impl Fn() -> Value) -> Value {
    let mut body = Value::Null;
    wait_for("an answer in time", || {
        body = ask();
        body["partial"] == false
    });
    body
}

/// Locks what reads of a user's state need, including erasures, until it is dropped.
pub(super) struct Locked {
    session: Child,
    url: String,
}

impl Locked {
    fn states(url: &str) -> Self {
        Self::tables(url, "likes, twotower.tombstones IN ACCESS EXCLUSIVE MODE")
    }

    pub(super) fn tables(url: &str, tables_and_mode: &str) -> Self {
        let lock = format!("BEGIN; LOCK TABLE {tables_and_mode}; SELECT pg_sleep(60)");
        let session = psql_command(url, &lock).spawn().unwrap();
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '%pg_sleep(60)' AND datname = current_database()";
        while sql(url, sleeping) != "1" {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            session,
            url: url.into(),
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND datname = current_database() AND pid <> pg_backend_pid()";
        sql(&self.url, end);
        let _ = self.session.wait();
    }
}

pub(super) fn post_event(client: &Client, who: uuid::Uuid, kind: &str, video: &str) -> Answer {
    let authorization = format!("Bearer {}", token(who));
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let event = json!({"event_id": who, "kind": kind, "video_id": video});
    client.post(EVENTS, &headers, &json!({"events": [event]}).to_string())
}

fn ids(body: &Value) -> Vec<&str> {
    let list = body["recommendations"].as_array().unwrap();
    list.iter()
        .map(|it| it["video_id"].as_str().unwrap())
        .collect()
}

fn erase(place: &Place, who: u128) {
    let plan = ErasePlan::default();
    let erased = place.store.erase_user(user(who), &plan);
    place.runtime.block_on(erased).unwrap();
}

/// Waits until a notification has cleared another user's state from the server's memory.
fn until_it_hears(place: &Place, server: &Running) {
    let mut n = 200;
    wait_for("word of a change", || {
        n += 1;
        server.client.recommended(&token(user(n)), "{}");
        let skipped = place.store.record(Skip, user(n), video(1 + n % VIDEOS));
        place.runtime.block_on(skipped).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        server.metric("twotower_cache_entries") == Some(0.0)
    });
}

#[test]
fn an_earlier_list_or_a_popular_one_stands_in() {
    let (place, server) = served(soon_late);
    let ask = |n: u128| {
        server
            .client
            .recommended(&token(user(n)), r#"{"limit":5}"#)
            .1
    };
    until_it_hears(&place, &server);
    let known = in_time(|| ask(1));
    for body in [&known, &in_time(|| ask(3))] {
        assert_eq!(body["source"], "two_tower");
    }
    erase(&place, 3);
    {
        let _locked = Locked::states(&place.url);
        let stale = ask(1);
        assert_eq!(stale["source"], "stale_cache");
        assert_eq!(
            (&stale["partial"], &stale["cached"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(ids(&stale), ids(&known));
        assert_eq!(stale["user_id"], json!(user(1)));
        // For a list that is not cached it uses the cached likes, so liked videos are still left
        // out.
        let all = server
            .client
            .recommended(&token(user(1)), r#"{"limit":100}"#);
        assert_eq!(
            (&all.1["source"], &all.1["partial"]),
            (&json!("two_tower"), &json!(true))
        );
        assert_eq!(all.0.len(), VIDEOS as usize - 1);
        assert!(
            !all.0.contains(&video(2).to_string()),
            "user 1 likes video 2"
        );
        let authorization = format!("Bearer {}", token(user(1)));
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let body = json!({"video_id": video(9), "limit": 100}).to_string();
        let similar = server
            .client
            .post("/functions/v1/similar_videos", &headers, &body)
            .json();
        assert_eq!(similar["partial"], true);
        assert!(
            !ids(&similar).contains(&video(2).to_string().as_str()),
            "{similar}"
        );
        // An erased user's list is dropped on the notification, although the table of erasures
        // cannot be read now.
        wait_for("word of the erasure", || ask(3)["source"] == "popular");
        let popular = ask(2);
        assert_eq!(popular["source"], "popular");
        assert_eq!(
            (&popular["partial"], &popular["cached"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(ids(&popular).len(), 5);
    }
    assert_eq!(in_time(|| ask(2))["source"], "two_tower");
}

/// For example behind a pooler in transaction mode, or if an application's table has no triggers.
#[test]
fn where_no_erasure_is_heard_of_no_earlier_list_stands_in() {
    let place = Place::on_postgres();
    place.save(place.next_version(), &model(1));
    place.json("update");
    let silent = "ALTER TABLE skips DISABLE TRIGGER twotower_user_changes_insert";
    sql(&place.url, silent);
    let mut config = config(place.models());
    soon_late(&mut config);
    let server = Running::start(place.store.clone(), config);
    let ask = || server.client.recommended(&token(user(1)), "{}").1;
    wait_for("a list that is kept", || ask()["cached"] == true);
    assert_eq!(in_time(ask)["source"], "two_tower");
    erase(&place, 1);
    {
        let _locked = Locked::states(&place.url);
        let late = ask();
        assert_eq!(
            (&late["source"], &late["partial"], &late["cached"]),
            (&json!("popular"), &json!(true), &json!(false))
        );
    }
    wait_for("word of the database", || {
        server.client.recommend(&token(user(1)), "{}").status == 401
    });
}

#[test]
fn without_a_soft_deadline_the_answer_is_an_error() {
    let (place, server) = served(|config| {
        config.limits.soft_deadline = Duration::ZERO;
        config.limits.database = Duration::from_millis(200);
    });
    let _locked = Locked::states(&place.url);
    let answer = server.client.recommend(&token(user(1)), "{}");
    assert_eq!(answer.error().0, 504, "{}", answer.text);
}

#[test]
fn word_of_a_like_empties_the_memory_of_every_server() {
    let (place, first) = served(|_| {});
    let second = Running::start(place.store.clone(), config(place.models()));
    let kept = |server: &Running| {
        let text = server.metrics.get("/metrics", &[]).text;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("twotower_cache_entries "));
        line.unwrap_or("0").parse::<f64>().unwrap()
    };
    // Notifications arrive once both listen: what was cached before is dropped too.
    let mut n = 0;
    let begun = Instant::now();
    loop {
        n += 1;
        let (who, liked) = (user(n % 250), video(1 + n % VIDEOS));
        for server in [&first, &second] {
            server.client.recommended(&token(who), "{}");
        }
        place
            .runtime
            .block_on(place.store.record(Skip, who, liked))
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        if kept(&first) == 0.0 && kept(&second) == 0.0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

/// Users concurrently like, skip, undo and request; each list is compared with what the database
/// said before the request.
#[test]
fn no_list_ever_holds_what_was_liked_before_it_was_asked_for() {
    const ASKERS: u128 = 4;
    const ROUNDS: u64 = 60;
    let (place, server) = served(|_| {});
    let compared = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for asker in 0..ASKERS {
            let (place, server, compared) = (&place, &server, &compared);
            scope.spawn(move || {
                let who = user(1000 + asker);
                let token = token(who);
                let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(asker as u64 + 1);
                let mut random = |n: u64| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state % n
                };
                for round in 0..ROUNDS {
                    let chosen = video(1 + u128::from(random(VIDEOS as u64)));
                    match random(4) {
                        0 | 1 => {
                            let liked = place.store.record(Like, who, chosen);
                            place.runtime.block_on(liked).unwrap();
                        }
                        2 => {
                            let skipped = place.store.record(Skip, who, chosen);
                            place.runtime.block_on(skipped).unwrap();
                        }
                        _ => {
                            let text = format!("DELETE FROM likes WHERE user_id = '{who}' AND video_id = '{chosen}'");
                            sql(&place.url, &text);
                        }
                    }
                    let known: UserState =
                        place.runtime.block_on(place.store.user_state(who, 1000)).unwrap();
                    let limit = 1 + random(VIDEOS as u64);
                    let query = format!(r#"{{"limit":{limit},"diversity":{}}}"#, random(2));
                    let (list, body) = server.client.recommended(&token, &query);
                    if body["partial"] == true {
                        continue;
                    }
                    let liked: HashSet<String> = known.likes.iter().map(ToString::to_string).collect();
                    assert!(list.iter().all(|id| !liked.contains(id)), "round {round}: {body}");
                    let left = VIDEOS as usize - liked.len();
                    assert_eq!(list.len(), left.min(limit as usize), "round {round}");
                    compared.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    // The rest was late.
    let compared = compared.into_inner();
    assert!(compared > ASKERS as u64 * ROUNDS / 2, "{compared} lists");
}

/// PostgreSQL does not notice that a client has given up on a statement that waits for a lock.
#[test]
fn what_is_given_up_ends_in_the_database_too() {
    let (place, server) = served(|config| {
        config.limits.soft_deadline = Duration::ZERO;
        config.limits.database = Duration::from_millis(300);
    });
    let _locked = Locked::states(&place.url);
    for _ in 0..3 {
        let answer = server.client.recommend(&token(user(1)), "{}");
        assert_eq!(answer.error().0, 504, "{}", answer.text);
        let answer = post_event(&server.client, user(1), "like", &video(7).to_string());
        assert_eq!(answer.error().0, 504, "{}", answer.text);
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let begun = Instant::now();
    while sql(&place.url, waiting) != "0" {
        // Half the statement timeout of everything other than requests.
        assert!(begun.elapsed() < Duration::from_secs(15));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The connection that listens may be dead for a while before the server notices.
#[test]
fn a_like_sent_to_this_server_is_in_no_earlier_list_though_no_notification_comes() {
    let (place, server) = served(soon_late);
    until_it_hears(&place, &server);
    let list = |who| in_time(|| server.client.recommended(&token(who), "{}").1);
    let (others, mine) = (list(user(250)), list(user(1)));
    let others = ids(&others);
    // In the cached list, and not in the other one.
    let liked = ids(&mine).into_iter().find(|id| !others.contains(id));
    let liked = liked.unwrap().to_owned();
    sql(
        &place.url,
        "ALTER TABLE likes DISABLE TRIGGER twotower_user_changes_insert",
    );
    let answer = post_event(&server.client, user(1), "like", &liked);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let _locked = Locked::states(&place.url);
    let (late, body) = server.client.recommended(&token(user(1)), "{}");
    assert_eq!(body["partial"], true);
    assert!(!late.contains(&liked), "{body}");
}

/// A server that received no notification once must try again.
#[test]
fn a_server_listens_once_the_database_passes_on_word_of_changes() {
    let place = Place::on_postgres();
    place.save(place.next_version(), &model(1));
    place.json("update");
    let trigger = |what: &str| {
        let text = format!("ALTER TABLE skips {what} TRIGGER twotower_user_changes_insert");
        sql(&place.url, &text);
    };
    trigger("DISABLE");
    let mut config = config(place.models());
    config.limits.listen_again = Duration::from_millis(200);
    // Nothing else may make it drop its cache.
    config.limits.catalogue_poll = Duration::from_hours(1);
    let server = Running::start(place.store.clone(), config);
    let is_kept = || server.client.recommended(&token(user(1)), "{}").1["cached"] == true;
    let begun = Instant::now();
    while !is_kept() {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    // Time for some tries, all of which fail.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert!(is_kept());
        std::thread::sleep(Duration::from_millis(50));
    }
    trigger("ENABLE");
    let begun = Instant::now();
    // A server that begins to listen drops what it had cached.
    while is_kept() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(50));
    }
}
