//! What must never be in the logs of jobs, even at the most verbose level: ids of users, titles and
//! passwords. `serve::canaries` looks at the server's.

use super::place::{Place, USERS};
use crate::serve::fixture::{catalogue, user};
use std::fs;

/// Part of every made-up value here except ids and titles, and of nothing else.
const CANARY: &str = "canary";

/// Runs `line`; returns what it has logged.
fn logged(place: &Place, line: &str) -> String {
    let (scheme, rest) = place.url.split_once("://postgres@").unwrap();
    let url = format!("{scheme}://postgres:canary-of-database@{rest}");
    let log = place.folder.path().join("job.log");
    let output = place
        .command(&format!("-v -v --log-file job.log {line}"))
        .env("DATABASE_URL", url)
        .env_remove("TWOTOWER_LOG")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    format!("{text}{said}").to_lowercase()
}

#[test]
fn the_logs_of_jobs_hold_nothing_of_users_titles_and_connections() {
    let place = Place::on_postgres();
    place.like_more();
    let write = |name: &str, text: &str| fs::write(place.folder.path().join(name), text).unwrap();
    write(
        "videos.csv",
        "id,title,genre\n7,canary of a title,canary of a genre\n",
    );
    write(
        "likes.csv",
        "user_id,video_id,created_at\ncanary-of-user,7,2026-11-20T00:00:00Z\n",
    );
    let erase = format!("erase --user {}", user(3));
    let mut secrets = vec![CANARY.to_owned()];
    secrets.extend((0..USERS).flat_map(|n| [user(n).to_string(), user(n).simple().to_string()]));
    secrets.extend(catalogue().into_iter().map(|it| it.title.to_lowercase()));
    let mut all = String::new();
    for line in [
        "import videos.csv likes.csv",
        "train --epochs 1 --batch-size 64 --embedding-dim 8",
        "update",
        "run update",
        &erase,
        "export --to out --user-ids",
        "backup --to copies",
        "prune",
        "maintain",
    ] {
        let log = logged(&place, line);
        for secret in &secrets {
            let found = log.lines().find(|line| line.contains(secret));
            assert_eq!(found, None, "{line}: {secret}");
        }
        all.push_str(&log);
    }
    assert!(
        all.contains("\"level\":\"debug\""),
        "the most verbose level"
    );
}
