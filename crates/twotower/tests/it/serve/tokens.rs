use super::client::{BATCH, EVENTS, RECOMMENDATIONS, SIMILAR_VIDEOS};
use super::fixture::{
    Fixture, Running, SECRET, claims, model, out_of_reach, service_token, token, user, video,
};
use crate::life_cycle::place::Place;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use twotower::serve::auth::{Config, Secret};
use uuid::Uuid;

const ISSUER: &str = "https://issuer.example/auth/v1";

fn config() -> Config {
    Config {
        secret: Some(Secret::new(SECRET).unwrap()),
        issuer: Some(ISSUER.into()),
        ..Config::default()
    }
}

/// Valid claims with `changes`; null removes a claim.
fn changed(changes: &Value) -> Value {
    let mut claims = claims(user(1));
    claims["iss"] = json!(ISSUER);
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => {
                claims.as_object_mut().unwrap().remove(name);
            }
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn sign(header: &Header, claims: &Value, secret: &[u8]) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn with_claims(changes: &Value) -> String {
    sign(&Header::default(), &changed(changes), SECRET.as_bytes())
}

fn with_header(change: impl Fn(&mut Header)) -> String {
    let mut header = Header::default();
    change(&mut header);
    sign(&header, &changed(&json!({})), SECRET.as_bytes())
}

fn with_key_id(id: &str) -> String {
    with_header(|header| header.kid = Some(id.into()))
}

fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = (0..3).fold(0u32, |n, i| n << 8 | u32::from(*chunk.get(i).unwrap_or(&0)));
        for digit in 0..=chunk.len() {
            text.push(DIGITS[(n >> (18 - 6 * digit) & 63) as usize] as char);
        }
    }
    text
}

/// A token with `header`, and the signature of `signed` under another header.
fn forged(header: &Value, signature: &str) -> String {
    let part = |value: &Value| base64_url(value.to_string().as_bytes());
    format!(
        "{}.{}.{signature}",
        part(header),
        part(&changed(&json!({})))
    )
}

type Named = (&'static str, String);

fn broken() -> Vec<Named> {
    let good = with_claims(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let other_payload = base64_url(changed(&json!({"sub": user(2)})).to_string().as_bytes());
    vec![
        ("no signature", format!("{header}.{payload}.")),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{good}.x")),
        ("one part", "token".into()),
        ("dots alone", "..".into()),
        ("padding", format!("{good}=")),
        ("a leading dot", format!(".{good}")),
        ("signature twice", format!("{good}{signature}")),
        (
            "header in capitals",
            format!("{}.{payload}.{signature}", header.to_uppercase()),
        ),
        (
            "standard base64",
            format!("{header}.{payload}.{}/+", &signature[2..]),
        ),
        (
            "signature of another token",
            format!(
                "{header}.{payload}.{}",
                with_claims(&json!({"sub": user(2)}))
                    .rsplit('.')
                    .next()
                    .unwrap()
            ),
        ),
        (
            "flipped signature",
            format!("{header}.{payload}.{flipped}{}", &signature[1..]),
        ),
        ("cut signature", good[..good.len() - 4].into()),
        (
            "other payload",
            format!("{header}.{other_payload}.{signature}"),
        ),
        (
            "header is no JSON",
            format!("{}.{payload}.{signature}", base64_url(b"{")),
        ),
        (
            "payload is no JSON",
            format!("{header}.{}.{signature}", base64_url(b"[]")),
        ),
    ]
}

fn wrong_headers() -> Vec<Named> {
    let good = with_claims(&json!({}));
    let signature = good.rsplit('.').next().unwrap();
    let header_only = |change: Value| forged(&change, signature);
    vec![
        (
            "alg none",
            forged(&json!({"alg": "none", "typ": "JWT"}), ""),
        ),
        (
            "alg None",
            forged(&json!({"alg": "None", "typ": "JWT"}), ""),
        ),
        ("alg none, signed", header_only(json!({"alg": "none"}))),
        ("no alg", header_only(json!({"typ": "JWT"}))),
        (
            "alg HS384",
            with_header(|header| header.alg = Algorithm::HS384),
        ),
        (
            "alg HS512",
            with_header(|header| header.alg = Algorithm::HS512),
        ),
        ("alg RS256 over HS256", header_only(json!({"alg": "RS256"}))),
        ("alg ES256 over HS256", header_only(json!({"alg": "ES256"}))),
        ("alg EdDSA over HS256", header_only(json!({"alg": "EdDSA"}))),
        (
            "another secret",
            sign(&Header::default(), &changed(&json!({})), &[7; 32]),
        ),
        (
            "empty secret",
            sign(&Header::default(), &changed(&json!({})), b""),
        ),
        (
            "critical extension",
            with_header(|header| header.crit = Some(vec!["exp".into()])),
        ),
        (
            "jku",
            with_header(|header| header.jku = Some("http://127.0.0.1:1/jwks".into())),
        ),
        (
            "x5u",
            with_header(|header| header.x5u = Some("http://127.0.0.1:1/cert".into())),
        ),
        ("alg hs256", header_only(json!({"alg": "hs256"}))),
        ("alg PS256 over HS256", header_only(json!({"alg": "PS256"}))),
        ("alg as a list", header_only(json!({"alg": ["HS256"]}))),
        (
            "kid as a number",
            header_only(json!({"alg": "HS256", "kid": 1})),
        ),
        (
            "x5c",
            with_header(|header| header.x5c = Some(vec!["AAAA".into()])),
        ),
        (
            "compressed",
            header_only(json!({"alg": "HS256", "zip": "DEF"})),
        ),
        ("kid of 1 KiB", with_key_id(&"k".repeat(1024))),
        ("kid that climbs", with_key_id("../../etc/passwd")),
        (
            "kid that climbs in the middle",
            with_key_id("keys/../../dev/null"),
        ),
        (
            "kid that climbs by another stroke",
            with_key_id("..\\..\\windows"),
        ),
        (
            "kid that climbs in disguise",
            with_key_id("%2e%2e/etc/passwd"),
        ),
        ("kid with NUL", with_key_id("a\0b")),
        ("kid with a line break", with_key_id("a\n")),
        ("kid with SQL", with_key_id("' OR 1=1 --")),
        ("kid with a command", with_key_id("a|id")),
        ("kid from right to left", with_key_id("\u{202e}a")),
    ]
}

fn wrong_claims() -> Vec<Named> {
    let now = get_current_timestamp();
    vec![
        ("expired", with_claims(&json!({"exp": now - 6}))),
        ("expired long ago", with_claims(&json!({"exp": 1}))),
        ("no exp", with_claims(&json!({"exp": null}))),
        (
            "exp as text",
            with_claims(&json!({"exp": (now + 600).to_string()})),
        ),
        ("exp as list", with_claims(&json!({"exp": [now + 600]}))),
        ("exp negative", with_claims(&json!({"exp": -1}))),
        ("not yet valid", with_claims(&json!({"nbf": now + 60}))),
        ("nbf as text", with_claims(&json!({"nbf": "soon"}))),
        ("no aud", with_claims(&json!({"aud": null}))),
        ("another aud", with_claims(&json!({"aud": "anon"}))),
        ("aud of an empty list", with_claims(&json!({"aud": []}))),
        ("no iss", with_claims(&json!({"iss": null}))),
        (
            "another iss",
            with_claims(&json!({"iss": "https://evil.example"})),
        ),
        ("no sub", with_claims(&json!({"sub": null}))),
        ("sub is no UUID", with_claims(&json!({"sub": "1"}))),
        ("sub is empty", with_claims(&json!({"sub": ""}))),
        ("sub is a number", with_claims(&json!({"sub": 1}))),
        (
            "sub in braces",
            with_claims(&json!({"sub": format!("{{{}}}", user(1))})),
        ),
        (
            "sub without hyphens",
            with_claims(&json!({"sub": user(1).simple().to_string()})),
        ),
        ("sub of nobody", with_claims(&json!({"sub": Uuid::nil()}))),
        (
            "sub with a space",
            with_claims(&json!({"sub": format!(" {}", user(1))})),
        ),
        (
            "sub as a URN",
            with_claims(&json!({"sub": user(1).urn().to_string()})),
        ),
        ("sub as a list", with_claims(&json!({"sub": [user(1)]}))),
        ("aud as a number", with_claims(&json!({"aud": 1}))),
        (
            "aud with a space",
            with_claims(&json!({"aud": "authenticated "})),
        ),
        ("role as a number", with_claims(&json!({"role": 1}))),
        (
            "role as a list",
            with_claims(&json!({"role": ["service_role"]})),
        ),
        (
            "the anonymous key",
            with_claims(&json!({"role": "anon", "sub": null})),
        ),
        ("sub with SQL", with_claims(&json!({"sub": "' OR 1=1 --"}))),
        (
            "longer than 8 KiB",
            with_claims(&json!({"junk": "x".repeat(8 * 1024)})),
        ),
    ]
}

#[test]
fn every_bad_token_is_refused() {
    let fixture = Fixture::new();
    let mut server_config = fixture.config();
    server_config.auth = config();
    let server = fixture.serve_with(server_config);
    let good = server.client.recommend(&with_claims(&json!({})), "{}");
    assert_eq!(good.status, 200, "{}", good.text);

    let bad = [broken(), wrong_headers(), wrong_claims()].concat();
    assert!(bad.len() >= 70);
    for (what, token) in bad {
        let answer = server.client.recommend(&token, "{}");
        let (status, code, message) = answer.error();
        assert_eq!((status, code.as_str()), (401, "unauthorized"), "{what}");
        assert_eq!(message, "a valid bearer token is required", "{what}");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
    }
}

/// Without a database, a request that queries it would fail differently.
#[test]
fn a_bad_token_is_refused_without_the_database() {
    let place = Place::on_postgres();
    place.save(place.next_version(), &model(1));
    place.json("update");
    let mut server_config = super::fixture::config(place.models());
    server_config.auth = config();
    server_config.limits.soft_deadline = Duration::ZERO;
    server_config.limits.database = Duration::from_millis(500);
    let server = Running::start(place.store.clone(), server_config);
    out_of_reach(&place.url);
    let asked = |path: &str, token: &str, body: &Value| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let answer = server.client.post(path, &headers, &body.to_string());
        let waited = answer.header("server-timing").contains("db;dur=");
        (answer.status, waited)
    };
    let good = with_claims(&json!({}));
    let event = json!({"event_id": user(1), "kind": "like", "video_id": video(1)});
    let events = json!({"events": [event]});
    for (path, body) in [
        (RECOMMENDATIONS, json!({})),
        (SIMILAR_VIDEOS, json!({"video_id": video(1)})),
        (EVENTS, events.clone()),
    ] {
        let (status, waited) = asked(path, &good, &body);
        assert!([503, 504].contains(&status) && waited, "{path}: {status}");
    }
    let claims = wrong_claims();
    for (what, token) in [broken(), wrong_headers(), claims.clone()].concat() {
        for path in [RECOMMENDATIONS, SIMILAR_VIDEOS, EVENTS] {
            let answered = asked(path, &token, &events);
            assert_eq!(answered, (401, false), "{what}, {path}");
        }
        // This endpoint expects no user: a signed token with an unfit `sub` is refused as not being
        // the service's.
        let (status, waited) = asked(BATCH, &token, &events);
        let refused = status == 401 || status == 403 && claims.iter().any(|it| it.0 == what);
        assert!(refused && !waited, "{what}, {BATCH}: {status}");
    }
    // Neither is the database queried for a token of the wrong role or without an issuer.
    let service = sign(
        &Header::default(),
        &changed(&json!({"role": "service_role"})),
        SECRET.as_bytes(),
    );
    assert_eq!(asked(RECOMMENDATIONS, &service, &json!({})), (403, false));
    assert_eq!(
        asked(BATCH, &good, &json!({"user_ids": [user(1)]})),
        (403, false)
    );
    assert_eq!(
        asked(BATCH, &service_token(), &json!({})),
        (401, false),
        "no issuer"
    );
}

#[test]
fn the_header_must_be_one_bearer_token() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let good = token(user(1));
    let status = |values: &[String]| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(values.iter().map(|value| ("authorization", value.as_str())));
        server.client.post(RECOMMENDATIONS, &headers, "{}").status
    };
    assert_eq!(status(&[format!("Bearer {good}")]), 200);
    assert_eq!(status(&[format!("bearer {good}")]), 200);
    assert_eq!(status(&[]), 401);
    for value in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"] {
        assert_eq!(status(&[value.to_owned()]), 401, "{value:?}");
    }
    for value in [
        good.clone(),
        format!("Bearer  {good}"),
        format!("Bearer {good} x"),
    ] {
        assert_eq!(status(std::slice::from_ref(&value)), 401, "{value:?}");
    }
    let twice = format!("Bearer {good}");
    assert_eq!(status(&[twice.clone(), twice]), 401);
}

#[test]
fn what_is_allowed_is_let_in() {
    let fixture = Fixture::new();
    let mut server_config = fixture.config();
    server_config.auth = config();
    let server = fixture.serve_with(server_config);
    let now = get_current_timestamp();
    for token in [
        // The leeway is 5 s, of which a busy machine needs some.
        with_claims(&json!({"exp": now - 1, "nbf": now + 3})),
        with_claims(&json!({"aud": ["other", "authenticated"]})),
        with_claims(&json!({"exp": f64::from(u32::MAX) + 0.5})),
        // The form of ids at Supabase, Google, Amazon and others.
        with_key_id("0b000000-0000-4000-8000-000000000001"),
        with_key_id("f81d4fae7dec11d0a76500a0c91e6bf6"),
        with_key_id("1LlZTd4E29FH9A3yA7MZ/W8xZ5aNmwD5m2QbKZKdIp+="),
        with_key_id(
            "urn:ietf:params:oauth:jwk-thumbprint:sha-256:NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        with_key_id("did:example:issuer#key-1"),
    ] {
        assert_eq!(server.client.recommend(&token, "{}").status, 200);
    }
}

/// A token of the application names no user, even with a `sub`: it must not act as one by accident.
#[test]
fn roles_are_told_apart() {
    let fixture = Fixture::new();
    let mut server_config = fixture.config();
    server_config.auth = config();
    let server = fixture.serve_with(server_config);
    let ask = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        (
            server.client.recommend(token, "{}").status,
            server.client.get("/metrics", &headers).status,
        )
    };
    let service = json!({"role": "service_role"});
    for (what, changes, expected) in [
        ("a user", json!({}), (200, 403)),
        ("no role", json!({"role": null}), (200, 403)),
        ("another role", json!({"role": "editor"}), (200, 403)),
        (
            "almost the role",
            json!({"role": "service_role "}),
            (200, 403),
        ),
        ("other letters", json!({"role": "SERVICE_ROLE"}), (200, 403)),
        ("the service", service.clone(), (403, 200)),
        (
            "without sub",
            json!({"role": "service_role", "sub": null}),
            (403, 200),
        ),
        (
            "with any sub",
            json!({"role": "service_role", "sub": "x"}),
            (403, 200),
        ),
        (
            "expired",
            json!({"role": "service_role", "exp": 1}),
            (401, 401),
        ),
        (
            "another aud",
            json!({"role": "service_role", "aud": "x"}),
            (401, 401),
        ),
        (
            "no iss",
            json!({"role": "service_role", "iss": null}),
            (401, 401),
        ),
    ] {
        assert_eq!(ask(&with_claims(&changes)), expected, "{what}");
    }
    let forged = sign(&Header::default(), &changed(&service), &[7; 32]);
    assert_eq!(ask(&forged), (401, 401));
}
