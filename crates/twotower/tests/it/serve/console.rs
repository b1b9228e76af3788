use super::client::{Answer, RECOMMENDATIONS};
use super::fixture::{Fixture, Running, user, video};
use serde_json::{Value, json};
use twotower::serve::ConsoleAccess;
use twotower::serve::auth::Config;
use twotower_store::InteractionKind::Like;
use twotower_store::NewExperiment;

const OWN: (&str, &str) = ("x-twotower-console", "1");
const JSON: (&str, &str) = ("content-type", "application/json");

/// With no key but the console's own, as the demo runs it.
fn serve(fixture: &Fixture) -> Running {
    let mut config = fixture.config();
    config.auth = Config::default();
    config.console = ConsoleAccess::Loopback;
    fixture.serve_with(config)
}

fn session(server: &Running, body: &Value) -> (String, String) {
    let answer = server
        .client
        .post("/console/session", &[OWN, JSON], &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text);
    let session = answer.json();
    let text = |name: &str| session[name].as_str().unwrap().to_owned();
    (text("user"), text("token"))
}

fn interact(server: &Running, token: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [OWN, JSON, ("authorization", authorization.as_str())];
    server
        .client
        .post("/console/interactions", &headers, &body.to_string())
}

#[test]
fn a_new_user_likes_their_way_to_a_list_of_their_own() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let (me, token) = session(&server, &json!({}));
    let (before, body) = server.client.recommended(&token, "{}");
    assert_eq!(
        (&body["source"], &body["user_id"]),
        (&json!("popular"), &json!(me))
    );
    for id in &before[..3] {
        let like = json!({"video_id": id, "kind": "like"});
        assert_eq!(
            interact(&server, &token, &like).json(),
            json!({"recorded": true})
        );
        assert_eq!(
            interact(&server, &token, &like).json(),
            json!({"recorded": false})
        );
    }
    let skip = json!({"video_id": before[3], "kind": "skip"});
    assert_eq!(interact(&server, &token, &skip).status, 200);
    let (after, body) = server.client.recommended(&token, "{}");
    assert_eq!(body["source"], "two_tower");
    assert!(before[..4].iter().all(|id| !after.contains(id)));

    let hide = json!({"video_id": after[0], "kind": "hide"});
    assert_eq!(
        interact(&server, &token, &hide).json(),
        json!({"recorded": true})
    );
    let (without, _) = server.client.recommended(&token, "{}");
    assert!(!without.contains(&after[0]));
    let show = json!({"video_id": after[0], "kind": "show"});
    assert_eq!(interact(&server, &token, &show).status, 200);
    assert_eq!(server.client.recommended(&token, "{}").0, after);

    let authorization = format!("Bearer {token}");
    let history = server
        .client
        .get("/console/history", &[("authorization", &authorization)])
        .json();
    assert_eq!(history["count"], 3);
    assert_eq!(
        history["likes"][0]["video_id"],
        json!(before[2]),
        "latest first"
    );
    let cards = server
        .client
        .get(
            &format!("/console/videos?ids={}", before[..2].join(",")),
            &[],
        )
        .json();
    assert_eq!(cards["videos"][1]["title"], "笑う門には福来たる 2");
    assert_eq!(cards["videos"][1]["tags"], json!(["classic", "朝"]));
}

#[test]
fn a_session_can_be_that_of_somebody_known() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let (who, token) = session(&server, &json!({"user": user(4)}));
    assert_eq!(who, user(4).to_string());
    assert_eq!(
        server.client.recommended(&token, "{}").1["source"],
        "two_tower"
    );
    // A user imported with an id that is not a UUID is found by that id.
    for id in ["member-76", "76"] {
        let (who, _) = session(&server, &json!({ "user": id }));
        let expected = twotower::import::id::from_text(id).unwrap();
        assert_eq!(who, expected.to_string());
    }
}

#[test]
fn wrong_requests_are_told_so() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let (_, token) = session(&server, &json!({}));
    let message = |answer: Answer| answer.error().2;
    for (body, expected) in [
        (
            json!({"video_id": video(1), "kind": "love"}),
            "`kind` must be \"like\", \"skip\", \"hide\" or \"show\"",
        ),
        (
            json!({"video_id": "1", "kind": "like"}),
            "`video_id` must be a UUID",
        ),
        (
            json!({"video_id": user(1), "kind": "like"}),
            "`video_id` names no video",
        ),
        (
            json!({"video_id": video(1), "kind": "like", "user": user(1)}),
            "unknown field `user`; known: `video_id`, `kind`",
        ),
    ] {
        assert_eq!(message(interact(&server, &token, &body)), expected);
    }
    let like = json!({"video_id": video(1), "kind": "like"});
    assert_eq!(interact(&server, "junk", &like).error().0, 401);
    for user in [json!(" "), json!(76), json!(uuid::Uuid::nil())] {
        let body = json!({ "user": user }).to_string();
        let bad_user = server.client.post("/console/session", &[OWN, JSON], &body);
        assert_eq!(
            message(bad_user),
            "`user` must be an id (a UUID, a whole number or text)"
        );
    }
    let bad_ids = server.client.get("/console/videos?ids=1,2", &[]);
    assert_eq!(bad_ids.error().0, 400);
}

#[test]
fn pages_of_other_origins_get_nothing() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let post =
        |headers: &[(&str, &str)]| server.client.post("/console/session", headers, "{}").status;
    let own = format!("http://{}", server.address);
    assert_eq!(post(&[OWN, JSON]), 200);
    assert_eq!(post(&[OWN, JSON, ("origin", &own)]), 200);
    assert_eq!(post(&[JSON, ("origin", &own)]), 403, "a plain form");
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(post(&[OWN, JSON, ("origin", origin)]), 403, "{origin}");
    }
    let rebound = [
        ("host", "evil.example"),
        OWN,
        JSON,
        ("origin", "http://evil.example"),
    ];
    assert_eq!(post(&rebound), 403, "a name made to point here");
    assert_eq!(
        server.client.get("/", &[("host", "evil.example")]).status,
        403
    );
}

/// This is what a request through a local proxy looks like that adds no headers, such as nginx by
/// default.
#[test]
fn without_its_key_the_console_is_closed() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let stranger = server.another_client();
    let told = "the console opens with the whole address";
    let wrong = [
        "/",
        "/try",
        "/model",
        "/model/report",
        "/experiment",
        "/console/videos?ids=",
        "/console/history",
        "/console/try.js",
        "/?key=",
        "/?key=0",
        // The key is accepted on the first page only.
        &server.console.as_ref().unwrap()[server.client.base.len()..].replace("/?", "/try?"),
    ];
    for path in wrong {
        let (status, code, message) = stranger.get(path, &[]).error();
        assert_eq!((status, &*code), (403, "forbidden"), "{path}");
        assert!(message.starts_with(told), "{message}");
    }
    for path in ["/console/session", "/console/interactions"] {
        let answer = stranger.post(path, &[OWN, JSON], "{}");
        assert_eq!(answer.error().0, 403, "{path}");
    }
    let of_another = serve(&fixture);
    let mut stranger = server.another_client();
    let key = of_another.console.as_ref().unwrap();
    let (_, key) = key.split_once("/?").unwrap();
    assert_eq!(stranger.get(&format!("/?{key}"), &[]).error().0, 403);
    stranger.open_console(server.console.as_ref().unwrap());
    assert_eq!(stranger.get("/", &[]).status, 200);
}

#[test]
fn on_loopback_nothing_comes_by_way_of_a_proxy() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let mut config = fixture.config();
    config.console = ConsoleAccess::AnyAddress;
    let anywhere = fixture.serve_with(config);
    for mark in [
        ("forwarded", "for=203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "203.0.113.7"),
        ("via", "1.1 proxy"),
    ] {
        let (status, _, message) = server.client.get("/", &[mark]).error();
        assert_eq!(status, 403, "{mark:?}");
        assert!(message.contains("by way of a proxy"), "{message}");
        let answer = server
            .client
            .post("/console/session", &[OWN, JSON, mark], "{}");
        assert_eq!(answer.error().0, 403, "{mark:?}");
        // A console that is open to any address allows proxies, and still requires the key.
        assert_eq!(anywhere.client.get("/", &[mark]).status, 200);
        assert_eq!(anywhere.another_client().get("/", &[mark]).status, 403);
    }
}

#[test]
fn a_session_of_another_server_does_not_count() {
    let fixture = Fixture::new();
    let (_, token) = session(&serve(&fixture), &json!({"user": user(1)}));
    let other = serve(&fixture);
    assert_eq!(other.client.recommend(&token, "{}").status, 401);
    let without_console = fixture.serve();
    assert_eq!(without_console.client.recommend(&token, "{}").status, 401);
    let answer = without_console
        .client
        .post("/console/session", &[OWN, JSON], "{}");
    assert_eq!(answer.status, 404);
}

#[test]
fn pages_hold_what_they_should_and_load_nothing_from_elsewhere() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let page = |path: &str| {
        let answer = server.client.get(path, &[]);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{policy}"
        );
        assert!(
            !answer.text.contains("style=") && !answer.text.contains("://"),
            "{path}"
        );
        answer.text
    };
    let start = page("/");
    assert!(start.contains("can act as any user"));
    assert!(start.contains("/try#new"));
    assert!(start.contains(&format!("/try#{}", user(1))) && start.contains("11 likes"));
    assert!(page("/try").contains("aria-live=\"polite\""));

    let model = page("/model");
    for part in [
        "Model version 1",
        "2024-11-19 06:50 UTC",
        "NDCG@10",
        "<svg",
        "0.09130",
        "two-tower",
    ] {
        assert!(model.contains(part), "{part}: {model}");
    }
    assert!(!model.contains("/model/report"));
    assert_eq!(server.client.get("/model/report", &[]).status, 404);
    let report = fixture.models().join("1").join("report.html");
    std::fs::write(report, "<h1>Report</h1>").unwrap();
    let answer = server.client.get("/model/report", &[]);
    assert_eq!(answer.text, "<h1>Report</h1>");
    assert!(
        !answer
            .header("content-security-policy")
            .contains("script-src")
    );
    assert!(page("/model").contains("/model/report"));

    let assets = [
        "/console/console.css",
        "/console/try.js",
        "/console/icon.svg",
    ];
    let bytes: usize = assets
        .iter()
        .map(|path| server.client.get(path, &[]).text.len())
        .sum();
    assert!(bytes + page("/try").len() < 50_000, "{bytes}");
}

#[test]
fn an_empty_database_has_pages_too() {
    let fixture = Fixture::without_model();
    let server = serve(&fixture);
    assert!(
        server
            .client
            .get("/", &[])
            .text
            .contains("no trained model yet")
    );
    assert!(
        server
            .client
            .get("/model", &[])
            .text
            .contains("twotower train")
    );
}

#[test]
fn the_console_does_not_loosen_the_api() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    fixture.interact(Like, user(900), &[video(1)]);
    let headers = [OWN, JSON];
    assert_eq!(
        server.client.post(RECOMMENDATIONS, &headers, "{}").status,
        401
    );
    assert_eq!(server.client.get("/console/history", &headers).status, 401);
}

#[test]
fn the_experiment_page_shows_what_there_is() {
    let fixture = Fixture::new();
    let server = serve(&fixture);
    let page = server.client.get("/experiment", &[]);
    assert_eq!(page.status, 200);
    assert!(page.text.contains("twotower experiment start"));
    let challenger = fixture.train(2);
    let new = NewExperiment {
        control: challenger - 1,
        challenger,
        share: 0.5,
        by: "ann".into(),
        reason: "<b>new</b>".into(),
    };
    let started = fixture.store.start_experiment(&new);
    fixture.runtime.block_on(started).unwrap();
    let page = server.client.get("/experiment", &[]).text;
    for part in [
        "Experiment 1",
        "&lt;b&gt;new&lt;/b&gt;",
        "click-through rate",
        "too little to tell anything yet",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
