//! `twotower serve`, as its clients and its metrics see it.

mod figures;

use super::Finding;
use super::exposition::samples;
use super::finding::judged;
use super::http::{Request, ask};
use super::remembered::{recall, remember};
use super::round::{Round, Scope};
use crate::config::Checks;
use figures::{Figures, Increase, Recent, Windows};
use serde_json::Value;
use std::time::Duration;

/// Counters that a round leaves for the next, which uses the difference.
const REMEMBERED: &str = "server-metrics.json";

/// Fewer lists or requests are too few to judge latency or errors by.
const FEWEST: f64 = 20.0;

/// Pause between tries when the server reports that the database does not answer, and their number:
/// a single answer that arrives later than the readiness limit is no outage. Both pauses together
/// exceed the default time limit of the server's own database check.
const PAUSE: Duration = Duration::from_millis(1500);
const TRIES: u32 = 3;

const DURATION_BUCKET: &str = "twotower_http_request_duration_seconds_bucket";
const DURATION_COUNT: &str = "twotower_http_request_duration_seconds_count";
const RECALL: &str = "twotower_recall_probe";

/// The endpoint whose latency is judged; also the path of the Edge Function.
pub(super) const RECOMMENDATIONS: &str = "/functions/v1/two_tower_recommendations";
/// Prefix of the API; health, metrics and the console are not counted.
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
    // Concurrently: while the database is away the first takes seconds.
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
    for _ in 1..TRIES {
        let late = matches!(&answer, Ok(Ok(answer)) if may_have_been_late(&answer.body));
        if !late || round.step() <= PAUSE {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let again = look().await;
        // A retry without an answer, perhaps because time was up, changes nothing: the server
        // answered before.
        if !matches!(again, Ok(Ok(_))) {
            break;
        }
        answer = again;
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

/// Whether the server answers requests but reports a fault of the database, which may be gone at
/// the next try.
fn may_have_been_late(body: &str) -> bool {
    let readiness = serde_json::from_str::<Value>(body).unwrap_or_default();
    let checks = readiness["checks"].as_array();
    let database = checks
        .into_iter()
        .flatten()
        .find(|check| check["name"] == "database");
    readiness["ready"] == true && database.is_some_and(|database| database["ok"] == false)
}

/// `/readyz` gives a reason and a remedy for each fault. A server that still answers requests is
/// ready despite faults: a supervisor must not restart it then, since the new process might fail to
/// start.
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
    let recent = Recent::since(begun.as_ref(), &now);
    let found = vec![
        judge_latency(&recent.lists, round.checks()),
        judge_errors(&recent.requests, round.checks()),
        judge_recall(&text, round.checks()),
    ];
    if round.scope == Scope::Watched {
        let next = Windows::next(begun, &recent, &now, round.checks().latency_ms);
        remember(round.place, REMEMBERED, &next);
    }
    found
}

fn judge_latency(increase: &Increase, checks: &Checks) -> Finding {
    let check = "server-latency";
    let lists = increase.figures.counted_lists();
    let fast = increase.lists_are_fast(checks.latency_ms);
    if !increase.enough_lists() {
        return too_few(check, &format!("{lists} lists"), increase, fast);
    }
    let evidence = format!(
        "99 of 100 lists are answered within {:.0} ms ({lists} lists), less than {} ms is expected",
        increase.lists_ms(),
        checks.latency_ms
    );
    let fix = "look at `Server-Timing` of an answer and at twotower_http_stage_duration_seconds for the stage that takes long: usually the database";
    judged(check, fast, evidence, fix)
}

fn judge_errors(increase: &Increase, checks: &Checks) -> Finding {
    let check = "server-errors";
    let Figures {
        requests, errors, ..
    } = increase.figures;
    if !increase.enough_requests() {
        let evidence = format!("{requests} requests, {errors} of them failed");
        return too_few(check, &evidence, increase, increase.is_free_of_errors());
    }
    let percent = 100.0 * errors / requests;
    let evidence = format!(
        "{errors} of {requests} requests failed ({percent:.2} %), fewer than {} % should",
        checks.error_percent
    );
    let fix = "look at the server's log for lines of level ERROR and WARN: each names the request and what failed";
    judged(check, percent < checks.error_percent, evidence, fix)
}

/// With too few samples the check is skipped, so that an alert is not resolved only because there
/// is no traffic. After an hour of few but good samples it passes; after bad ones it stays skipped
/// until there are enough.
fn too_few(check: &'static str, seen: &str, increase: &Increase, well: bool) -> Finding {
    let evidence = format!("{seen}: too few to tell");
    if increase.old && well {
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
mod tests;
