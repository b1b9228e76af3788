//! `twotower serve`, as its clients and its metrics see it.

mod figures;

use super::Finding;
use super::exposition::samples;
use super::finding::judged;
use super::http::{Request, ask};
use super::remembered::{recall, remember};
use super::round::{Round, Scope};
use crate::config::Checks;
use figures::Figures;
use serde_json::Value;

/// What a round leaves for the next: counters only grow, and what happened lately is a difference.
const REMEMBERED: &str = "server-metrics.json";

/// A difference with fewer requests in it waits for more, so long at most.
const FEWEST_REQUESTS: f64 = 20.0;
const HOUR_US: i64 = 3_600_000_000;

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
    let mut found = Vec::new();
    if round.wants_any(&OF_READINESS) {
        found.extend(readiness(round).await);
    }
    if round.wants_any(&OF_METRICS) {
        found.extend(metrics(round).await);
    }
    found
}

async fn readiness(round: &Round<'_>) -> [Finding; 2] {
    let [check, current] = OF_READINESS;
    let Some(server) = &round.checks().server else {
        let fix = "set `server` of section [checks] to the address of `twotower serve`";
        return OF_READINESS.map(|check| Finding::skipped(check, "no server is named", fix));
    };
    let url = format!("{}/readyz", server.trim_end_matches('/'));
    let deadline = round.step();
    let answer = round
        .blocking(move || ask(&url, &Request::Get(None), deadline))
        .await;
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
    let before = match round.scope {
        Scope::Watched => recall::<Figures>(round.place, REMEMBERED),
        Scope::All => None,
    };
    let lately = now.since(before.as_ref());
    let enough = lately.requests >= FEWEST_REQUESTS;
    let old = before.is_none_or(|before| !(0..HOUR_US).contains(&(now.at_us - before.at_us)));
    if round.scope == Scope::Watched && (enough || old) {
        remember(round.place, REMEMBERED, &now);
    }
    vec![
        judge_latency(&lately, round.checks()),
        judge_errors(&lately, round.checks()),
        judge_recall(&text, round.checks()),
    ]
}

fn judge_latency(lately: &Figures, checks: &Checks) -> Finding {
    let check = "server-latency";
    let lists = lately.lists.last().map_or(0.0, |(_, count)| *count);
    let seconds = lately.quantile(0.99).filter(|_| lists >= FEWEST_REQUESTS);
    let Some(seconds) = seconds else {
        return Finding::passed(check, format!("{lists} lists: too few to tell"));
    };
    let evidence = format!(
        "99 of 100 lists are answered within {:.0} ms ({lists} lists), less than {} ms is expected",
        1000.0 * seconds,
        checks.latency_ms
    );
    let fix = "look at `Server-Timing` of an answer and at twotower_http_stage_duration_seconds for the stage that takes long: usually the database";
    judged(
        check,
        1000.0 * seconds < f64::from(checks.latency_ms),
        evidence,
        fix,
    )
}

fn judge_errors(lately: &Figures, checks: &Checks) -> Finding {
    let check = "server-errors";
    let Figures {
        requests, errors, ..
    } = lately;
    if *requests < FEWEST_REQUESTS {
        return Finding::passed(check, format!("{requests} requests: too few to tell"));
    }
    let percent = 100.0 * errors / requests;
    let evidence = format!(
        "{errors} of {requests} requests failed ({percent:.2} %), fewer than {} % should",
        checks.error_percent
    );
    let fix = "look at the server's log for lines of level ERROR and WARN: each names the request and what failed";
    judged(check, percent < checks.error_percent, evidence, fix)
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
        let verdict = |figures: &Figures| judge_latency(figures, &Checks::default()).verdict;
        assert_eq!(verdict(&figures(1000, 0, 0)), Verdict::Passed);
        assert_eq!(verdict(&figures(1000, 10, 0)), Verdict::Passed);
        assert_eq!(verdict(&figures(1000, 100, 0)), Verdict::Failed);
        assert_eq!(verdict(&figures(0, 19, 0)), Verdict::Passed);
        let half = figures(0, 100, 0).quantile(0.5).unwrap();
        assert!((half - 0.3).abs() < 1e-9, "{half}");
    }

    #[test]
    fn one_request_in_a_hundred_may_not_fail() {
        let verdict =
            |ok, failed| judge_errors(&figures(ok, 0, failed), &Checks::default()).verdict;
        assert_eq!(verdict(992, 8), Verdict::Passed);
        assert_eq!(verdict(990, 10), Verdict::Failed);
        assert_eq!(verdict(10, 9), Verdict::Passed);
    }

    #[test]
    fn what_happened_before_is_not_counted_again() {
        let (before, now) = (figures(100, 100, 50), figures(1100, 100, 50));
        let lately = now.since(Some(&before));
        assert_eq!((lately.requests, lately.errors), (1000.0, 0.0));
        assert_eq!(
            judge_latency(&lately, &Checks::default()).verdict,
            Verdict::Passed
        );
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
    }

    #[test]
    fn recall_has_a_floor() {
        let verdict = |text: &str| judge_recall(text, &Checks::default()).verdict;
        assert_eq!(verdict(&exposition(0, 0, 0)), Verdict::Passed);
        assert_eq!(verdict("twotower_recall_probe 0.5\n"), Verdict::Failed);
        assert_eq!(verdict(""), Verdict::Passed);
    }
}
