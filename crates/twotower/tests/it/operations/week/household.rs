//! A database, a scheduler and a server that share one clock.

use super::clock::{Clock, seconds};
use super::office::{self, Office};
use crate::supervised::Supervised;
use crate::support::{psql_command, sql};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use twotower_core::time::DAY;

const PATIENCE: Duration = Duration::from_mins(3);

pub(super) struct Household {
    folder: tempfile::TempDir,
    clock: Clock,
    /// The Monday on which the test begins.
    monday: SystemTime,
    database: Supervised,
    database_pid: u32,
    url: String,
    pub(super) office: Office,
    /// The key that currently signs tokens.
    pub(super) signer: &'static str,
    address: String,
    server: Option<Child>,
    scheduler: Option<Child>,
    alerts_seen: usize,
}

/// A transaction that ends with its psql process.
pub(super) struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Household {
    /// With a small catalogue, an active model, and everything running, on a Monday morning.
    pub(super) fn start() -> Self {
        let mut clock = Clock::new();
        // 1970 began on a Thursday.
        let today = seconds(clock.now()) / DAY.as_secs();
        let monday = UNIX_EPOCH + DAY * (today + 7 - (today + 3) % 7) as u32;
        clock.set(monday + Duration::from_mins(10));
        let mut database = Supervised::start(&clock.environment());
        let (url, database_pid) = database.next_start();
        // Free, and below those that the system hands out to other tests: the server must get it
        // again after the power cut.
        let first = 20_000 + (std::process::id() % 10_000) as u16;
        let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = (first..32_768).find(is_free).expect("a free port");
        let mut house = Self {
            folder: tempfile::tempdir().unwrap(),
            clock,
            monday,
            database,
            database_pid,
            url,
            office: Office::open(),
            signer: "old",
            address: format!("127.0.0.1:{port}"),
            server: None,
            scheduler: None,
            alerts_seen: 0,
        };
        house.configure("[gate]\nmin_auc = 0.5");
        house.new_signing_key();
        assert_eq!(house.twotower("migrate"), Some(0));
        let demo = "demo --no-serve --videos 300 --users 200 --likes 5000 --epochs 2";
        assert_eq!(house.twotower(demo), Some(0), "{}", house.log());
        house.begin();
        house
    }

    /// Writes the configuration, with `more` appended.
    pub(super) fn configure(&self, more: &str) {
        let text = format!(
            "[hyperparameters]\nepochs = 2\n[schedule]\nretrain = \"0 3 * * 3,0\"\n[run]\nattempts = 2\npause_seconds = 0\nsigning_key = \"signing.key\"\n\
             [checks]\nserver = \"http://{}\"\nkey_days = 3\n[alerts]\nwarning_after_minutes = 0\nrepeat_hours = 48\n{more}\n",
            self.address
        );
        std::fs::write(self.path("twotower.toml"), text).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str, log: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twotower"));
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(log))
            .unwrap();
        self.clock.rule(
            command
                .args(line.split_whitespace())
                .current_dir(self.folder.path())
                .env("DATABASE_URL", &self.url)
                .env("TWOTOWER_ALERT_WEBHOOK", self.office.url("alerts"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(output),
        );
        command
    }

    /// Runs a command; returns its exit code.
    pub(super) fn twotower(&self, line: &str) -> Option<i32> {
        self.command(line, "by-hand.log").status().unwrap().code()
    }

    fn begin(&mut self) {
        let listen = format!(
            "serve --listen {} --jwks {}",
            self.address,
            self.office.url("jwks")
        );
        let mut server = self.command(&listen, "server.err");
        let server = server.env("TWOTOWER_LOG_FILE", self.path("server.log"));
        self.server = Some(server.spawn().unwrap());
        self.wait("the server is ready", |house| {
            house.get("readyz") == Some(200)
        });
        let mut scheduler = self.command("schedule", "scheduler.err");
        let scheduler = scheduler.env("TWOTOWER_LOG_FILE", self.path("scheduler.log"));
        self.scheduler = Some(scheduler.spawn().unwrap());
    }

    /// Moves the clock to one second after `time` on a day of the week; Monday is 0.
    pub(super) fn at(&mut self, day: u64, time: &str) {
        let (hours, minutes) = time.split_once(':').unwrap();
        let of_day: u64 =
            3600 * hours.parse::<u64>().unwrap() + 60 * minutes.parse::<u64>().unwrap();
        let at = self.monday + Duration::from_secs(DAY.as_secs() * day + of_day + 1);
        self.clock.set(at);
    }

    pub(super) fn move_by(&mut self, time: Duration) {
        self.clock.set(self.clock.now() + time);
    }

    pub(super) fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: not after {PATIENCE:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a run of `job` that began within the last 20 minutes has ended; returns its state.
    pub(super) fn ended(&self, job: &str) -> String {
        let query = format!(
            "SELECT state FROM twotower.job_runs WHERE job = '{job}' AND started_at > now() - interval '20 minutes' AND state <> 'running'
             ORDER BY id DESC LIMIT 1"
        );
        self.wait(&format!("{job} ends"), |house| {
            !house.sql(&query).is_empty()
        });
        self.sql(&query)
    }

    pub(super) fn running(&self) -> String {
        self.sql("SELECT count(*) FROM twotower.job_runs WHERE state = 'running'")
    }

    pub(super) fn sql(&self, text: &str) -> String {
        sql(&self.url, text)
    }

    pub(super) fn active_version(&self) -> i64 {
        self.sql("SELECT version FROM twotower.active_model")
            .parse()
            .unwrap()
    }

    /// The likes of a day: two for each of forty users, of videos that similar users like, so that
    /// there is something to learn.
    pub(super) fn likes_come_in(&self) {
        self.sql(
            "INSERT INTO public.likes (user_id, video_id)
             SELECT users.user_id, near.video_id
             FROM (SELECT DISTINCT user_id FROM public.likes ORDER BY user_id LIMIT 40) AS users,
             LATERAL (
                 SELECT other.video_id
                 FROM public.likes AS mine
                 JOIN public.likes AS peer ON peer.video_id = mine.video_id AND peer.user_id <> mine.user_id
                 JOIN public.likes AS other ON other.user_id = peer.user_id
                 WHERE mine.user_id = users.user_id AND other.video_id NOT IN (
                     SELECT own.video_id FROM public.likes AS own WHERE own.user_id = users.user_id
                 )
                 GROUP BY other.video_id
                 ORDER BY count(*) / sqrt((SELECT count(*) FROM public.likes AS all_of WHERE all_of.video_id = other.video_id)) DESC, 1
                 LIMIT 2
             ) AS near",
        );
    }

    /// A transaction that blocks an update for a while.
    pub(super) fn hold_updates(&self) -> Held {
        let text = "BEGIN; LOCK TABLE public.video_embeddings IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(120)";
        let holder = psql_command(&self.url, text)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let held = Held(holder.unwrap());
        self.wait("the table is locked", |house| {
            house.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'public.video_embeddings'::regclass") == "1"
        });
        held
    }

    /// Kills everything at once.
    pub(super) fn power_cut(&mut self) {
        for mut child in [self.server.take(), self.scheduler.take()]
            .into_iter()
            .flatten()
        {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let killed = Command::new("kill")
            .args(["-KILL", &self.database_pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    pub(super) fn power_returns(&mut self) {
        self.database_pid = self.database.next_start().1;
        self.begin();
    }

    pub(super) fn new_signing_key(&self) {
        let path = self.path("signing.key");
        let _ = std::fs::remove_file(&path);
        assert_eq!(
            self.twotower("keys generate --output signing.key"),
            Some(0),
            "{}",
            self.log()
        );
        // The kernel's clock gives the times of files, not ours.
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(self.clock.now()).unwrap();
    }

    /// Like logrotate with `create`.
    pub(super) fn rotate_logs(&self) {
        for (name, child) in [("server", &self.server), ("scheduler", &self.scheduler)] {
            std::fs::rename(
                self.path(&format!("{name}.log")),
                self.path(&format!("{name}.log.1")),
            )
            .unwrap();
            let pid = child.as_ref().unwrap().id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-HUP", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        self.wait("both logs are there again", |house| {
            house.path("server.log").exists() && house.path("scheduler.log").exists()
        });
    }

    /// Both parts of each log consist of complete lines, and both continue.
    pub(super) fn no_line_is_torn(&self) {
        for name in [
            "server.log.1",
            "server.log",
            "scheduler.log.1",
            "scheduler.log",
        ] {
            let text = std::fs::read_to_string(self.path(name)).unwrap();
            assert!(!text.is_empty() && text.ends_with('\n'), "{name}");
            for line in text.lines() {
                let parsed = serde_json::from_str::<serde_json::Value>(line);
                assert!(parsed.is_ok(), "{name}: {line}");
            }
        }
    }

    /// The server answers, and with no liked video.
    pub(super) fn recommends(&self) {
        assert_eq!(self.recommended_to(self.signer), 200, "{}", self.log());
    }

    pub(super) fn recommended_to(&self, signer: &str) -> u16 {
        let user = self.sql("SELECT min(user_id::text) FROM public.likes");
        let token = office::token(&user, signer, self.clock.now());
        let url = format!(
            "http://{}/functions/v1/two_tower_recommendations",
            self.address
        );
        let answer = ureq::post(url)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .config()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .send(r#"{"limit": 10, "exclude_liked": true}"#);
        let mut answer = answer.unwrap();
        if answer.status() == 200 {
            let body = answer.body_mut().read_to_string().unwrap();
            let list: serde_json::Value = serde_json::from_str(&body).unwrap();
            let list = list["recommendations"].as_array().unwrap();
            assert_eq!(list.len(), 10);
            let ids: Vec<_> = list
                .iter()
                .map(|it| format!("'{}'", it["video_id"].as_str().unwrap()))
                .collect();
            let liked = format!(
                "SELECT count(*) FROM public.likes WHERE user_id = '{user}' AND video_id IN ({})",
                ids.join(", ")
            );
            assert_eq!(self.sql(&liked), "0");
        }
        answer.status().as_u16()
    }

    fn get(&self, path: &str) -> Option<u16> {
        let url = format!("http://{}/{path}", self.address);
        let answer = ureq::get(url)
            .config()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .call();
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// Asserts that no unexpected alerts arrived.
    pub(super) fn told_no_more(&self) {
        let more = self.office.told().len() - self.alerts_seen;
        assert_eq!(more, 0, "{}", self.office.messages());
    }

    /// Waits for the next alerts, which must be these, in any order.
    pub(super) fn told(&mut self, expected: &[&str]) {
        let (seen, all) = (self.alerts_seen, self.alerts_seen + expected.len());
        self.wait(&expected.join(", "), |house| {
            house.office.told().len() >= all
        });
        let mut told = self.office.told()[seen..all].to_vec();
        told.sort();
        assert_eq!(told, expected, "{}", self.office.messages());
        self.alerts_seen = all;
    }

    /// The last lines of every log.
    pub(super) fn log(&self) -> String {
        let mut all = Vec::new();
        for name in [
            "by-hand.log",
            "scheduler.err",
            "scheduler.log",
            "server.err",
        ] {
            let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(25).collect();
            writeln!(all, "== {name}").unwrap();
            for line in lines.into_iter().rev() {
                writeln!(all, "{line}").unwrap();
            }
        }
        String::from_utf8(all).unwrap()
    }
}

impl Drop for Household {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.scheduler]
            .into_iter()
            .flatten()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
