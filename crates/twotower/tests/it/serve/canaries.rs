//! What must never be in a server's log, even at the most verbose level: tokens, titles, ids of
//! users, passwords, and text written by callers.

use super::client::{BATCH, Client, EVENTS, RECOMMENDATIONS, SIMILAR_VIDEOS};
use super::fixture::{
    SECRET, address_in, catalogue, claims, model, out_of_reach, service_token, sign, token, user,
    video,
};
use crate::life_cycle::place::Place;
use jsonwebtoken::get_current_timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use twotower_store::{Block, BlockKind, ErasePlan};
use uuid::Uuid;

/// Part of every made-up value here except ids, titles and tokens, and of nothing else.
const CANARY: &str = "canary";

const LIKER: u128 = 1;
const OF_BATCH: [u128; 2] = [2, 3];
const OF_FORGED: u128 = 7;
const ERASED: u128 = 9;
/// An unknown user.
const STRANGER: u128 = 900;

/// `twotower serve`, and its log.
struct Server {
    process: Child,
    log: PathBuf,
    output: PathBuf,
}

impl Server {
    fn start(place: &Place) -> Self {
        let folder = place.folder.path();
        let (log, output) = (folder.join("server.log"), folder.join("output"));
        let to = File::create(&output).unwrap();
        let (scheme, rest) = place.url.split_once("://postgres@").unwrap();
        // Addresses of unreachable servers, each with its own password.
        let line = "-v -v --log-file server.log serve --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
                    --jwks https://us:canary-of-keys@127.0.0.1:9/keys \
                    --replica-url postgresql://postgres:canary-of-replica@127.0.0.1:9/postgres";
        let process = place
            .command(line)
            .env(
                "DATABASE_URL",
                format!("{scheme}://postgres:canary-of-database@{rest}"),
            )
            .env("TWOTOWER_JWT_SECRET", SECRET)
            .env_remove("TWOTOWER_LOG")
            .stdin(Stdio::null())
            .stdout(to.try_clone().unwrap())
            .stderr(to)
            .spawn()
            .unwrap();
        Self {
            process,
            log,
            output,
        }
    }

    /// Stops it, and reads everything it has written.
    fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
        assert!(self.process.wait().unwrap().success());
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        read(&self.log) + &read(&self.output)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Records the statuses of requests; answers are tested elsewhere.
struct Caller {
    client: Client,
    address: SocketAddr,
}

impl Caller {
    fn post(&self, path: &str, token: &str, body: &Value) -> u16 {
        self.post_text(path, token, &body.to_string())
    }

    fn post_text(&self, path: &str, token: &str, body: &str) -> u16 {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("apikey", token),
            ("cookie", "session=canary-of-session"),
            ("content-type", "application/json"),
        ];
        self.client.post(path, &headers, body).status
    }

    /// Sends bytes that need not form a request; hangs up after a while.
    fn send(&self, bytes: &str) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let patience = Some(Duration::from_millis(200));
        stream.set_read_timeout(patience).unwrap();
        // The server may close the connection earlier.
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.read_to_string(&mut String::new());
    }

    /// Sends all four requests, each with its kind of token.
    fn ask_all(&self, of_user: &str, of_service: &str) -> [u16; 4] {
        let event = json!({"event_id": Uuid::from_u128(5), "kind": "like", "video_id": video(31)});
        let users: Vec<Uuid> = OF_BATCH.iter().chain(&[ERASED]).map(|&n| user(n)).collect();
        [
            self.post(RECOMMENDATIONS, of_user, &json!({"include_reasons": true})),
            self.post(SIMILAR_VIDEOS, of_user, &json!({"video_id": video(5)})),
            self.post(EVENTS, of_user, &json!({"events": [event]})),
            self.post(BATCH, of_service, &json!({"user_ids": users})),
        ]
    }
}

/// Invalid tokens.
fn bad_tokens() -> Vec<String> {
    let changed = |name: &str, value: Value| {
        let mut claims = claims(user(OF_FORGED));
        claims[name] = value;
        sign(&claims)
    };
    let good = token(user(OF_FORGED));
    vec![
        changed("exp", json!(get_current_timestamp() - 600)),
        changed("aud", json!("canary-of-audience")),
        changed("sub", json!("canary-of-subject")),
        format!("{}AA", &good[..good.len() - 2]),
        format!("{good}.canary-of-parts"),
        "canary-of-token".into(),
        format!("canary{}", "x".repeat(9000)),
    ]
}

/// Malformed requests, and ones that this server does not handle.
fn odd(caller: &Caller, good: &str) {
    let body = [
        (RECOMMENDATIONS, json!({"canary_of_field": 1})),
        (
            RECOMMENDATIONS,
            json!({"filter": {"tags": {"any": "canary-of-filter"}}}),
        ),
        (SIMILAR_VIDEOS, json!({"video_id": "canary-of-video"})),
        (SIMILAR_VIDEOS, json!({"video_id": Uuid::from_u128(0xca)})),
        (EVENTS, json!({"events": [{"kind": "canary-of-kind"}]})),
        (EVENTS, json!({"events": "canary-of-events"})),
    ];
    for (path, body) in body {
        let status = caller.post(path, good, &body);
        assert!((400..500).contains(&status), "{status}: {path} {body}");
    }
    let batch = json!({"user_ids": [user(LIKER), "canary-of-user"]});
    assert_eq!(caller.post(BATCH, &service_token(), &batch), 400);
    let text = r#"{"limit": canary-of-json"#;
    assert_eq!(caller.post_text(RECOMMENDATIONS, good, text), 400);
    for path in [
        format!("/functions/v1/{good}"),
        format!("/users/{}", user(LIKER)),
    ] {
        assert_eq!(caller.post(&path, good, &json!({})), 404);
    }
    let path = format!("{RECOMMENDATIONS}?token={good}&name=canary-of-query");
    assert_eq!(caller.post(&path, good, &json!({"limit": 3})), 200);
    let agent = "User-Agent: canary-of-agent\r\n";
    for sent in [
        format!("POST {RECOMMENDATIONS} HTTP/1.1\r\nAuthorization: Bearer {good}\r\n{agent}"),
        format!(
            "POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {good}\r\nContent-Length: 99\r\n\r\n{{\"canary"
        ),
        format!("POST / HTTP/1.1\r\nAuthorization: Bearer {good}\r\ncanary of a header\r\n\r\n"),
        format!("CANARY {good} HTTP/7\r\n\r\n"),
        "CANARY / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!("{good} / HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!(
            "GET /healthz HTTP/1.1\r\nHost: canary-of-host\r\nX-Request-Id: canary, of id\r\nX-{CANARY}: {}\r\n\r\n",
            "x".repeat(200_000)
        ),
    ] {
        caller.send(&sent);
    }
}

/// Values that the server received or sent, none of which may be in a log, with their names.
fn secrets(tokens: &[String]) -> Vec<(String, String)> {
    let mut secrets = vec![
        ("something made up".to_owned(), CANARY.to_owned()),
        ("the secret".to_owned(), SECRET.to_lowercase()),
    ];
    for n in [LIKER, OF_BATCH[0], OF_BATCH[1], OF_FORGED, ERASED, STRANGER] {
        let id = user(n);
        secrets.push((format!("user {n}"), id.to_string()));
        secrets.push((format!("user {n}"), id.simple().to_string()));
    }
    let titles = catalogue().into_iter().map(|video| video.title);
    secrets.extend(titles.map(|title| ("a title".to_owned(), title.to_lowercase())));
    for token in tokens {
        let parts = token.split('.').filter(|part| part.len() > 9);
        secrets.extend(parts.map(|part| ("part of a token".to_owned(), part.to_lowercase())));
    }
    secrets
}

/// At levels above debug, which other libraries use too.
fn every_field_is_documented(log: &str) {
    let page = include_str!("../../../../../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows
        .filter_map(|row| row.split_once(" | "))
        .flat_map(|(names, _)| names.split([',', ' ', '`']))
        .filter(|name| !name.is_empty())
        .collect();
    let mut of_requests = BTreeSet::new();
    // It also contains standard error, which is text for people.
    for line in log.lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line).unwrap();
        let mut fields = line["fields"].as_object().unwrap().clone();
        let is_answer = fields.remove("message").unwrap() == "answered";
        for (name, _) in fields {
            let told = line["level"] == "debug" || documented.contains(&*name);
            assert!(told, "docs/operations.md tells nothing of {name}: {line}");
            if is_answer {
                of_requests.insert(name);
            }
        }
    }
    let expected = "bytes cached elapsed_us method request_id route source status";
    let of_requests: Vec<String> = of_requests.into_iter().collect();
    assert_eq!(of_requests.join(" "), expected);
}

#[test]
fn the_log_holds_nothing_of_users_callers_and_connections() {
    let place = Place::on_postgres();
    place.configure("[update]\ngate = false\n[serve]\nsoft_deadline_ms = 0\ndatabase_ms = 1000");
    place.save(place.next_version(), &model(1));
    place.json("update");
    place.runtime.block_on(async {
        let block = Block {
            kind: BlockKind::Maker,
            value: "canary-of-maker".into(),
        };
        place.store.add_block(user(LIKER), &block).await.unwrap();
        let plan = ErasePlan::default();
        place.store.erase_user(user(ERASED), &plan).await.unwrap();
    });
    let mut server = Server::start(&place);
    let address = address_in(&server.log, &mut server.process);
    let caller = Caller {
        client: Client::new(address),
        address,
    };
    let (good, service) = (token(user(LIKER)), service_token());
    let (erased, stranger) = (token(user(ERASED)), token(user(STRANGER)));
    for _ in 0..2 {
        assert_eq!(caller.ask_all(&good, &service), [200; 4]);
    }
    assert_eq!(caller.ask_all(&stranger, &service), [200; 4]);
    let filter = json!({"filter": {"tags": {"none": ["canary-of-tag"]}}});
    assert_eq!(caller.post(RECOMMENDATIONS, &good, &filter), 200);
    assert_eq!(caller.ask_all(&erased, &good), [401, 401, 401, 403]);
    assert_eq!(caller.ask_all(&service, &erased), [403; 4]);
    let bad = bad_tokens();
    for token in &bad {
        // The validity of tokens is unknown too while key sources may be incomplete.
        for status in caller.ask_all(token, token) {
            assert!([401, 403, 503].contains(&status), "{status}: {token}");
        }
    }
    odd(&caller, &good);
    out_of_reach(&place.url);
    for token in [&good, &erased, &stranger] {
        let failed = caller.ask_all(token, &service);
        let is_failure = |status: &u16| [503, 504].contains(status);
        // A batch reports an outcome per user.
        assert!(failed[..3].iter().all(is_failure), "{failed:?}");
    }

    let log = server.stop().to_lowercase();
    // It has logged what it should.
    for said in [
        "\"level\":\"debug\"",
        "\"answered\"",
        "\"request refused\"",
        "\"request failed\"",
        "no public key could be fetched yet",
        "the token's sub is no user id",
        "the token is longer than 8 kib",
        "connection ended early",
        "the jwks could not be fetched",
    ] {
        assert!(log.contains(said), "nothing of {said}: {log}");
    }
    every_field_is_documented(&log);
    let tokens = [&[good, service, erased, stranger][..], &bad].concat();
    for (what, secret) in secrets(&tokens) {
        let line = log.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{what}, {secret}");
    }
}
