use super::fixture::{Fixture, Running, SECRET, claims, user};
use super::issuer::{Behaviour, Issuer};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use twotower::serve::auth::{Config, JwksSource, Refresh};

const EC: &[u8] = include_bytes!("keys/ec_p256.pk8.der");
const OTHER_EC: &[u8] = include_bytes!("keys/ec_p256_other.pk8.der");
const ED: &[u8] = include_bytes!("keys/ed25519.pk8.der");
const RSA: &[u8] = include_bytes!("keys/rsa_2048.pk1.der");

pub(crate) fn ec() -> (Algorithm, EncodingKey) {
    (Algorithm::ES256, EncodingKey::from_ec_der(EC))
}
pub(crate) fn other_ec() -> (Algorithm, EncodingKey) {
    (Algorithm::ES256, EncodingKey::from_ec_der(OTHER_EC))
}
fn ed() -> (Algorithm, EncodingKey) {
    (Algorithm::EdDSA, EncodingKey::from_ed_der(ED))
}
fn rsa() -> (Algorithm, EncodingKey) {
    (Algorithm::RS256, EncodingKey::from_rsa_der(RSA))
}

pub(crate) fn public(key: &(Algorithm, EncodingKey), id: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(&key.1, key.0).unwrap();
    jwk.common.key_id = Some(id.into());
    serde_json::to_value(jwk).unwrap()
}

pub(crate) fn sign(key: &(Algorithm, EncodingKey), id: Option<&str>) -> String {
    let header = Header {
        kid: id.map(Into::into),
        ..Header::new(key.0)
    };
    encode(&header, &claims(user(1)), &key.1).unwrap()
}

fn serve(fixture: &Fixture, source: &str) -> Running {
    let mut config = fixture.config();
    config.auth = Config {
        jwks: Some(JwksSource::parse(source).unwrap()),
        ..Config::default()
    };
    fixture.serve_with(config)
}

#[test]
fn each_kind_of_key_verifies_its_own_tokens() {
    let fixture = Fixture::new();
    let unusable = json!({"kty": "EC", "crv": "P-521", "kid": "p521", "x": "AA", "y": "AA"});
    let mut for_encryption = public(&ec(), "enc");
    for_encryption["use"] = json!("enc");
    let set = json!({"keys": [public(&ec(), "ec"), unusable, for_encryption, public(&ed(), "ed"), public(&rsa(), "rsa")]});
    let file = fixture.folder.path().join("jwks.json");
    std::fs::write(&file, set.to_string()).unwrap();
    for source in [set.to_string(), file.display().to_string()] {
        let server = serve(&fixture, &source);
        let status = |token: &str| server.client.recommend(token, "{}").status;
        for (key, id) in [(ec(), "ec"), (ed(), "ed"), (rsa(), "rsa")] {
            assert_eq!(status(&sign(&key, Some(id))), 200, "{id}");
            assert_eq!(status(&sign(&key, None)), 200, "{id} without a key id");
        }
        assert_eq!(status(&sign(&ec(), Some("rsa"))), 401, "another key's id");
        assert_eq!(
            status(&sign(&ec(), Some("enc"))),
            401,
            "a key for encryption"
        );
        assert_eq!(status(&sign(&ec(), Some("../ec"))), 401);
        let stranger = other_ec();
        assert_eq!(status(&sign(&stranger, Some("ec"))), 401);
    }
}

/// The classic attack: the public key, which everybody knows, used as the secret of an HS256 token.
#[test]
fn a_public_key_is_no_shared_secret() {
    let fixture = Fixture::new();
    let jwk = public(&rsa(), "rsa");
    let server = serve(&fixture, &json!({"keys": [jwk.clone()]}).to_string());
    for secret in [
        jwk.to_string(),
        jwk["n"].as_str().unwrap().to_owned(),
        SECRET.to_owned(),
    ] {
        let header = Header {
            kid: Some("rsa".into()),
            ..Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&header, &claims(user(1)), &key).unwrap();
        assert_eq!(server.client.recommend(&token, "{}").status, 401);
    }
}

#[test]
fn a_set_at_an_address_is_fetched_and_kept() {
    let fixture = Fixture::new();
    let issuer = Issuer::start(&json!({"keys": [public(&ec(), "first")]}));
    let server = serve(&fixture, &format!("http://{}/jwks", issuer.address));
    let status = |key: &(Algorithm, EncodingKey), id| {
        server.client.recommend(&sign(key, Some(id)), "{}").status
    };
    for _ in 0..5 {
        assert_eq!(status(&ec(), "first"), 200);
    }
    assert_eq!(issuer.requests(), 1, "fetched at start and kept");
    // Unknown ids cause at most one fetch a minute, and never from another address.
    for id in ["second", "third", "http://127.0.0.1:1/"] {
        assert_eq!(status(&ed(), id), 401);
    }
    assert_eq!(issuer.requests(), 1);
}

#[test]
fn an_issuer_that_is_down_makes_the_server_unready_and_no_more() {
    let fixture = Fixture::new();
    let server = serve(&fixture, "http://127.0.0.1:1/jwks");
    let (status, code, _) = server
        .client
        .recommend(&sign(&ec(), Some("x")), "{}")
        .error();
    assert_eq!((status, code.as_str()), (503, "unavailable"));
    let ready = server.client.get("/readyz", &[]);
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("check --jwks"), "{}", ready.text);
}

/// A shared secret in a public key set would be no secret.
#[test]
fn symmetric_keys_are_not_taken_from_an_address() {
    let fixture = Fixture::new();
    let key = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"});
    let secret = EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    let signed = sign(&(Algorithm::HS256, secret), Some("s"));
    let set = json!({"keys": [key, public(&ec(), "ec")]});

    let server = serve(&fixture, &set.to_string());
    assert_eq!(server.client.recommend(&signed, "{}").status, 200);

    let issuer = Issuer::start(&set);
    let server = serve(&fixture, &format!("http://{}/jwks", issuer.address));
    assert_eq!(server.client.recommend(&signed, "{}").status, 401);
}

/// Polls for at most half a minute.
pub(super) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "waited in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn serve_impatiently(fixture: &Fixture, issuer: &Issuer, refresh: Refresh) -> Running {
    let mut config = fixture.config();
    config.auth = Config {
        jwks: Some(JwksSource::parse(&format!("http://{}/jwks", issuer.address)).unwrap()),
        refresh,
        ..Config::default()
    };
    fixture.serve_with(config)
}

/// A new key is added, signs while both are valid, and finally stays alone: no fresh token is
/// refused during the rotation.
#[test]
fn keys_rotate_with_an_overlap() {
    let fixture = Fixture::new();
    let (old, new) = (public(&ec(), "old"), public(&ed(), "new"));
    let issuer = Issuer::start(&json!({ "keys": [old.clone()] }));
    let refresh = Refresh {
        min_interval: Duration::from_millis(50),
        max_age: Duration::from_millis(200),
        ..Refresh::default()
    };
    let server = serve_impatiently(&fixture, &issuer, refresh);
    let status = |key: &(Algorithm, EncodingKey), id| {
        server.client.recommend(&sign(key, Some(id)), "{}").status
    };
    assert_eq!(status(&ec(), "old"), 200);
    assert_eq!(status(&ed(), "new"), 401, "not published yet");

    issuer.publish(&json!({"keys": [old, new.clone()]}));
    wait_for("the new key", || {
        assert_eq!(status(&ec(), "old"), 200, "the old one holds throughout");
        status(&ed(), "new") == 200
    });
    issuer.publish(&json!({ "keys": [new] }));
    wait_for("the old key's end", || {
        assert_eq!(status(&ed(), "new"), 200, "the new one holds throughout");
        status(&ec(), "old") == 401
    });

    issuer.behave(Behaviour::Nonsense);
    for _ in 0..20 {
        assert_eq!(
            status(&ed(), "new"),
            200,
            "an issuer in trouble takes no key away"
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    // An issuer that has lost its keys publishes an empty set, or keys that are not for tokens.
    let mut for_encryption = public(&ed(), "new");
    for_encryption["use"] = json!("enc");
    let new = public(&ed(), "new");
    for none in [json!([]), json!([for_encryption])] {
        issuer.behave(Behaviour::Answer);
        issuer.publish(&json!({ "keys": none }));
        wait_for("the last key's end", || status(&ed(), "new") == 401);
        let (readiness, reason) = readiness(&server);
        assert_eq!(readiness, 503, "{reason}");
        assert!(reason.contains("no usable key"), "{reason}");
        issuer.behave(Behaviour::Nonsense);
        let before = issuer.requests();
        wait_for("more fetches", || issuer.requests() >= before + 3);
        assert_ne!(
            status(&ed(), "new"),
            200,
            "trouble brings no key back either"
        );
        issuer.behave(Behaviour::Answer);
        issuer.publish(&json!({ "keys": [new.clone()] }));
        wait_for("a key again", || status(&ed(), "new") == 200);
    }
}

/// Status and body of `/readyz`.
fn readiness(server: &Running) -> (u16, String) {
    let answer = server.client.get("/readyz", &[]);
    (answer.status, answer.text)
}

/// For example a Supabase project whose tokens are signed only with the legacy secret.
#[test]
fn a_server_that_finds_no_key_to_begin_with_says_so_and_lets_nobody_in() {
    let fixture = Fixture::new();
    let issuer = Issuer::start(&json!({"keys": []}));
    let refresh = Refresh {
        min_interval: Duration::from_millis(50),
        ..Refresh::default()
    };
    let server = serve_impatiently(&fixture, &issuer, refresh);
    let (status, said) = readiness(&server);
    assert_eq!(status, 503, "{said}");
    assert!(
        said.contains("no usable key") && said.contains("--jwks"),
        "{said}"
    );
    // A fetch may be in progress, and then the result is unknown.
    let recommend = || {
        server
            .client
            .recommend(&sign(&ec(), Some("ec")), "{}")
            .status
    };
    assert!([401, 503].contains(&recommend()));
    wait_for("a refusal", || recommend() == 401);
    // The set is fetched again although it has not expired.
    issuer.publish(&json!({"keys": [public(&ec(), "ec")]}));
    wait_for("a key", || readiness(&server).0 == 200);
    assert_eq!(recommend(), 200);
}

/// There was no request since the key was removed, so its bearer sends the first one.
#[test]
fn a_key_that_was_taken_away_is_forgotten_in_a_quiet_time_too() {
    let fixture = Fixture::new();
    let (old, new) = (public(&ec(), "old"), public(&ed(), "new"));
    let issuer = Issuer::start(&json!({ "keys": [old, new.clone()] }));
    let refresh = Refresh {
        min_interval: Duration::from_millis(50),
        max_age: Duration::from_millis(200),
        ..Refresh::default()
    };
    let server = serve_impatiently(&fixture, &issuer, refresh);
    issuer.publish(&json!({ "keys": [new] }));
    // The first fetch may return the old set, but it has ended when another begins.
    let before = issuer.requests();
    wait_for("two more fetches", || issuer.requests() >= before + 3);
    let status = |key: &(Algorithm, EncodingKey), id| {
        server.client.recommend(&sign(key, Some(id)), "{}").status
    };
    assert_eq!(status(&ec(), "old"), 401);
    assert_eq!(status(&ed(), "new"), 200);
}

/// A balancer sends no requests to a server that is not ready, so a request must not be needed to
/// fetch the keys again.
#[test]
fn an_issuer_that_comes_up_later_makes_the_server_ready() {
    let fixture = Fixture::new();
    let issuer = Issuer::start(&json!({"keys": [public(&ec(), "ec")]}));
    issuer.behave(Behaviour::Nonsense);
    let refresh = Refresh {
        min_interval: Duration::from_millis(50),
        ..Refresh::default()
    };
    let server = serve_impatiently(&fixture, &issuer, refresh);
    let ready = || server.client.get("/readyz", &[]).status;
    assert_eq!(ready(), 503);
    issuer.behave(Behaviour::Answer);
    wait_for("readiness", || ready() == 200);
    let answer = server.client.recommend(&sign(&ec(), Some("ec")), "{}");
    assert_eq!(answer.status, 200);
}

/// A client that invents key ids while the issuer hangs waits only briefly, and blocks nobody.
#[test]
fn unknown_keys_hold_nobody_up() {
    let fixture = Fixture::new();
    let issuer = Issuer::start(&json!({"keys": [public(&ec(), "known")]}));
    let refresh = Refresh {
        min_interval: Duration::from_millis(1),
        max_age: Duration::from_mins(10),
        deadline: Duration::from_secs(20),
        ..Refresh::default()
    };
    let server = serve_impatiently(&fixture, &issuer, refresh);
    let known = sign(&ec(), Some("known"));
    assert_eq!(server.client.recommend(&known, "{}").status, 200);
    issuer.behave(Behaviour::Hang);
    std::thread::sleep(Duration::from_millis(5));
    std::thread::scope(|scope| {
        // Fewer than the admission limit: none is shed.
        for who in 0..12 {
            let server = &server;
            scope.spawn(move || {
                let client = server.another_client();
                let token = sign(&ed(), Some(&format!("made-up-{who}")));
                for _ in 0..3 {
                    let answer = client.recommend(&token, "{}");
                    let (status, code, _) = answer.error();
                    assert_eq!((status, code.as_str()), (503, "unavailable"));
                    assert_eq!(answer.header("retry-after"), "1");
                }
            });
        }
        for _ in 0..50 {
            assert_eq!(server.client.recommend(&known, "{}").status, 200);
        }
    });
    assert_eq!(
        issuer.requests(),
        2,
        "one fetch at a time, however many ask"
    );
}

/// A key without an id verifies tokens whatever their key id, so that none of them needs a fetch.
#[test]
fn a_key_without_an_id_needs_no_fetch() {
    let fixture = Fixture::new();
    let mut key = public(&ec(), "none");
    key.as_object_mut().unwrap().remove("kid");
    let issuer = Issuer::start(&json!({ "keys": [key.clone()] }));
    let refresh = Refresh {
        min_interval: Duration::from_millis(1),
        max_age: Duration::from_mins(10),
        deadline: Duration::from_secs(20),
        ..Refresh::default()
    };
    let server = serve_impatiently(&fixture, &issuer, refresh);
    issuer.behave(Behaviour::Hang);
    std::thread::sleep(Duration::from_millis(5));
    std::thread::scope(|scope| {
        for n in 0..6 {
            let server = &server;
            scope.spawn(move || {
                let token = sign(&ec(), Some(&format!("x{n}")));
                let answer = server.another_client().recommend(&token, "{}");
                assert_eq!(answer.status, 200, "{}", answer.text);
            });
        }
    });
    assert_eq!(issuer.requests(), 1, "fetched only at the start");
    // A token that no held key verifies still causes a fetch, by which keys are rotated.
    issuer.behave(Behaviour::Answer);
    issuer.publish(&json!({"keys": [key, public(&ed(), "new")]}));
    let answer = server.client.recommend(&sign(&ed(), Some("new")), "{}");
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// No answer of an issuer keeps the server from starting, or delays it beyond the deadline.
#[test]
fn an_issuer_may_do_anything() {
    let fixture = Fixture::new();
    let refresh = Refresh {
        deadline: Duration::from_millis(300),
        ..Refresh::default()
    };
    let set = json!({"keys": [public(&ec(), "ec")]});
    for behaviour in [
        Behaviour::Hang,
        Behaviour::Trickle,
        Behaviour::Redirect,
        Behaviour::Huge,
        Behaviour::Nonsense,
    ] {
        let elsewhere = Issuer::start(&set);
        let issuer = Issuer::start(&set);
        issuer.redirect_to(elsewhere.address);
        issuer.behave(behaviour);
        let server = serve_impatiently(&fixture, &issuer, refresh);
        let answer = server.client.recommend(&sign(&ec(), Some("ec")), "{}");
        assert_eq!(answer.error().0, 503, "{behaviour:?}");
        assert_eq!(issuer.requests(), 1, "{behaviour:?}");
        assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
        assert_eq!(server.client.get("/readyz", &[]).status, 503);
    }
}
