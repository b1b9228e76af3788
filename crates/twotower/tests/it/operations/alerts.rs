//! Alerts through real channels: HTTP, SMTP and a program.

use super::receiver::Receiver;
use super::smtp::MailServer;
use crate::support::Workplace;
use base64::Engine;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use twotower::config::Config;
use twotower::operations::alert::{self, Channels, RoundReport};
use twotower::operations::check::{Finding, Verdict};
use twotower_core::time::MINUTE_US;

/// A secret that no message, log, error or file may contain.
const CANARY: &str = "canary-7f3e";

/// 2026-01-01T00:00:00Z.
const START_US: i64 = 1_767_225_600_000_000;

fn finding(check: &'static str, subject: Option<&str>, verdict: Verdict) -> Finding {
    Finding {
        check,
        subject: subject.map(str::to_owned),
        verdict,
        evidence: "exit code 1: no space left".into(),
        fix: "make room, then `twotower run update`".into(),
    }
}

fn run_failed(verdict: Verdict) -> Finding {
    finding("run-failed", Some("update"), verdict)
}

/// A configuration, an environment, and a state folder.
struct Scene {
    folder: TempDir,
    toml: String,
    environment: BTreeMap<String, String>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        Self {
            toml: format!("run.state_dir = \"{}\"\n", state.display()),
            folder,
            environment: BTreeMap::new(),
        }
    }

    fn set(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.environment.insert(variable.into(), value.into());
        self
    }

    fn webhook(self, receiver: &Receiver) -> Self {
        self.set(
            "TWOTOWER_ALERT_WEBHOOK",
            receiver.url(&format!("/{CANARY}")),
        )
    }

    fn mail(mut self, server: &MailServer) -> Self {
        self.toml += "alerts.email_from = \"twotower@team.example\"\nalerts.email_to = [\"oncall@team.example\"]\n";
        self.set("TWOTOWER_SMTP_URL", server.url(&format!("me:{CANARY}")))
    }

    fn command(mut self, script: &str) -> Self {
        let command = format!("alerts.command = [\"/bin/sh\", \"-c\", '''{script}''']\n");
        self.toml.push_str(&command);
        self
    }

    fn config(&self) -> Config {
        Config::parse(&self.toml, Path::new("x.toml")).unwrap()
    }

    async fn tell(&self, minute: i64, findings: &[Finding]) -> RoundReport {
        let config = self.config();
        let environment = |name: &str| self.environment.get(name).cloned();
        let channels = Channels::configured(&config.alerts, &environment);
        let now_us = START_US + minute * MINUTE_US;
        let told = alert::tell_through(&channels, &config, findings, now_us);
        told.await.unwrap()
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("state/alerts.json")).unwrap()
    }

    /// The binary in the scene's environment.
    fn binary(&self, line: &str) -> Command {
        std::fs::write(self.folder.path().join("twotower.toml"), &self.toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twotower"));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env("DATABASE_URL", "sqlite://test.db")
            .envs(&self.environment);
        command
    }
}

/// Exit code, standard output, log.
fn outcome(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, log) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains(CANARY) && !log.contains(CANARY), "{out}{log}");
    (output.status.code(), out, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_channel_says_what_since_when_and_what_to_do() {
    let (webhook, slack, mail) = (Receiver::start(), Receiver::start(), MailServer::start());
    let scene = Scene::new()
        .webhook(&webhook)
        .set(
            "TWOTOWER_ALERT_SLACK",
            slack.url(&format!("/services/{CANARY}")),
        )
        .mail(&mail)
        .command("cat >> said; echo >> said");
    let said = scene.folder.path().join("said");
    let scene = Scene {
        toml: scene.toml.replace("said", &said.display().to_string()),
        ..scene
    };
    let wrong = [
        run_failed(Verdict::Failed),
        finding("disk-space", None, Verdict::Failed),
        finding("clock", None, Verdict::Passed),
    ];
    let told = scene.tell(0, &wrong).await;
    assert_eq!(
        (told.failed(), told.deliveries.len(), told.firing.len()),
        (0, 4, 2)
    );

    let [message] = &webhook.take_json()[..] else {
        panic!("not one message for two alerts")
    };
    assert_eq!(
        (&message["version"], &message["kind"], &message["status"]),
        (&json!(1), &json!("alerts"), &json!("firing"))
    );
    assert_eq!(
        message["summary"],
        "2 critical: disk-space, run-failed (update)"
    );
    assert_eq!(
        message["alerts"][1],
        json!({
            "key": "run-failed/update",
            "check": "run-failed",
            "subject": "update",
            "title": message["alerts"][1]["title"],
            "severity": "critical",
            "status": "firing",
            "flapping": false,
            "since": "2026-01-01T00:00:00Z",
            "last_seen": "2026-01-01T00:00:00Z",
            "resolved_at": null,
            "lasted_seconds": 0,
            "evidence": "exit code 1: no space left",
            "fix": "make room, then `twotower run update`",
            "runbook": "docs/runbook.md#run-failed",
        })
    );
    let text = slack.take_json()[0]["text"].as_str().unwrap().to_owned();
    assert!(
        text.contains(":rotating_light: *CRITICAL: run-failed (update)*"),
        "{text}"
    );
    let [mail_text] = &mail.take()[..] else {
        panic!("not one mail")
    };
    for part in [
        "Subject: [twotower] 2 critical: disk-space, run-failed (update)",
        "To: oncall@team.example",
        "Auto-Submitted: auto-generated",
        "CRITICAL: run-failed (update)",
        "exit code 1: no space left",
        "docs/runbook.md#run-failed",
    ] {
        assert!(mail_text.contains(part), "{part}\n{mail_text}");
    }
    let plain = base64::engine::general_purpose::STANDARD.encode(format!("\0me\0{CANARY}"));
    let commands = mail.take_commands().join("\n");
    assert!(
        commands.contains(&plain),
        "the password is used: {commands}"
    );
    let read = std::fs::read_to_string(&said).unwrap();
    assert_eq!(&serde_json::from_str::<Value>(&read).unwrap(), message);
    for place in [&message.to_string(), &text, mail_text, &scene.state()] {
        assert!(!place.contains(CANARY), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_once_again_after_a_day_and_when_it_is_over() {
    let (webhook, mail) = (Receiver::start(), MailServer::start());
    let scene = Scene::new().webhook(&webhook).mail(&mail);
    let wrong = [
        run_failed(Verdict::Failed),
        finding("disk-space", None, Verdict::Failed),
    ];
    scene.tell(0, &wrong).await;
    assert_eq!((webhook.take().len(), mail.take().len()), (1, 1));
    let told = scene.tell(5, &wrong).await;
    assert_eq!((told.deliveries.len(), told.firing.len()), (0, 2));
    scene.tell(24 * 60, &wrong).await;
    assert_eq!(
        webhook.take_json()[0]["alerts"][0]["status"],
        "still_firing"
    );
    assert_eq!(mail.take().len(), 1);

    let half = [run_failed(Verdict::Passed), wrong[1].clone()];
    scene.tell(25 * 60, &half).await;
    let over = &webhook.take_json()[0];
    assert_eq!(over["summary"], "1 over: run-failed (update)");
    assert_eq!(over["status"], "resolved");
    assert_eq!(over["alerts"][0]["lasted_seconds"], 25 * 3600);
    let mails = mail.take();
    assert!(
        mails[0].contains("OVER: run-failed (update)"),
        "{}",
        mails[0]
    );
    assert!(scene.tell(26 * 60, &half).await.deliveries.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_down_keeps_no_other_silent_and_is_told_later() {
    let (webhook, mail, heartbeat) = (Receiver::start(), MailServer::start(), Receiver::start());
    let scene = Scene::new().webhook(&webhook).mail(&mail).set(
        "TWOTOWER_ALERT_HEARTBEAT",
        heartbeat.url(&format!("/{CANARY}")),
    );
    webhook.answers("500 Internal Server Error");
    let wrong = [run_failed(Verdict::Failed)];
    let told = scene.tell(0, &wrong).await;
    assert_eq!(told.failed(), 1);
    let failed = told.deliveries.iter().find_map(|it| it.error.clone());
    assert_eq!(failed.unwrap(), "the answer was 500");
    assert_eq!(
        (webhook.take().len(), mail.take().len()),
        (2, 1),
        "two tries"
    );
    assert!(heartbeat.take().is_empty(), "not all went well");

    webhook.answers("204 No Content");
    assert_eq!(scene.tell(1, &wrong).await.failed(), 0);
    assert_eq!(webhook.take_json()[0]["alerts"][0]["status"], "firing");
    assert!(mail.take().is_empty(), "it knows");
    let beats = heartbeat.take();
    assert_eq!(beats.len(), 1);
    assert_eq!(beats[0].0, "GET");

    // Delivery of the end fails, so it stays owed.
    mail.answers("451 later");
    let told = scene.tell(2, &[run_failed(Verdict::Passed)]).await;
    assert_eq!(told.failed(), 1);
    assert_eq!(webhook.take().len(), 1);
    mail.answers("250 taken");
    scene.tell(200, &[run_failed(Verdict::Passed)]).await;
    assert!(mail.take()[0].contains("OVER"));
    assert!(webhook.take().is_empty());
    assert_eq!(
        scene.state().matches("run-failed").count(),
        0,
        "all is told"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rounds_at_once_tell_once() {
    let webhook = Receiver::start();
    let scene = Scene::new().webhook(&webhook);
    let wrong = [run_failed(Verdict::Failed)];
    let rounds = (0..4).map(|_| scene.tell(0, &wrong));
    let told = futures_util::future::join_all(rounds).await;
    assert_eq!(webhook.take().len(), 1);
    assert!(told.iter().all(|told| told.firing.len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_with_a_secret() {
    let (webhook, elsewhere) = (Receiver::start(), Receiver::start());
    let scene = Scene::new().webhook(&webhook);
    webhook.answers(&format!(
        "307 Temporary Redirect\r\nlocation: {}",
        elsewhere.url("/x")
    ));
    let told = scene.tell(0, &[run_failed(Verdict::Failed)]).await;
    let error = told.deliveries[0].error.clone().unwrap();
    assert!(error.contains("redirect (307)"), "{error}");
    assert!(elsewhere.take().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_to_no_other_machine_without_encryption() {
    let mail = MailServer::start();
    // The machine's address as others see it; no packet is sent.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("192.0.2.1:9")
        .expect("this test needs an address of the machine that is not loopback");
    let outside = socket.local_addr().unwrap().ip();
    let url = mail
        .url(&format!("me:{CANARY}"))
        .replace("127.0.0.1", &outside.to_string());
    let scene = Scene::new().mail(&mail).set("TWOTOWER_SMTP_URL", url);
    let told = scene.tell(0, &[run_failed(Verdict::Failed)]).await;
    let error = told.deliveries[0].error.clone().unwrap();
    assert!(error.contains("STARTTLS"), "{error}");
    let commands = mail.take_commands();
    assert!(!commands.is_empty());
    let begun = |command: &str| commands.iter().any(|line| line.starts_with(command));
    assert!(!begun("AUTH") && !begun("MAIL"), "{commands:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_written_it_is_told_each_time() {
    let webhook = Receiver::start();
    let mut scene = Scene::new().webhook(&webhook);
    let file = scene.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    scene.toml = format!("run.state_dir = \"{}/state\"\n", file.display());
    for minute in 0..2 {
        let findings = [finding("disk-space", None, Verdict::Failed)];
        assert_eq!(scene.tell(minute, &findings).await.failed(), 0);
        assert_eq!(webhook.take().len(), 1);
    }
}

/// Not a test of its own: a round of the next test, in a process that may be killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process of another test"]
async fn a_round_that_its_own_channel_kills() {
    let folder = std::env::var("TWOTOWER_TEST_FOLDER").expect("started by the next test");
    let mut scene = Scene::new().command(&format!("cat >> {folder}/said; kill -9 $PPID"));
    scene.toml = scene
        .toml
        .replace(&scene.folder.path().display().to_string(), &folder);
    scene.tell(0, &[run_failed(Verdict::Failed)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_is_killed_after_telling_tells_again() {
    let scene = Scene::new();
    let folder = scene.folder.path().display().to_string();
    let killed = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "operations::alerts::a_round_that_its_own_channel_kills",
        ])
        .arg("--ignored")
        .env("TWOTOWER_TEST_FOLDER", &folder)
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    let said = scene.folder.path().join("said");
    let first = std::fs::read_to_string(&said).unwrap();
    assert!(first.contains("run-failed/update"), "it was told: {first}");

    let scene = scene.command(&format!("cat > {folder}/again"));
    scene.tell(7, &[run_failed(Verdict::Failed)]).await;
    let again = std::fs::read(Path::new(&folder).join("again")).unwrap();
    let again: Value = serde_json::from_slice(&again).unwrap();
    assert_eq!(again["alerts"][0]["status"], "firing", "twice, not never");
    assert_eq!(
        again["alerts"][0]["since"], "2026-01-01T00:00:00Z",
        "since when was not lost"
    );
    assert!(
        scene
            .tell(8, &[run_failed(Verdict::Failed)])
            .await
            .deliveries
            .is_empty()
    );
}

#[test]
fn alert_test_says_which_messages_arrived() {
    let (webhook, slack) = (Receiver::start(), Receiver::start());
    let (code, _, log) = outcome(Scene::new().binary("alert test"));
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("no channel is configured"), "{log}");

    let scene = Scene::new()
        .webhook(&webhook)
        .set("TWOTOWER_ALERT_SLACK", slack.url(&format!("/{CANARY}")));
    let (code, out, log) = outcome(scene.binary("alert test"));
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "webhook: arrived\nslack: arrived\n"),
        "{log}"
    );
    assert!(log.contains("alert test completed successfully"), "{log}");
    assert_eq!(webhook.take_json()[0]["kind"], "test");

    slack.answers("404 Not Found");
    let (code, out, log) = outcome(scene.binary("--json alert test"));
    assert_eq!(code, Some(1), "{log}");
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out[0]["error"], Value::Null);
    assert_eq!(out[1]["channel"], "slack");
    let error = out[1]["error"].as_str().unwrap();
    assert!(error.contains("404: the address is not"), "{error}");

    let (code, _, _) = outcome(scene.binary("alert test --channel webhook"));
    assert_eq!(code, Some(0));
    let (code, _, log) = outcome(scene.binary("alert test --channel email"));
    assert_eq!(code, Some(2));
    assert!(log.contains("of the kind `email`"), "{log}");
}

#[test]
fn alert_list_shows_what_the_last_round_left() {
    let (webhook, scene) = (Receiver::start(), Scene::new());
    let scene = scene.webhook(&webhook);
    let (code, out, _) = outcome(scene.binary("alert list"));
    assert_eq!(code, Some(0));
    assert!(out.starts_with("nothing is wrong"), "{out}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(scene.tell(0, &[run_failed(Verdict::Failed)]));
    let (_, out, _) = outcome(scene.binary("alert list"));
    assert_eq!(
        out.trim_end(),
        "critical  firing    run-failed/update  since 2026-01-01T00:00:00Z: exit code 1: no space left; webhook told 2026-01-01T00:00:00Z"
    );
    let place = Workplace::on_sqlite();
    assert_eq!(place.json("alert list"), json!([]));
}

#[test]
fn alert_check_looks_and_tells() {
    let webhook = Receiver::start();
    let scene = Scene::new().webhook(&webhook);
    let mut away = scene.binary("--json alert check");
    away.env(
        "DATABASE_URL",
        format!("postgresql://me:{CANARY}@127.0.0.1:1/nobody"),
    );
    let (code, out, log) = outcome(away);
    assert_eq!(code, Some(0), "to find something is no failure: {log}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let of_database = |alerts: &Value| {
        let alerts = alerts.as_array().unwrap();
        let found = alerts.iter().find(|it| it["key"] == "database-reachable");
        found.expect("the database was looked at").clone()
    };
    assert_eq!(of_database(&told["firing"])["severity"], "critical");
    // The guide searches like this: grep -E "(ERROR|CRITICAL)".
    let line = log.lines().find(|line| line.contains("CRITICAL, firing: "));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "{log}");
    let message = &webhook.take_json()[0];
    assert_eq!(of_database(&message["alerts"])["status"], "firing");
    assert!(!message.to_string().contains(CANARY), "{message}");

    let (code, _, log) = outcome(scene.binary("migrate"));
    assert_eq!(code, Some(0), "{log}");
    webhook.answers("500 Internal Server Error");
    let (code, _, log) = outcome(scene.binary("alert check"));
    assert_eq!(code, Some(1), "nobody was told: {log}");
    webhook.take();
    webhook.answers("200 OK");
    let (code, _, log) = outcome(scene.binary("alert check"));
    assert_eq!(code, Some(0), "{log}");
    // Every five minutes it would bury the lines that jobs end with.
    assert!(!log.contains("completed successfully"), "{log}");
    let message = &webhook.take_json()[0];
    assert_eq!(of_database(&message["alerts"])["status"], "resolved");
}
