//! Neither one user nor one kind of request takes the database away from others.

use super::fixture::{token, user, video};
use super::late_database::{Locked, post_event, served};
use super::readiness::wait_for;
use crate::support::sql;
use std::time::{Duration, Instant};

/// Makes reading the state of `who` take this long, and that of nobody else.
fn slow_to_read(url: &str, who: uuid::Uuid, seconds: f64) {
    let text = format!(
        "ALTER FUNCTION twotower.user_state(uuid, bigint) RENAME TO state_at_once;
         CREATE FUNCTION twotower.user_state(
             asked uuid, skip_limit bigint, OUT erased boolean, OUT likes bytea, OUT skips bytea, OUT blocks text
         ) LANGUAGE plpgsql STABLE AS $$
         BEGIN
             IF asked = '{who}' THEN
                 PERFORM pg_sleep({seconds});
             END IF;
             SELECT it.erased, it.likes, it.skips, it.blocks INTO erased, likes, skips, blocks
             FROM twotower.state_at_once(asked, skip_limit) AS it;
         END $$"
    );
    sql(url, &text);
}

#[test]
fn one_user_who_is_slow_to_read_keeps_nobody_else_from_being_known() {
    let (place, server) = served(|_| {});
    let slow = user(7);
    slow_to_read(&place.url, slow, 5.0);
    assert_eq!(
        server.client.recommended(&token(slow), "{}").1["partial"],
        true
    );
    // The reader learns of it a little later than the request, which has been answered.
    std::thread::sleep(Duration::from_millis(500));
    let until = Instant::now() + Duration::from_secs(4);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let client = server.another_client();
            scope.spawn(move || {
                while Instant::now() < until {
                    client.recommended(&token(slow), "{}");
                }
            });
        }
        let mut known = 0;
        while Instant::now() < until {
            let (_, body) = server.client.recommended(&token(user(2)), "{}");
            assert_eq!(body["partial"], false, "after {known} others: {body}");
            known += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(known > 3, "{known}");
    });
}

/// More rows than are read together with other users.
fn with_many_blocks(url: &str, who: uuid::Uuid) {
    let text = format!(
        "INSERT INTO recommendation_blocks (user_id, kind, value) SELECT '{who}', 'tag', 'tag ' || n FROM generate_series(1, 5001) AS n"
    );
    sql(url, &text);
}

#[test]
fn one_user_with_many_rows_keeps_no_other_such_user_from_being_known() {
    let (place, server) = served(|_| {});
    let (slow, other) = (user(7), user(8));
    for who in [slow, other] {
        with_many_blocks(&place.url, who);
    }
    slow_to_read(&place.url, slow, 0.4);
    for who in [slow, other] {
        let (_, body) = server.client.recommended(&token(who), "{}");
        assert_eq!(body["partial"], false, "{body}");
    }
    let until = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let client = server.another_client();
            scope.spawn(move || {
                while Instant::now() < until {
                    client.recommended(&token(slow), "{}");
                }
            });
        }
        let mut known = 0;
        while Instant::now() < until {
            let (_, body) = server.client.recommended(&token(other), "{}");
            assert_eq!(body["partial"], false, "after {known} others: {body}");
            known += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(known > 3, "{known}");
    });
}

/// While an index is built on a table, for example, reads of the table succeed and writes wait.
#[test]
fn events_that_hang_take_neither_connections_nor_places_from_lists() {
    let (place, server) = served(|config| config.limits.concurrency.maximum = 8);
    let locked = Locked::tables(&place.url, "twotower.events IN SHARE MODE");
    let until = Instant::now() + Duration::from_secs(4);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let client = server.another_client();
            scope.spawn(move || {
                // Half of them are one user.
                let who = user(100 + n.max(8));
                while Instant::now() < until {
                    let answer = post_event(&client, who, "view", &video(1).to_string());
                    assert!([429, 503, 504].contains(&answer.status), "{}", answer.text);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let mut lists = 0;
        while Instant::now() < until {
            let (_, body) = server.client.recommended(&token(user(2)), "{}");
            assert_eq!(body["partial"], false, "after {lists} lists: {body}");
            lists += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(lists > 3, "{lists}");
    });
    for reason in ["user_calls", "circuit_open"] {
        let shed = format!("twotower_http_requests_shed_total{{reason=\"{reason}\"}}");
        assert!(server.metric(&shed).unwrap_or_default() > 0.0, "{reason}");
    }
    drop(locked);
    wait_for("an event", || {
        post_event(&server.client, user(2), "view", &video(1).to_string()).status == 200
    });
}
