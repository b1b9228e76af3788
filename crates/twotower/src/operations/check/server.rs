//! `twotower serve`, as its clients and its metrics see it.

mod figures;

use super::Finding;
use super::exposition::samples;
use super::finding::judged;
use super::http::{Request, ask};
use super::remembered::{recall, remember};
use super::round::{Round, Scope};
use crate::config::Checks;
use figures::{Figures, Lately, Windows};
use serde_json::Value;
use std::time::Duration;

/// What a round leaves for the next: counters only grow, and what happened lately is a difference.
const REMEMBERED: &str = "server-metrics.json";

/// Of fewer lists or requests nobody can tell whether they are slow, or fail, more often than they should.
const FEWEST: f64 = 20.0;

/// Between two looks at a server that says that the database does not answer, and how many there are: one answer of the database that comes
/// later than readiness waits is no outage. Both pauses together are longer than a look of the server's own takes by default.
const PAUSE: Duration = Duration::from_millis(1500);
const LOOKS: u32 = 3;

const DURATION_BUCKET: &str = "twotower_http_request_duration_seconds_bucket";
const DURATION_COUNT: &str = "twotower_http_request_duration_seconds_count";
const RECALL: &str = "twotower_recall_probe";

/// The address that latency is about; also the path of the Edge Function.
pub(super) const RECOMMENDATIONS: &str = "/functions/v1/two_tower_recommendations";
/// What applications ask: health, metrics and pages are not among it.
const API: &str = "/functions/";

const OF_READINESS: [&str; 2] = ["server-ready", "server-current"];
const OF_METRICS: [&str; 3] = ["server-latency", "server-errors", "server-recall"];

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    let of_readiness = async {
        if round.wants_any(&OF_READINESS) {
            readiness(round).await.into()
        } else {
            Vec::new()
        }
    };
    let of_metrics = async {
        if round.wants_any(&OF_METRICS) {
            metrics(round).await
        } else {
            Vec::new()
        }
    };
    // Beside each other: where the database is away the first takes seconds.
    let (mut found, rest) = tokio::join!(of_readiness, of_metrics);
    found.extend(rest);
    found
}

async fn readiness(round: &Round<'_>) -> [Finding; 2] {
    let [check, current] = OF_READINESS;
    let Some(server) = &round.checks().server else {
        let fix = "set `server` of section [checks] to the address of `twotower serve`";
        return OF_READINESS.map(|check| Finding::skipped(check, "no server is named", fix));
    };
    let url = format!("{}/readyz", server.trim_end_matches('/'));
    let look = async || {
        let (url, deadline) = (url.clone(), round.step());
        round
            .blocking(move || ask(&url, &Request::Get(None), deadline))
            .await
    };
    let mut answer = look().await;
    for _ in 1..LOOKS {
        let late = matches!(&answer, Ok(Ok(answer)) if may_have_been_late(&answer.body));
        if !late || round.step() <= PAUSE {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        answer = look().await;
    }
    let start = "start `twotower serve` (`systemctl start twotower-serve`), and look at its log";
    let why = match answer {
        Ok(Ok(answer)) => return judge_readiness(answer.status, &answer.body),
        Ok(Err(error)) => format!("{server} does not answer: {error}"),
        Err(_) => format!("{server} does not answer in time"),
    };
    [
        Finding::failed(check, why, start),
        Finding::skipped(current, "the server is not ready", "see server-ready"),
    ]
}

/// Whether a server that answers requests says that something is wrong with the database, which the next look may find otherwise.
fn may_have_been_late(body: &str) -> bool {
    let readiness = serde_json::from_str::<Value>(body).unwrap_or_default();
    let checks = readiness["checks"].as_array();
    let database = checks
        .into_iter()
        .flatten()
        .find(|check| check["name"] == "database");
    readiness["ready"] == true && database.is_some_and(|database| database["ok"] == false)
}

/// `/readyz` gives a reason and a remedy for each thing that is not well. A server that answers all the same is ready; whoever restarts
/// servers that are not must leave that one alone, since another may not come up.
fn judge_readiness(status: u16, body: &str) -> [Finding; 2] {
    let [check, current] = OF_READINESS;
    let readiness = serde_json::from_str::<Value>(body).unwrap_or_default();
    let version = readiness["model_version"]
        .as_i64()
        .map_or("no model".to_owned(), |version| {
            format!("version {version}")
        });
    let reasons: Vec<&str> = readiness["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|check| check["reason"].as_str())
        .collect();
    let reasons = (!reasons.is_empty()).then(|| reasons.join("; "));
    let remedy = "do what the reason says";
    if status == 200 && readiness["ready"] == true {
        return [
            Finding::passed(check, format!("ready, {version} answers")),
            match reasons {
                None => Finding::passed(current, format!("{version} answers")),
                Some(reasons) => {
                    let evidence = format!("{version} answers, but: {reasons}");
                    Finding::failed(current, evidence, remedy)
                }
            },
        ];
    }
    [
        match reasons {
            None => {
                let evidence = format!("answers {status}, and not as `twotower serve` does");
                Finding::failed(check, evidence, "correct `server` of section [checks]")
            }
            Some(reasons) => Finding::failed(check, format!("not ready: {reasons}"), remedy),
        },
        Finding::skipped(current, "the server is not ready", "see server-ready"),
    ]
}

async fn metrics(round: &Round<'_>) -> Vec<Finding> {
    let Some(url) = round.checks().server_metrics.clone() else {
        let fix = "start the server with --metrics-listen 127.0.0.1:9464, and set `server_metrics` of section [checks] to \
                   http://127.0.0.1:9464/metrics";
        return OF_METRICS
            .map(|check| Finding::skipped(check, "no metrics are named", fix))
            .into();
    };
    let deadline = round.step();
    let unseen = |why: String| {
        OF_METRICS
            .map(|check| Finding::skipped(check, format!("the metrics {why}"), "see server-ready"))
            .into()
    };
    let answer = round
        .blocking(move || ask(&url, &Request::Get(None), deadline))
        .await;
    let text = match answer {
        Ok(Ok(answer)) if answer.status == 200 => answer.body,
        Ok(Ok(answer)) => return unseen(format!("answer with status {}", answer.status)),
        Ok(Err(error)) => return unseen(format!("do not answer: {error}")),
        Err(_) => return unseen("do not answer in time".into()),
    };
    let now = Figures::read(&text, round.now_us);
    let begun = match round.scope {
        Scope::Watched => recall::<Windows>(round.place, REMEMBERED),
        Scope::All => None,
    };
    let lists = Lately::since(begun.as_ref().map(|begun| &begun.lists), &now);
    let requests = Lately::since(begun.as_ref().map(|begun| &begun.requests), &now);
    let found = vec![
        judge_latency(&lists, round.checks()),
        judge_errors(&requests, round.checks()),
        judge_recall(&text, round.checks()),
    ];
    if round.scope == Scope::Watched {
        let next = Windows::next(begun, (&lists, &requests), &now);
        remember(round.place, REMEMBERED, &next);
    }
    found
}

fn judge_latency(lately: &Lately, checks: &Checks) -> Finding {
    let check = "server-latency";
    let lists = lately.figures.counted_lists();
    let seconds = lately.figures.quantile(0.99).unwrap_or(0.0);
    let fast = 1000.0 * seconds < f64::from(checks.latency_ms);
    if !lately.enough_lists() {
        return too_few(check, &format!("{lists} lists"), lately, fast);
    }
    let evidence = format!(
        "99 of 100 lists are answered within {:.0} ms ({lists} lists), less than {} ms is expected",
        1000.0 * seconds,
        checks.latency_ms
    );
    let fix = "look at `Server-Timing` of an answer and at twotower_http_stage_duration_seconds for the stage that takes long: usually the database";
    judged(check, fast, evidence, fix)
}

fn judge_errors(lately: &Lately, checks: &Checks) -> Finding {
    let check = "server-errors";
    let Figures {
        requests, errors, ..
    } = lately.figures;
    if !lately.enough_requests() {
        let evidence = format!("{requests} requests, {errors} of them failed");
        return too_few(check, &evidence, lately, errors <= 0.0);
    }
    let percent = 100.0 * errors / requests;
    let evidence = format!(
        "{errors} of {requests} requests failed ({percent:.2} %), fewer than {} % should",
        checks.error_percent
    );
    let fix = "look at the server's log for lines of level ERROR and WARN: each names the request and what failed";
    judged(check, percent < checks.error_percent, evidence, fix)
}

/// Too little to tell by, so that what was wrong before stays so: an alert is not over because people have gone. Once that has gone on for an
/// hour, with nothing amiss in what there was, all counts as well.
fn too_few(check: &'static str, seen: &str, lately: &Lately, well: bool) -> Finding {
    let evidence = format!("{seen}: too few to tell");
    if lately.old && well {
        Finding::passed(check, evidence)
    } else {
        Finding::skipped(check, evidence, "")
    }
}

fn judge_recall(text: &str, checks: &Checks) -> Finding {
    let check = "server-recall";
    let recall = samples(text)
        .find(|sample| sample.name == RECALL)
        .map(|sample| sample.value);
    let Some(recall) = recall.filter(|recall| recall.is_finite()) else {
        return Finding::passed(check, "no request has been probed yet");
    };
    let evidence = format!(
        "{:.1} % of the exact top ten are found, at least {:.0} % should be",
        100.0 * recall,
        100.0 * checks.recall
    );
    judged(
        check,
        recall >= checks.recall,
        evidence,
        "restart the server, so that it builds its index anew; report it with `twotower doctor --bundle`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;
    use crate::serve::CATALOGUE;

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
        judge_latency(&Lately { figures, old }, &Checks::default()).verdict
    }

    fn errors(figures: &Figures, old: bool) -> Verdict {
        let figures = figures.clone();
        judge_errors(&Lately { figures, old }, &Checks::default()).verdict
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
        // For an hour, in which what there was went well, or there was nothing.
        assert_eq!(latency(&figures(19, 0, 0), true), Verdict::Passed);
        assert_eq!(latency(&figures(0, 0, 0), true), Verdict::Passed);
        assert_eq!(latency(&figures(0, 0, 19), true), Verdict::Passed);
        assert_eq!(errors(&figures(0, 19, 0), true), Verdict::Passed);
        assert_eq!(errors(&figures(0, 0, 0), true), Verdict::Passed);
        // Few as they are, they are slow, or fail.
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
        let first = Lately::since(None, &at(0));
        let mut begun = Windows::next(None, (&first, &first), &at(0));
        let mut found = Vec::new();
        for look in 1..=8 {
            let now = at(look);
            let lists = Lately::since(Some(&begun.lists), &now);
            let requests = Lately::since(Some(&begun.requests), &now);
            assert_eq!(errors(&requests.figures, requests.old), Verdict::Failed);
            assert!(requests.figures.requests <= 25.0, "{requests:?}");
            found.push(latency(&lists.figures, lists.old));
            begun = Windows::next(Some(begun), (&lists, &requests), &now);
        }
        let told = [Verdict::Skipped; 3].into_iter().chain([Verdict::Failed]);
        let told: Vec<_> = told.cycle().take(8).collect();
        assert_eq!(found, told);
        // An hour later it begins anew, whatever there was; so it does where the clock was set back.
        let hours = Figures::read(&exposition(0, 41, 161), 8 * 300_000_000 + 3_600_000_000);
        let lists = Lately::since(Some(&begun.lists), &hours);
        assert!(lists.old && !lists.enough_lists());
        assert_eq!(
            Windows::next(Some(begun.clone()), (&lists, &lists), &hours).lists,
            hours
        );
        assert!(Lately::since(Some(&hours), &begun.lists).old);
    }

    #[test]
    fn what_happened_before_is_not_counted_again() {
        let (before, now) = (figures(100, 100, 50), figures(1100, 100, 50));
        let lately = now.since(Some(&before));
        assert_eq!((lately.requests, lately.errors), (1000.0, 0.0));
        assert_eq!(latency(&lately, false), Verdict::Passed);
        // Started anew.
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
        // A version that is missing is missing a second later, too.
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

    #[test]
    fn recall_has_a_floor() {
        let verdict = |text: &str| judge_recall(text, &Checks::default()).verdict;
        assert_eq!(verdict(&exposition(0, 0, 0)), Verdict::Passed);
        assert_eq!(verdict("twotower_recall_probe 0.5\n"), Verdict::Failed);
        assert_eq!(verdict(""), Verdict::Passed);
    }
}
