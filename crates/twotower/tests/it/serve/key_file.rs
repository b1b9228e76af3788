//! Keys in a file that changes while the server runs.

use super::fixture::{Fixture, Running, claims, user};
use super::public_keys::{ec, public, sign, wait_for};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use twotower::serve::auth::{Config, JwksSource, Refresh};

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "fedcba9876543210fedcba9876543210";

/// A shared secret as a key of a set; `k` is base64url.
fn shared(id: &str, k: &str) -> Value {
    json!({"kty": "oct", "alg": "HS256", "kid": id, "k": k})
}

fn old() -> Value {
    shared("old", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY")
}

fn new() -> Value {
    shared("new", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA")
}

/// Sign-in services with a shared secret put no key id into their tokens.
fn token(secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims(user(1)), &key).unwrap()
}

fn serve(fixture: &Fixture, file: &Path) -> Running {
    let mut config = fixture.config();
    config.auth = Config {
        jwks: Some(JwksSource::parse(file.to_str().unwrap()).unwrap()),
        refresh: Refresh {
            file_interval: Duration::from_millis(20),
            ..Refresh::default()
        },
        ..Config::default()
    };
    fixture.serve_with(config)
}

/// As docs/deployment.md describes: add the new secret, switch the sign-in service, remove the old
/// secret.
#[test]
fn a_shared_secret_rotates_in_a_file_without_a_restart() {
    let fixture = Fixture::new();
    let file = fixture.folder.path().join("keys.json");
    let write = |keys: Value| std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    write(json!([old()]));
    let server = serve(&fixture, &file);
    let (by_old, by_new) = (token(OLD), token(NEW));
    let status = |token: &str| server.client.recommend(token, "{}").status;
    assert_eq!(status(&by_old), 200);
    assert_eq!(status(&by_new), 401, "not there yet");

    write(json!([old(), new()]));
    wait_for("the new secret", || {
        assert_eq!(status(&by_old), 200, "the old one holds throughout");
        status(&by_new) == 200
    });
    write(json!([new()]));
    wait_for("the old secret's end", || {
        assert_eq!(status(&by_new), 200, "the new one holds throughout");
        status(&by_old) == 401
    });

    // An incomplete file, no file, or a folder in its place does not remove keys.
    for breaks in 0..3 {
        std::fs::remove_file(&file).unwrap();
        match breaks {
            0 => std::fs::write(&file, "{\"keys\": [").unwrap(),
            1 => {}
            _ => std::fs::create_dir(&file).unwrap(),
        }
        for _ in 0..10 {
            assert_eq!(status(&by_new), 200, "{breaks}");
            std::thread::sleep(Duration::from_millis(20));
        }
        if breaks == 2 {
            std::fs::remove_dir(&file).unwrap();
        }
        write(json!([old(), new()]));
        wait_for("what is whole again", || status(&by_old) == 200);
        write(json!([new()]));
        wait_for("the old secret's end", || status(&by_old) == 401);
    }

    // A set without keys admits nobody, and the server reports it.
    write(json!([]));
    wait_for("the last secret's end", || status(&by_new) == 401);
    let ready = server.client.get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    let said = "the file of --jwks holds no usable key";
    assert!(ready.text.contains(said), "{}", ready.text);
    write(json!([new(), public(&ec(), "ec")]));
    wait_for("readiness", || {
        server.client.get("/readyz", &[]).status == 200
    });
    assert_eq!(status(&by_new), 200);
    assert_eq!(status(&sign(&ec(), Some("ec"))), 200);
}

/// A mounted Kubernetes Secret is a link to a folder of immutable files; an update replaces the
/// folder.
#[cfg(unix)]
#[test]
fn a_file_behind_a_link_that_is_switched_is_read_again() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    for (version, key) in [("first", old()), ("second", new())] {
        std::fs::create_dir(folder.join(version)).unwrap();
        let set = json!({ "keys": [key] }).to_string();
        std::fs::write(folder.join(version).join("keys.json"), set).unwrap();
    }
    symlink("first", folder.join("data")).unwrap();
    symlink("data/keys.json", folder.join("keys.json")).unwrap();
    let server = serve(&fixture, &folder.join("keys.json"));
    let status = |secret| server.client.recommend(&token(secret), "{}").status;
    assert_eq!((status(OLD), status(NEW)), (200, 401));

    symlink("second", folder.join("switching")).unwrap();
    std::fs::rename(folder.join("switching"), folder.join("data")).unwrap();
    wait_for("the other folder", || status(NEW) == 200);
    assert_eq!(status(OLD), 401);
}
