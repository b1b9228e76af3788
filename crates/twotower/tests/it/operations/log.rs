//! `--log-file`: complete lines, none lost, wherever the file is moved.

use super::processes::{json_lines, log, send, start, wait_for};
use crate::life_cycle::place::Place;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;

fn messages(path: &std::path::Path) -> Vec<String> {
    let lines = json_lines(path).into_iter();
    lines
        .map(|line| {
            line["fields"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[test]
fn lines_go_to_the_file_and_errors_to_both() {
    let place = Place::on_sqlite();
    place.configure("[update]\ngate = false\n[run]\npause_seconds = 0");
    let file = place.folder.path().join("twotower.log");
    let output = place.run("--log-file twotower.log run update");
    assert_eq!(output.status.code(), Some(1));
    let stderr = log(&output);
    assert!(stderr.contains("models holds no model"), "{stderr}");
    assert!(!stderr.contains("INFO"), "{stderr}");
    place.next_model();
    let output = place.run("--log-file twotower.log run update");
    assert!(output.status.success());
    assert_eq!(log(&output), "");
    let messages = messages(&file);
    // Of the run, and of the command that it started.
    for end in [
        "update completed successfully",
        "run completed successfully",
    ] {
        let times = messages.iter().filter(|message| *message == end).count();
        assert_eq!(times, 1, "{messages:?}");
    }
    let human = place.run("--log-file human.log --log-format human migrate");
    assert!(human.status.success());
    let text = fs::read_to_string(place.folder.path().join("human.log")).unwrap();
    assert!(
        text.contains("INFO migrate completed successfully"),
        "{text}"
    );
    let said = place.refused("--log-file nowhere/x.log migrate", 2);
    assert!(said.contains("open the log file nowhere/x.log"), "{said}");
}

#[test]
fn several_processes_do_not_tear_lines() {
    let place = Place::on_sqlite();
    place.configure("[update]\ngate = false");
    let children: Vec<_> = (0..8)
        .map(|_| start(place.command("-v -v --log-file shared.log models list")))
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", log(&output));
    }
    let messages = messages(&place.folder.path().join("shared.log"));
    let ends = messages
        .iter()
        .filter(|it| *it == "models list completed successfully");
    assert_eq!(ends.count(), 8);
}

/// Requests a page whose path appears in the log; the status does not matter.
fn ask(address: &str, number: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: rotation-{number}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// `twotower FLAGS serve` on a free port.
fn server(place: &Place, flags: &str) -> Child {
    let secret = place.folder.path().join("secret");
    fs::write(secret, "a secret of at least 32 characters").unwrap();
    let mut command = place.command(&format!("{flags} serve --listen 127.0.0.1:0"));
    command.env("TWOTOWER_JWT_SECRET_FILE", "secret");
    start(command)
}

/// logrotate may send SIGHUP to a server without a log file.
#[test]
fn a_server_without_a_log_file_lives_through_a_hangup() {
    let place = Place::on_sqlite();
    let mut server = server(&place, "--log-format json");
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        line["fields"]["address"].as_str().map(str::to_owned)
    });
    let address = address.expect("it says where it is");
    for number in 0..2 {
        send("HUP", server.id());
        ask(&address, number);
    }
    send("TERM", server.id());
    assert!(server.wait().unwrap().success());
}

/// There was no model before.
#[test]
fn the_first_model_of_a_server_is_not_called_another() {
    let place = Place::on_sqlite();
    place.next_model();
    place.json("update");
    let mut server = server(&place, "--log-file server.log");
    let file = place.folder.path().join("server.log");
    let serving = |line: &String| line.starts_with("serving ");
    let said = wait_for("the model", || messages(&file).into_iter().find(serving));
    assert_eq!(said, "serving a model version");
    // From then on it handles the signal.
    wait_for("the server", || {
        let lines = json_lines(&file);
        let listens = lines
            .iter()
            .any(|line| line["fields"]["address"].is_string());
        listens.then_some(())
    });
    send("TERM", server.id());
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_server_whose_log_is_moved_away_loses_no_line() {
    let place = Place::on_sqlite();
    let folder = place.folder.path();
    let mut server = server(&place, "--log-file server.log -v");
    let file = folder.join("server.log");
    let address = wait_for("the server", || {
        let lines = json_lines(&file);
        let address = lines
            .iter()
            .find_map(|line| line["fields"]["address"].as_str());
        address.map(str::to_owned)
    });
    let mut files = vec![file.clone()];
    for round in 0..4 {
        for number in 0..10 {
            ask(&address, round * 10 + number);
            if number == 4 {
                let moved = folder.join(format!("server.log.{round}"));
                fs::rename(&file, &moved).unwrap();
                files.push(moved);
            }
            if number == 7 {
                send("HUP", server.id());
                wait_for("the new file", || file.exists().then_some(()));
            }
        }
    }
    wait_for("a line that waits for no other", || {
        let text = fs::read_to_string(&file).ok()?;
        text.contains("\"rotation-39\"").then_some(())
    });
    send("TERM", server.id());
    assert!(server.wait().unwrap().success());
    let text: String = files
        .iter()
        .map(|file| {
            // Every line is complete.
            json_lines(file);
            fs::read_to_string(file).unwrap()
        })
        .collect();
    for number in 0..40 {
        let id = format!("\"rotation-{number}\"");
        assert_eq!(text.matches(&id).count(), 1, "{id}");
    }
}
