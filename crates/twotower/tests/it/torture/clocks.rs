//! Processes whose clock is hours off from the database's, and clocks that were wrong and are
//! corrected.

use super::faults::{Action, Watched, inject};
use super::kills::calls;
use super::scene::{Scene, on_postgres, on_sqlite};
use super::{Tried, full, instants, report};
use crate::life_cycle::place::Place;
use crate::preload::Preload;
use crate::serve::client::Client;
use crate::serve::fixture::{SECRET, address_in, claims, sign, user};
use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use twotower_store::StoreKind;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// At least two hours in either direction: leases in a database file use the clocks of processes,
/// and that of a killed process may last up to an hour longer.
fn hours() -> &'static [i64] {
    if full() {
        &[-30, -5, -2, 2, 5, 30]
    } else {
        &[-5, 5]
    }
}

/// A wrong wall clock.
struct Clock(tempfile::NamedTempFile);

impl Clock {
    /// Wrong by this many seconds.
    fn off(seconds: i64) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let us = seconds * 1_000_000;
        file.write_all(&us.to_ne_bytes()).unwrap();
        file.flush().unwrap();
        Self(file)
    }

    /// Makes `command` use it, in addition to other preloaded libraries.
    fn rule(&self, command: &mut Command) {
        static LIBRARY: LazyLock<Preload> =
            LazyLock::new(|| Preload::build("operations/week/clock.c"));
        let before = command
            .get_envs()
            .find(|(name, _)| *name == "LD_PRELOAD")
            .and_then(|(_, value)| value);
        let mut libraries = LIBRARY.path.clone().into_os_string();
        if let Some(before) = before {
            libraries.push(":");
            libraries.push(before);
        }
        command
            .env("LD_PRELOAD", libraries)
            .env("TWOTOWER_TEST_CLOCK", self.0.path());
    }
}

const UPDATE: &str = "--json update --batch-size 50";

/// A process with a wrong clock is killed, and one with the right clock continues; then one of each
/// runs at the same time.
fn update(scene: &Scene) -> Tried {
    let watched = match scene.store.kind() {
        StoreKind::Postgres => Watched::sockets(),
        StoreKind::Sqlite => Watched::below(scene.folder.path()),
    };
    let version = scene.next_model();
    let total = calls(scene, UPDATE, &watched);
    scene.converged(version, "nothing has happened");
    let mut kills = Tried::default();
    for &hours in hours() {
        let clock = Clock::off(hours * HOUR);
        for at in instants(total, 2) {
            let instant = format!("{hours} h off, killed at call {at} of {total}");
            let (before, version) = (scene.active().unwrap(), scene.next_model());
            let mut command = scene.command(UPDATE);
            let log = inject(&mut command, &watched, Action::Kill, at);
            clock.rule(&mut command);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            let hit = log.seen().hit.is_some();
            assert_eq!(status.unwrap().success(), !hit, "{instant}");
            kills.count(hit);
            scene.check(before, version, &instant);
            scene.again("update --batch-size 50");
            scene.converged(version, &instant);
            let last = scene.history().pop();
            assert_eq!(last, Some((version, Some(before))), "{instant}");
        }
        together(scene, &clock, hours);
    }
    kills
}

/// Both try to publish. Leases in a database file use the clocks of processes, so one may take over
/// from the other, which then gives up.
fn together(scene: &Scene, clock: &Clock, hours: i64) {
    let instant = format!("{hours} h off, beside one that is not");
    let version = scene.next_model();
    let mut wrong = scene.command(UPDATE);
    clock.rule(&mut wrong);
    let children = [wrong, scene.command(UPDATE)].map(|mut command| {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    let mut succeeded = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let lost = scene.store.kind() == StoreKind::Sqlite && said.contains("taken over");
        assert!(output.status.success() || lost, "{instant}: {said}");
        succeeded += u32::from(output.status.success());
    }
    assert!(succeeded > 0, "{instant}");
    scene.again("update --batch-size 50");
    scene.converged(version, &instant);
}

/// The doctor reports that the clock is wrong, and in which direction.
fn doctor(scene: &Scene) {
    for &hours in hours() {
        let clock = Clock::off(hours * HOUR);
        let mut command = scene.command("--json doctor --only clock");
        clock.rule(&mut command);
        let output = command.output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let direction = if hours > 0 { "ahead of" } else { "behind" };
        let told = said["findings"].as_array().unwrap().iter().any(|finding| {
            let evidence = finding["evidence"].as_str().unwrap();
            let failed = finding["verdict"] == "failed";
            finding["check"] == "clock" && failed && evidence.contains(direction)
        });
        assert!(told, "{hours} h off: {said}");
    }
}

/// With wrong clocks the result is the same generation, and nobody waits for a lease for hours.
#[test]
fn heavy_updates_by_clocks_that_are_wrong() {
    for scene in [on_postgres(), on_sqlite()] {
        let kills = update(&scene);
        report(&format!(
            "update by clocks that are {:?} h off, {:?}: {kills} kills",
            hours(),
            scene.store.kind()
        ));
        kills.check();
        if scene.store.kind() == StoreKind::Postgres {
            doctor(&scene);
        }
    }
}

/// A server with a wrong clock; it is stopped when dropped.
struct Server {
    process: Child,
    client: Client,
}

impl Server {
    /// Waits until it is ready.
    fn start(scene: &Scene, seconds_off: i64) -> Self {
        let clock = Clock::off(seconds_off);
        let name = format!("server{seconds_off}.log");
        let log = scene.folder.path().join(&name);
        let mut command = scene.command(&format!("--log-file {name} serve --listen 127.0.0.1:0"));
        command
            .env("TWOTOWER_JWT_SECRET", SECRET)
            .env_remove("TWOTOWER_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        clock.rule(&mut command);
        let mut process = command.spawn().unwrap();
        let server = Self {
            client: Client::new(address_in(&log, &mut process)),
            process,
        };
        let begun = Instant::now();
        while server.client.get("/readyz", &[]).status != 200 {
            let patient = begun.elapsed() < Duration::from_mins(1);
            assert!(patient, "{seconds_off} s off, and it is not ready");
            sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tokens are judged by the server's clock, whatever the database's clock says; nothing else is
/// affected.
#[test]
fn heavy_tokens_by_clocks_that_are_wrong() {
    let scene = on_postgres();
    let now = jsonwebtoken::get_current_timestamp() as i64;
    let token = |from: i64, until: i64| {
        let mut claims = claims(user(1));
        claims["nbf"] = (now + from).into();
        claims["exp"] = (now + until).into();
        sign(&claims)
    };
    for &hours in hours() {
        let off = hours * HOUR;
        let server = Server::start(&scene, off);
        for (from, until) in [(-600, 600), (off - 600, off + 600), (-40 * HOUR, 40 * HOUR)] {
            let expected = if (from..until).contains(&off) {
                200
            } else {
                401
            };
            let found = server.client.recommend(&token(from, until), "{}");
            let instant = format!("{hours} h off, {from} s to {until} s: {}", found.text);
            assert_eq!(found.status, expected, "{instant}");
        }
    }
}

/// The name of a backup decides whether it is the newest, which is restored, and the oldest, which
/// is removed.
#[test]
fn heavy_backups_by_a_clock_that_is_put_right() {
    let place = Place::on_sqlite();
    place.configure("[backup]\nkeep = 2");
    let back_up = |hours: i64| {
        let clock = Clock::off(hours * HOUR);
        let mut command = place.command("--json backup --to copies");
        clock.rule(&mut command);
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{log}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let newest = |backup: &Value| {
        let restored = place.json("restore copies --dry-run");
        assert_eq!(restored["folder"], backup["folder"], "{restored}");
    };
    let ahead = back_up(5);
    let right = back_up(0);
    newest(&right);
    assert_eq!(right["removed"].as_array().unwrap().len(), 0, "{right}");
    let behind = back_up(-5);
    newest(&behind);
    assert_eq!(behind["removed"][0], ahead["folder"], "{behind}");
    assert_eq!(behind["removed"].as_array().unwrap().len(), 1, "{behind}");
}

/// Runs recorded by a clock that was a year ahead do not block later ones, whether they are known
/// from the scheduler's file or from the database.
#[test]
fn heavy_schedules_by_a_clock_that_is_put_right() {
    for place in Place::on_both() {
        place.configure(
            "[update]\ngate = false\n[run]\npause_seconds = 0\n[schedule]\nupdate = \"0 * * * *\"\nretrain = \"\"\nmaintain = \"\"\nbackup = \"\"",
        );
        place.next_model();
        let (year, later) = (400 * DAY, 2 * HOUR);
        for (off, expected) in [(year, 0), (year + later, 1), (0, 1), (later, 2)] {
            let clock = Clock::off(off);
            let mut command = place.command("schedule --once");
            clock.rule(&mut command);
            let output = command.output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{off} s off: {log}");
            let runs = place.store.runs(Some("update"), 100);
            let runs = place.runtime.block_on(runs).unwrap();
            assert_eq!(runs.len(), expected, "{off} s off: {log}");
        }
    }
}
