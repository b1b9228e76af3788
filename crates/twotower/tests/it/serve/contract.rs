//! Compares the server's `OpenAPI` document with its behaviour.

use super::client::RECOMMENDATIONS;
use super::fixture::{Fixture, Running, claims, sign, token, user};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Map, Value, json};
use std::process::Command;
use twotower::serve::CorsOrigins;

fn document(server: &Running) -> Value {
    let answer = server.client.get("/openapi.json", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

fn service_token() -> String {
    let mut claims = claims(user(1));
    claims["role"] = json!("service_role");
    claims.as_object_mut().unwrap().remove("sub");
    sign(&claims)
}

#[test]
fn what_is_served_is_what_is_committed() {
    let fixture = Fixture::without_model();
    let served = document(&fixture.serve());
    let committed = include_str!("../../../../../docs/openapi.json");
    assert_eq!(served, serde_json::from_str::<Value>(committed).unwrap());
}

/// Every endpoint that requires a token refuses requests without one; the others accept them.
#[test]
fn tokens_are_asked_for_where_the_contract_says() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let document = document(&server);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answer = match method.as_str() {
                "get" => server.client.get(path, &[]),
                "post" => server
                    .client
                    .post(path, &[("content-type", "application/json")], "{}"),
                other => panic!("no test for {other}"),
            };
            let guarded = operation["security"].is_array();
            assert_eq!(
                answer.status == 401,
                guarded,
                "{method} {path}: {}",
                answer.status
            );
            let statuses = operation["responses"].as_object().unwrap();
            assert!(
                statuses.contains_key(&answer.status.to_string()),
                "{method} {path}"
            );
        }
    }
}

/// Whether `value` is valid under `schema`, all of whose keywords must be known here; `schemas` are
/// the targets of references.
fn valid(schemas: &Value, schema: &Value, value: &Value) -> bool {
    let keywords = schema.as_object().unwrap();
    let number = |bound: &Value| bound.as_f64().unwrap();
    keywords.iter().all(|(keyword, is)| match keyword.as_str() {
        "description" | "default" | "format" => true,
        "$ref" => {
            let (_, name) = is.as_str().unwrap().rsplit_once('/').unwrap();
            valid(schemas, &schemas[name], value)
        }
        "type" => match is.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            other => panic!("no test for type {other}"),
        },
        "minimum" => value.as_f64().is_none_or(|it| it >= number(is)),
        "maximum" => value.as_f64().is_none_or(|it| it <= number(is)),
        "minLength" => value
            .as_str()
            .is_none_or(|it| it.chars().count() as f64 >= number(is)),
        "maxLength" => value
            .as_str()
            .is_none_or(|it| it.chars().count() as f64 <= number(is)),
        "maxItems" => value
            .as_array()
            .is_none_or(|it| it.len() as f64 <= number(is)),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| valid(schemas, is, item))),
        "required" => is.as_array().unwrap().is_empty(),
        "additionalProperties" => {
            assert_eq!(is, &json!(false));
            let known = keywords["properties"].as_object().unwrap();
            value
                .as_object()
                .is_none_or(|fields| fields.keys().all(|key| known.contains_key(key)))
        }
        "properties" => is.as_object().unwrap().iter().all(|(name, schema)| {
            value
                .get(name)
                .is_none_or(|value| valid(schemas, schema, value))
        }),
        other => panic!("no test for {other}"),
    })
}

fn some_value(random: &mut Pcg64Mcg) -> Value {
    match random.random_range(0..14) {
        0 => json!(null),
        1 | 2 => json!(random.random::<bool>()),
        3 | 4 => json!(random.random_range(-2..104)),
        5 => json!(random.random::<i64>()),
        6 => json!(0.5 + f64::from(random.random_range(-3..120))),
        7 => json!(f64::from(random.random_range(-2..104))),
        8 => json!(["1", "true", "", "夜"][random.random_range(0..4)]),
        9 => json!(random.random_range(-1.1..1.1)),
        10 | 11 => some_filter(random),
        _ => json!([{ "limit": 1 }, [], [1], null])[random.random_range(0..4)].clone(),
    }
}

fn some_filter(random: &mut Pcg64Mcg) -> Value {
    let long = "x".repeat(random.random_range(99..102));
    let many = vec!["a"; random.random_range(49..52)];
    let conditions = [
        ("tags", json!({"any": ["朝"], "none": []})),
        ("tags", json!({"any": [""]})),
        ("makers", json!({"none": [long]})),
        ("performers", json!({"any": many})),
        ("genres", json!({"all": ["a"]})),
        ("genres", json!({})),
        ("price", json!({"min": 3, "max": 1})),
        ("price", json!({"min": "3"})),
        ("age_days", json!({"max": 1.5})),
        ("age_days", json!({"max": 1e13})),
        ("color", json!({})),
    ];
    let mut filter = Map::new();
    for _ in 0..random.random_range(0..3) {
        let (name, condition) = &conditions[random.random_range(0..conditions.len())];
        filter.insert((*name).to_owned(), condition.clone());
    }
    Value::Object(filter)
}

/// The schema is derived from a type, while requests are parsed by hand: both must accept the same.
#[test]
fn schema_and_parser_agree() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let token = token(user(1));
    let document = document(&server);
    let schemas = &document["components"]["schemas"];
    let schema = &schemas["RecommendationsRequest"];
    let mut names: Vec<&str> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.extend(["user_id", "Limit"]);
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let mut accepted = 0;
    for _ in 0..1500 {
        let mut fields = Map::new();
        for name in &names {
            if random.random_range(0..6) == 0 {
                fields.insert((*name).to_owned(), some_value(&mut random));
            }
        }
        let body = Value::Object(fields);
        let answer = server.client.recommend(&token, &body.to_string());
        let expected = if valid(schemas, schema, &body) {
            200
        } else {
            400
        };
        assert_eq!(answer.status, expected, "{body}: {}", answer.text);
        accepted += u32::from(expected == 200);
    }
    assert!((100..1400).contains(&accepted), "{accepted}");
}

/// Thousands of generated requests, valid and invalid, are compared with the contract.
/// `TWOTOWER_CONTRACT_CASES` sets how many per endpoint and kind of token.
#[test]
fn heavy_schemathesis() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let cases = std::env::var("TWOTOWER_CONTRACT_CASES").unwrap_or_else(|_| "120".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/schemathesis");
    let output = Command::new(script)
        .args([&format!("http://{}", server.address), &cases])
        .env("SCHEMATHESIS_TOKEN", token(user(1)))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{errors}");
    let metrics = server.metrics.get("/metrics", &[]).text;
    let name = "twotower_http_request_duration_seconds_count";
    let (mut requests, mut defects) = (0, 0);
    for line in metrics.lines().filter(|line| line.starts_with(name)) {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        requests += count;
        defects += if line.contains("status=\"5") {
            count
        } else {
            0
        };
    }
    println!("schemathesis: {requests} requests, {defects} of them answered with a 5xx");
    assert!(
        requests >= 1000 && defects == 0,
        "{requests}, {defects}\n{metrics}"
    );
}

#[test]
fn every_answer_says_where_its_time_went() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let stages = |header: &str| -> Vec<String> {
        header
            .split(", ")
            .map(|entry| {
                let (name, ms) = entry.split_once(";dur=").unwrap();
                assert!(ms.parse::<f64>().unwrap() >= 0.0, "{header}");
                name.to_owned()
            })
            .collect()
    };
    let answer = server.client.recommend(&token(user(1)), "{}");
    let told = stages(answer.header("server-timing"));
    for stage in ["queue", "auth", "total"] {
        assert!(told.iter().any(|name| name == stage), "{told:?}");
    }
    for path in ["/healthz", "/nothing"] {
        let answer = server.client.get(path, &[]);
        assert_eq!(stages(answer.header("server-timing")), ["total"], "{path}");
    }
}

#[test]
fn metrics_are_for_the_service_role_or_on_an_address_of_their_own() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    assert_eq!(server.client.recommend(&token(user(1)), "{}").status, 200);
    assert_eq!(server.client.get("/secret-title", &[]).status, 404);

    let text = server.metrics.get("/metrics", &[]);
    assert_eq!(text.status, 200);
    assert!(
        text.header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let requests = format!(
        r#"twotower_http_request_duration_seconds_count{{route="{RECOMMENDATIONS}",status="200"}}"#
    );
    assert_eq!(server.metric(&requests), Some(1.0));
    let other = r#"twotower_http_request_duration_seconds_count{route="other",status="404"}"#;
    assert_eq!(server.metric(other), Some(1.0));
    assert_eq!(server.metric("twotower_model_version"), Some(1.0));
    // Eight for lists and eight for events.
    assert_eq!(server.metric("twotower_concurrency_limit"), Some(16.0));
    assert!(!text.text.contains("secret-title"));
    assert!(!text.text.contains(&user(1).to_string()));
    // Probes have this listener, which does not serve the API, while clients hold all connections
    // of the API.
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(server.metrics.get(probe, &[]).status, 200, "{probe}");
    }
    assert_eq!(server.metrics.get("/openapi.json", &[]).status, 404);

    let get = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        server.client.get("/metrics", &headers)
    };
    assert_eq!(server.client.get("/metrics", &[]).status, 401);
    let (status, code, _) = get(&token(user(1))).error();
    assert_eq!((status, code.as_str()), (403, "forbidden"));
    let scraped = get(&service_token());
    assert_eq!(scraped.status, 200);
    assert!(
        scraped
            .text
            .contains("\n# TYPE twotower_concurrency_limit gauge\n")
    );
    let (status, code, _) = server.client.recommend(&service_token(), "{}").error();
    assert_eq!((status, code.as_str()), (403, "forbidden"));
}

#[test]
fn pages_of_other_origins_read_only_what_is_configured() {
    const APP: &str = "https://app.example";
    let fixture = Fixture::new();
    let serve = |origins: &[&str]| {
        let origins: Vec<String> = origins.iter().map(|&origin| origin.into()).collect();
        let mut config = fixture.config();
        config.cors = CorsOrigins::parse(&origins).unwrap();
        fixture.serve_with(config)
    };
    let authorization = format!("Bearer {}", token(user(1)));
    let allowed = |server: &Running, path: &str, origin: &str| {
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("origin", origin),
        ];
        let answer = server.client.post(path, &headers, "{}");
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        answer.header("access-control-allow-origin").to_owned()
    };
    let preflight = |server: &Running, origin: &str, headers: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", headers),
        ];
        server.client.options(RECOMMENDATIONS, &headers)
    };

    let closed = serve(&[]);
    assert_eq!(allowed(&closed, RECOMMENDATIONS, APP), "");

    let listed = serve(&[APP, "http://localhost:3000"]);
    assert_eq!(allowed(&listed, RECOMMENDATIONS, APP), APP);
    for stranger in [
        "https://app.example.evil",
        "http://app.example",
        "https://APP.example",
        "null",
    ] {
        assert_eq!(
            allowed(&listed, RECOMMENDATIONS, stranger),
            "",
            "{stranger}"
        );
    }
    assert_eq!(allowed(&listed, "/nothing", APP), "", "the API alone");
    let answer = preflight(&listed, APP, "authorization,content-type");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    let headers = answer.header("access-control-allow-headers");
    assert!(headers.contains("authorization"), "{headers}");
    assert!(!headers.contains("x-twotower-console"), "{headers}");
    assert!(!answer.header("x-request-id").is_empty());
    let refused = preflight(&listed, "https://evil.example", "authorization");
    assert_eq!(refused.header("access-control-allow-origin"), "");

    let open = serve(&["*"]);
    assert_eq!(
        allowed(&open, RECOMMENDATIONS, "https://any.example"),
        "https://any.example"
    );
    assert_eq!(allowed(&open, "/nothing", APP), "");

    // A page must be able to read refusals, or it could not tell the reason.
    let answer = listed
        .client
        .post(RECOMMENDATIONS, &[("origin", APP)], "{}");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), APP);
}
