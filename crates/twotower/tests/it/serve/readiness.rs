use super::fixture::{Fixture, Running, SECRET, model, save_model, token, user};
use crate::support::{fresh_postgres, sql};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use twotower::serve::auth::Config;
use twotower::serve::{ConsoleAccess, Server};
use twotower_store::{ConnectOptions, Store};

pub(super) fn ready(server: &Running) -> (u16, Value) {
    let answer = server.client.get("/readyz", &[]);
    (answer.status, answer.json())
}

pub(super) fn reason(body: &Value, name: &str) -> String {
    let checks = body["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name).unwrap();
    check["reason"].as_str().unwrap_or_default().to_owned()
}

/// Whether requests are answered by a version other than the active one.
fn answers_all_the_same(server: &Running) -> bool {
    let (status, body) = ready(server);
    assert_eq!((status, &body["ready"]), (200, &json!(true)), "{body}");
    !reason(&body, "model").is_empty()
}

/// Polls, because the server looks for new versions by itself.
pub(super) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(super) fn serve_quickly(fixture: &Fixture) -> Running {
    let mut config = fixture.config();
    config.limits.active_model_poll = Duration::from_millis(50);
    config.limits.catalogue_poll = Duration::from_millis(200);
    fixture.serve_with(config)
}

#[test]
fn all_is_well() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let health = server.client.get("/healthz", &[]);
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok"}))
    );
    let ok = |name: &str| json!({"name": name, "ok": true});
    let expected = json!({
        "ready": true,
        "model_version": 1,
        "checks": [ok("database"), ok("model"), ok("experiment"), ok("keys")],
    });
    assert_eq!(ready(&server), (200, expected));
}

#[test]
fn a_new_version_is_served_and_a_missing_folder_keeps_the_old_one() {
    let fixture = Fixture::new();
    let server = serve_quickly(&fixture);
    let version = || {
        let (ids, body) = server.client.recommended(&token(user(1)), "{}");
        (body["model_version"].as_i64(), ids)
    };
    let (first, old_list) = version();
    assert_eq!(first, Some(1));

    assert_eq!(fixture.train(2), 2);
    wait_for("version 2", || version().0 == Some(2));
    assert_ne!(version().1, old_list);

    let third = fixture.train(3);
    std::fs::rename(fixture.models().join("3"), fixture.models().join("hidden")).unwrap();
    let mut server = serve_quickly(&fixture);
    let (status, body) = ready(&server);
    assert_eq!((status, third), (503, 3));
    let reason = reason(&body, "model");
    assert!(
        reason.contains("version 3") && reason.contains("twotower rollback"),
        "{reason}"
    );
    assert_eq!(
        server.client.recommend(&token(user(1)), "{}").error().0,
        503
    );

    std::fs::rename(fixture.models().join("hidden"), fixture.models().join("3")).unwrap();
    wait_for("the folder", || ready(&server).0 == 200);
    server.stop();
}

#[test]
fn a_running_server_keeps_its_version_until_the_next_one_is_whole() {
    let fixture = Fixture::new();
    let server = serve_quickly(&fixture);
    assert_eq!(ready(&server).0, 200);
    // The version is activated while its folder cannot be read here.
    let version = fixture.load(2);
    let damaged = fixture
        .models()
        .join(version.to_string())
        .join("manifest.json");
    std::fs::write(damaged, "{}").unwrap();
    fixture.activate(version);
    let server_2 = serve_quickly(&fixture);
    assert_eq!(ready(&server_2).0, 503, "it holds nothing");
    wait_for("word of the damage", || answers_all_the_same(&server));
    let (_, body) = ready(&server);
    assert_eq!(body["model_version"], 1);
    assert!(reason(&body, "model").contains(&format!("version {version}")));
    let answer = server.client.recommend(&token(user(1)), "{}");
    assert_eq!(answer.status, 200, "the old view stays: {}", answer.text);
}

/// The loaded version is kept current until the next one can be read.
#[test]
fn a_video_that_is_gone_is_not_recommended_while_files_are_missing() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let server = serve_quickly(&fixture);
    let version = fixture.load(2);
    std::fs::remove_dir_all(fixture.models().join(version.to_string())).unwrap();
    fixture.activate(version);
    wait_for("word of the missing folder", || {
        answers_all_the_same(&server)
    });
    let listed = || server.client.recommended(&token(user(1)), "{}");
    let (ids, answer) = listed();
    assert_eq!(answer["model_version"], 1);
    let gone = ids[0].clone();
    sql(
        &fixture.url,
        &format!("DELETE FROM videos WHERE id = '{gone}'"),
    );
    wait_for("the video to be gone", || !listed().0.contains(&gone));
    assert_eq!(listed().1["model_version"], 1);
}

/// A server never combines the user tower of one model with the vectors of another with the same
/// number.
#[test]
fn a_folder_of_another_model_is_not_served() {
    let fixture = Fixture::new();
    let server = serve_quickly(&fixture);
    assert_eq!(ready(&server).0, 200);
    let version = fixture.load(2).to_string();
    let (folder, aside) = (
        fixture.models().join(&version),
        fixture.models().join("aside"),
    );
    std::fs::rename(&folder, &aside).unwrap();
    save_model(&fixture.models(), &model(99), 2);
    fixture.activate(2);
    wait_for("the refusal", || answers_all_the_same(&server));
    let said = reason(&ready(&server).1, "model");
    assert!(
        said.contains("version 2 holds another model") && said.contains("twotower rollback"),
        "{said}"
    );
    let (_, answer) = server.client.recommended(&token(user(1)), "{}");
    assert_eq!(answer["model_version"], 1, "the old view stays");
    let another = serve_quickly(&fixture);
    assert_eq!(ready(&another).0, 503);

    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    for server in [&server, &another] {
        wait_for("the folder", || {
            let (status, body) = ready(server);
            status == 200 && reason(&body, "model").is_empty()
        });
        let (_, answer) = server.client.recommended(&token(user(1)), "{}");
        assert_eq!(answer["model_version"], 2);
    }
}

/// After a database was restored to an earlier state and reused a number, while a server holds the
/// earlier model of that number.
#[test]
fn a_number_that_has_become_another_models_is_noticed() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let server = serve_quickly(&fixture);
    assert_eq!(ready(&server).0, 200);
    sql(
        &fixture.url,
        "UPDATE twotower.models SET manifest_sha256 = repeat('0', 64)",
    );
    wait_for("the refusal", || answers_all_the_same(&server));
    let said = reason(&ready(&server).1, "model");
    assert!(said.contains("version 1 holds another model"), "{said}");
}

/// It is away for all servers: if all were not ready, a balancer would have no server left.
#[test]
fn a_database_that_is_away_is_told_and_lists_go_on() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let server = fixture.serve();
    let (_, personal) = server.client.recommended(&token(user(2)), "{}");
    assert_eq!(personal["source"], "two_tower");
    let (_, name) = fixture.url.rsplit_once('/').unwrap();
    let allow = |connections: bool| {
        let text = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}");
        sql(&fresh_postgres(), &text);
    };
    allow(false);
    sql(
        &fresh_postgres(),
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
    );
    wait_for("word of the outage", || {
        let (status, body) = ready(&server);
        assert_eq!((status, &body["ready"]), (200, &json!(true)), "{body}");
        !reason(&body, "database").is_empty()
    });
    let (ids, answer) = server.client.recommended(&token(user(1)), r#"{"limit":5}"#);
    assert_eq!((ids.len(), &answer["partial"]), (5, &json!(true)));
    // Erasures would not be noticed either, so personal lists are not served.
    wait_for("the end of personal lists", || {
        server.client.recommended(&token(user(2)), "{}").1["source"] == "popular"
    });
    allow(true);
    wait_for("the database", || {
        reason(&ready(&server).1, "database").is_empty()
    });
}

/// A login with the server's role; dropped at the end.
struct Login<'a> {
    fixture: &'a Fixture,
    name: String,
}

impl<'a> Login<'a> {
    fn new(fixture: &'a Fixture) -> Self {
        let name = format!("login_reads_{}", std::process::id());
        let text = format!("CREATE ROLE {name} LOGIN; GRANT twotower_server TO {name}");
        sql(&fixture.url, &text);
        Self { fixture, name }
    }

    fn url(&self) -> String {
        let user = format!("{}@", self.name);
        self.fixture.url.replace("postgres@", &user)
    }

    fn serve(&self) -> Running {
        let url = self.url();
        let store = Store::connect(&url, ConnectOptions::default());
        let store = self.fixture.runtime.block_on(store).unwrap();
        let mut config = self.fixture.config();
        config.limits.active_model_poll = Duration::from_millis(50);
        Running::start(store, config)
    }

    /// The first line containing `part` that `twotower serve` logs before it serves.
    fn logs_at_start(&self, part: &str) -> Option<String> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_twotower"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(self.fixture.folder.path())
            .env("DATABASE_URL", self.url())
            .env("TWOTOWER_JWT_SECRET", SECRET)
            .env_remove("TWOTOWER_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let said = lines
            .map_while(Result::ok)
            .take_while(|line| !line.contains("serving address"))
            .find(|line| line.contains(part));
        process.kill().unwrap();
        process.wait().unwrap();
        said
    }
}

impl Drop for Login<'_> {
    fn drop(&mut self) {
        let text = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        sql(&self.fixture.url, &text);
    }
}

/// The database answers, but nobody would ever get a personal list.
#[test]
fn what_keeps_requests_from_reading_is_named_and_the_server_is_not_ready() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let login = Login::new(&fixture);
    let running = login.serve();
    wait_for("a list of their own", || {
        let (_, body) = running.client.recommended(&token(user(1)), "{}");
        ready(&running).0 == 200 && body["partial"] == false
    });
    for (breaks, mends, named, fix) in [
        (
            "REVOKE EXECUTE ON FUNCTION twotower.user_state(uuid, bigint) FROM twotower_server",
            "GRANT EXECUTE ON FUNCTION twotower.user_state(uuid, bigint) TO twotower_server",
            "permission denied for function user_state",
            "grant it",
        ),
        (
            "REVOKE SELECT ON skips FROM twotower_server",
            "GRANT SELECT ON skips TO twotower_server",
            "permission denied for table skips",
            "grant it",
        ),
        (
            "REVOKE USAGE ON SCHEMA twotower FROM twotower_server",
            "GRANT USAGE ON SCHEMA twotower TO twotower_server",
            "permission denied for schema twotower",
            "grant it",
        ),
        (
            "ALTER FUNCTION twotower.user_state(uuid, bigint) RENAME TO gone",
            "ALTER FUNCTION twotower.gone(uuid, bigint) RENAME TO user_state",
            "function twotower.user_state(uuid, bigint) does not exist",
            "twotower migrate",
        ),
        (
            "ALTER TABLE recommendation_blocks RENAME COLUMN value TO gone",
            "ALTER TABLE recommendation_blocks RENAME COLUMN gone TO value",
            "column \"value\" does not exist",
            "twotower migrate",
        ),
    ] {
        sql(&fixture.url, breaks);
        // A server that starts now reports it as well.
        let started = login.serve();
        for server in [&running, &started] {
            let mut said = String::new();
            wait_for(named, || {
                let (status, body) = ready(server);
                said = reason(&body, "database");
                status == 503 && said.contains(named)
            });
            assert!(
                said.contains(fix) && said.contains("twotower doctor"),
                "{said}"
            );
            assert!(!said.contains(&login.name), "{said}");
        }
        // Requests are answered nevertheless.
        let (_, body) = running.client.recommended(&token(user(1)), "{}");
        assert_eq!(body["partial"], true, "{named}");
        sql(&fixture.url, mends);
        for server in [&running, &started] {
            wait_for("its end", || {
                let (status, body) = ready(server);
                status == 200 && reason(&body, "database").is_empty()
            });
        }
    }
    sql(&fixture.url, "DROP FUNCTION twotower.user_state");
    let named = "function twotower.user_state(uuid, bigint) does not exist";
    wait_for(named, || {
        let (status, body) = ready(&running);
        status == 503 && reason(&body, "database").contains(named)
    });
    assert!(login.logs_at_start(named).is_some());
}

/// Each check takes a while, so that many of them one after another would be late.
#[test]
fn a_flood_of_probes_does_not_make_a_server_ready() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let server = fixture.serve();
    let breaks = "ALTER FUNCTION twotower.user_state(uuid, bigint) RENAME TO gone;
        CREATE FUNCTION twotower.user_state(
            asked uuid, skip_limit bigint, OUT erased boolean, OUT likes bytea, OUT skips bytea, OUT blocks text
        ) LANGUAGE plpgsql STABLE AS $$
        BEGIN
            PERFORM pg_sleep(0.05);
            SELECT it.erased INTO erased FROM twotower.nowhere(asked, skip_limit) AS it;
        END $$";
    sql(&fixture.url, breaks);
    wait_for("word of the function", || ready(&server).0 == 503);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            let client = server.another_client();
            scope.spawn(move || {
                for _ in 0..5 {
                    let answer = client.get("/readyz", &[]);
                    assert_eq!(answer.status, 503, "{}", answer.text);
                }
            });
        }
    });
}

/// First its function is missing, then it hangs. Checks that are late say nothing of the function.
#[test]
fn a_server_that_was_not_ready_stays_so_while_the_database_is_late() {
    let fixture = Fixture::on_postgres();
    fixture.train(1);
    let mut config = fixture.config();
    config.limits.database = Duration::from_millis(100);
    let server = fixture.serve_with(config);
    let missing = "ALTER FUNCTION twotower.user_state(uuid, bigint) RENAME TO gone";
    sql(&fixture.url, missing);
    wait_for("word of the function", || ready(&server).0 == 503);
    let hangs = "CREATE FUNCTION twotower.user_state(
            asked uuid, skip_limit bigint, OUT erased boolean, OUT likes bytea, OUT skips bytea, OUT blocks text
        ) LANGUAGE plpgsql STABLE AS $$ BEGIN PERFORM pg_sleep(60); END $$";
    sql(&fixture.url, hangs);
    // Longer than an outcome is repeated.
    for _ in 0..15 {
        let (status, body) = ready(&server);
        assert_eq!(status, 503, "{body}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_enters_or_leaves_the_catalogue_is_noticed() {
    let fixture = Fixture::without_model();
    let server = serve_quickly(&fixture);
    let first = || {
        server
            .client
            .recommended(&token(user(900)), r#"{"limit":1}"#)
            .0
    };
    let before = first();
    let favourite = super::fixture::video(30);
    for n in 100..120 {
        fixture.interact(twotower_store::InteractionKind::Like, user(n), &[favourite]);
    }
    wait_for("the new favourite", || first() == [favourite.to_string()]);
    assert_ne!(before, first());
}

/// Written by a transaction that began long before the last poll and committed after it.
#[test]
fn vectors_that_bear_an_earlier_time_than_the_last_look_are_noticed() {
    let fixture = Fixture::on_postgres();
    let version = fixture.train(1);
    let server = serve_quickly(&fixture);
    let client = &server.client;
    let list = || client.recommended(&token(user(1)), r#"{"limit":40}"#).0;
    let before = list();
    let (best, worst) = (&before[0], before.last().unwrap());
    sql(
        &fixture.url,
        &format!(
            "UPDATE video_embeddings AS vectors SET embedding = other.embedding, updated_at = now() - interval '1 hour'
             FROM video_embeddings AS other WHERE vectors.video_id = '{best}' AND vectors.model_version = {version}
             AND other.video_id = '{worst}' AND other.model_version = {version}"
        ),
    );
    wait_for("the vector", || list()[0] != *best);
}

#[test]
fn without_a_key_it_does_not_start() {
    let fixture = Fixture::new();
    let start = |listen: &str, console| {
        let mut config = fixture.config();
        config.auth = Config::default();
        config.listen = listen.parse().unwrap();
        config.console = console;
        let bound = Server::bind(fixture.store.clone(), config);
        fixture
            .runtime
            .block_on(bound)
            .err()
            .map(|error| format!("{error:#}"))
    };
    let no_key = start("127.0.0.1:0", ConsoleAccess::Off).unwrap();
    assert!(no_key.contains("TWOTOWER_JWT_SECRET"), "{no_key}");
    let open = start("0.0.0.0:0", ConsoleAccess::Loopback).unwrap();
    assert!(open.contains("--console-on-any-address"), "{open}");
    assert!(start("0.0.0.0:0", ConsoleAccess::AnyAddress).is_some());
    assert_eq!(start("127.0.0.1:0", ConsoleAccess::Loopback), None);
}
