use super::*;
use crate::config::Config;
use crate::operations::Place;
use crate::operations::check::Verdict;
use crate::serve::CATALOGUE;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use twotower_core::time::{HOUR_US, MINUTE_US};

fn exposition(fast: u32, slow: u32, failed: u32) -> String {
    let series = |suffix: &str, rest: &str, value: u32| {
        format!(
            "twotower_http_request_duration_seconds_{suffix}{{route=\"{RECOMMENDATIONS}\",{rest}}} {value}\n"
        )
    };
    [
        series("bucket", "status=\"200\",le=\"0.1\"", fast),
        series("bucket", "status=\"200\",le=\"0.5\"", fast + slow),
        series("bucket", "status=\"200\",le=\"+Inf\"", fast + slow),
        series("count", "status=\"200\"", fast + slow),
        series("count", "status=\"503\"", failed),
        "twotower_http_request_duration_seconds_count{route=\"/readyz\",status=\"503\"} 1000\n"
            .into(),
        "twotower_recall_probe 0.95\n".into(),
    ]
    .concat()
}

fn figures(fast: u32, slow: u32, failed: u32) -> Figures {
    Figures::read(&exposition(fast, slow, failed), 0)
}

fn latency(figures: &Figures, old: bool) -> Verdict {
    let figures = figures.clone();
    judge_latency(&Increase { figures, old }, &Checks::default()).verdict
}

fn errors(figures: &Figures, old: bool) -> Verdict {
    let figures = figures.clone();
    judge_errors(&Increase { figures, old }, &Checks::default()).verdict
}

#[test]
fn the_metrics_asked_for_exist() {
    for series in [DURATION_BUCKET, DURATION_COUNT, RECALL] {
        let name = series
            .trim_end_matches("_bucket")
            .trim_end_matches("_count");
        assert!(CATALOGUE.iter().any(|metric| metric.name == name), "{name}");
    }
}

#[test]
fn the_slowest_of_a_hundred_counts() {
    let verdict = |fast, slow| latency(&figures(fast, slow, 0), false);
    assert_eq!(verdict(1000, 0), Verdict::Passed);
    assert_eq!(verdict(1000, 10), Verdict::Passed);
    assert_eq!(verdict(1000, 100), Verdict::Failed);
    let half = figures(0, 100, 0).quantile(0.5).unwrap();
    assert!((half - 0.3).abs() < 1e-9, "{half}");
}

#[test]
fn one_request_in_a_hundred_may_not_fail() {
    let verdict = |ok, failed| errors(&figures(ok, 0, failed), false);
    assert_eq!(verdict(992, 8), Verdict::Passed);
    assert_eq!(verdict(990, 10), Verdict::Failed);
    assert_eq!(verdict(0, 20), Verdict::Failed);
}

#[test]
fn too_few_to_tell_by_begin_and_end_no_alert() {
    for few in [figures(0, 0, 0), figures(19, 0, 0), figures(0, 19, 0)] {
        assert_eq!(latency(&few, false), Verdict::Skipped);
        assert_eq!(errors(&few, false), Verdict::Skipped);
    }
    // After an hour of good samples, or of none.
    assert_eq!(latency(&figures(19, 0, 0), true), Verdict::Passed);
    assert_eq!(latency(&figures(0, 0, 0), true), Verdict::Passed);
    assert_eq!(latency(&figures(0, 0, 19), true), Verdict::Passed);
    assert_eq!(errors(&figures(0, 19, 0), true), Verdict::Passed);
    assert_eq!(errors(&figures(0, 0, 0), true), Verdict::Passed);
    // Few, but slow or failing.
    assert_eq!(latency(&figures(0, 19, 0), true), Verdict::Skipped);
    assert_eq!(errors(&figures(0, 0, 19), true), Verdict::Skipped);
}

/// Every five minutes five slow lists, and twenty requests that fail.
#[test]
fn lists_and_requests_are_gathered_until_there_are_enough_of_each() {
    let at = |look: u32| {
        let text = exposition(0, 5 * look, 20 * look);
        Figures::read(&text, i64::from(look) * 300_000_000)
    };
    let first = Recent::since(None, &at(0));
    let next = |begun: Option<Windows>, recent: &Recent, now: &Figures| {
        Windows::next(begun, recent, now, Checks::default().latency_ms)
    };
    let mut begun = next(None, &first, &at(0));
    let mut found = Vec::new();
    for look in 1..=8 {
        let now = at(look);
        let recent = Recent::since(Some(&begun), &now);
        let Recent { lists, requests } = &recent;
        assert_eq!(errors(&requests.figures, requests.old), Verdict::Failed);
        assert!(requests.figures.requests <= 25.0, "{requests:?}");
        found.push(latency(&lists.figures, lists.old));
        begun = next(Some(begun), &recent, &now);
    }
    let told = [Verdict::Skipped; 3].into_iter().chain([Verdict::Failed]);
    let told: Vec<_> = told.cycle().take(8).collect();
    assert_eq!(found, told);
    // After an hour, or if the clock was set back, a window with good samples starts over; one with
    // bad samples is kept until there are enough.
    let (passed, skipped, failed) = (Verdict::Passed, Verdict::Skipped, Verdict::Failed);
    for (fast, slow, errors_so_far, of_lists, of_requests) in [
        (0, 40, 160, passed, passed),
        (1, 40, 160, passed, passed),
        (0, 41, 160, skipped, passed),
        (1, 40, 161, passed, skipped),
        (0, 41, 161, skipped, skipped),
        (0, 59, 160, skipped, passed),
        (0, 60, 161, failed, failed),
    ] {
        for at_us in [8 * 5 * MINUTE_US + HOUR_US, 0] {
            let now = Figures::read(&exposition(fast, slow, errors_so_far), at_us);
            let recent = Recent::since(Some(&begun), &now);
            let Recent { lists, requests } = &recent;
            assert!(lists.old && requests.old);
            assert_eq!(latency(&lists.figures, true), of_lists, "{now:?}");
            assert_eq!(errors(&requests.figures, true), of_requests, "{now:?}");
            let after = next(Some(begun.clone()), &recent, &now);
            let begins = |verdict: Verdict, before: &Figures| {
                let kept = verdict == skipped;
                if kept { before.clone() } else { now.clone() }
            };
            assert_eq!(after.lists, begins(of_lists, &begun.lists));
            assert_eq!(after.requests, begins(of_requests, &begun.requests));
        }
    }
}

#[test]
fn what_happened_before_is_not_counted_again() {
    let (before, now) = (figures(100, 100, 50), figures(1100, 100, 50));
    let increase = now.since(Some(&before));
    assert_eq!((increase.requests, increase.errors), (1000.0, 0.0));
    assert_eq!(latency(&increase, false), Verdict::Passed);
    // The server was restarted.
    assert_eq!(before.since(Some(&now)), before);
}

#[test]
fn readiness_gives_its_reasons() {
    let body = r#"{"ready":false,"model_version":null,"checks":[{"name":"model","ok":false,"reason":"train one"},{"name":"keys","ok":true}]}"#;
    let said = |status, body| judge_readiness(status, body).map(|it| (it.verdict, it.evidence));
    let not_ready = (Verdict::Skipped, "the server is not ready".to_owned());
    assert_eq!(
        said(503, body),
        [
            (Verdict::Failed, "not ready: train one".into()),
            not_ready.clone()
        ]
    );
    assert_eq!(
        said(200, r#"{"ready":true,"model_version":3,"checks":[]}"#),
        [
            (Verdict::Passed, "ready, version 3 answers".into()),
            (Verdict::Passed, "version 3 answers".into())
        ]
    );
    let behind = r#"{"ready":true,"model_version":3,"checks":[{"name":"database","ok":true},{"name":"model","ok":false,"reason":"fetch it"}]}"#;
    assert_eq!(
        said(200, behind),
        [
            (Verdict::Passed, "ready, version 3 answers".into()),
            (Verdict::Failed, "version 3 answers, but: fetch it".into())
        ]
    );
    let [ready, current] = said(200, "hello");
    assert_eq!((ready.0, current), (Verdict::Failed, not_ready));
    // A missing version is not a late answer: the next try would find the same.
    assert!(
        ![body, behind, "hello"]
            .iter()
            .any(|body| may_have_been_late(body))
    );
    let late = behind.replace("true},", "false,\"reason\":\"it is late\"},");
    assert!(may_have_been_late(&late), "{late}");
    let away = late.replace("\"ready\":true", "\"ready\":false");
    assert!(!may_have_been_late(&away), "{away}");
}

/// The time limit of the round ends while the server retries.
#[tokio::test]
async fn a_look_without_an_answer_takes_none_back() {
    let body = r#"{"ready":true,"model_version":3,"checks":[{"name":"database","ok":false,"reason":"it is late"}]}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Answers once and exits.
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines();
        let asked = lines
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty());
        assert!(asked.count() > 0);
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        (&stream).write_all(answer.as_bytes()).unwrap();
    });
    let checks = Checks {
        server: Some(format!("http://{address}")),
        ..Checks::default()
    };
    let place = Place {
        db_url: String::new(),
        config_file: None,
        config: Config {
            checks,
            ..Config::default()
        },
    };
    let round = Round::new(&place, Scope::Watched, OF_READINESS.to_vec());
    let found = readiness(&round).await;
    server.join().unwrap();
    assert_eq!(
        found.map(|it| (it.verdict, it.evidence)),
        [
            (Verdict::Passed, "ready, version 3 answers".into()),
            (Verdict::Failed, "version 3 answers, but: it is late".into())
        ]
    );
}

#[test]
fn recall_has_a_floor() {
    let verdict = |text: &str| judge_recall(text, &Checks::default()).verdict;
    assert_eq!(verdict(&exposition(0, 0, 0)), Verdict::Passed);
    assert_eq!(verdict("twotower_recall_probe 0.5\n"), Verdict::Failed);
    assert_eq!(verdict(""), Verdict::Passed);
}
