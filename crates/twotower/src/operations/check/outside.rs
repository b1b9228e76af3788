//! What is reachable from outside: the bucket of models, and the Edge Function.

use super::http::{Answer, Request, ask};
use super::round::{Round, Scope};
use super::server::RECOMMENDATIONS;
use super::{Finding, Verdict};
use crate::config::Storage;
use serde_json::Value;
use std::fs;
use std::time::Duration;
use twotower_store::model_storage::{Address, ModelStorage, StorageError, StorageSettings};
use url::{Host, Url};

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    // At the same time: neither may use up the round's time and make the other look unreachable.
    let bucket = async {
        if round.wants("bucket-private") {
            Some(bucket(round).await)
        } else {
            None
        }
    };
    let function = async {
        if round.wants(EDGE_FUNCTION) {
            Some(edge_function(round).await)
        } else {
            None
        }
    };
    let (bucket, function) = tokio::join!(Box::pin(bucket), Box::pin(function));
    bucket.into_iter().chain(function).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn settings(
    storage: &Storage,
    url: &str,
    deadline: Duration,
) -> Result<StorageSettings, StorageError> {
    Ok(StorageSettings {
        address: Address::parse(url)?,
        endpoint: variable("AWS_ENDPOINT_URL").or_else(|| storage.endpoint.clone()),
        region: variable("AWS_REGION").or_else(|| storage.region.clone()),
        supabase_url: variable("SUPABASE_URL").or_else(|| storage.supabase_url.clone()),
        deadline,
    })
}

async fn bucket(round: &Round<'_>) -> Finding {
    let check = "bucket-private";
    let storage = &round.place.config.storage;
    let Some(url) = &storage.url else {
        return Finding::skipped(check, "no storage is configured", "");
    };
    let opened = settings(storage, url, round.step())
        .and_then(|settings| ModelStorage::open(&settings, variable));
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return Finding::skipped(
                check,
                error.to_string(),
                "correct section [storage], or the environment",
            );
        }
    };
    match round.within(opened.check_privacy()).await {
        Ok(Ok(true)) => Finding::passed(
            check,
            format!("{} refuses who has no credentials", opened.name()),
        ),
        Ok(Ok(false)) => Finding::skipped(
            check,
            "the storage is a folder, which strangers do not reach",
            "",
        ),
        Ok(Err(error @ (StorageError::Public { .. } | StorageError::PublicBucket { .. }))) => {
            Finding::failed(
                check,
                error.to_string(),
                "make the bucket private, then train and publish a new version: what was read cannot be taken back",
            )
        }
        Ok(Err(error)) => {
            Finding::skipped(check, error.to_string(), "try `twotower publish --dry-run`")
        }
        Err(_) => Finding::skipped(
            check,
            format!("{} does not answer in time", opened.name()),
            "",
        ),
    }
}

const EDGE_FUNCTION: &str = "edge-function";
const DEPLOY: &str = "supabase functions deploy two_tower_recommendations";

/// Names a file with the access token of a user made for this purpose.
const PROBE_TOKEN_FILE: &str = "TWOTOWER_PROBE_TOKEN_FILE";

/// Tries while no answer comes or the answer may be a passing fault: the first request after a while
/// is a cold start and takes longer, and gateways answer 502 or 503 for a moment.
const TRIES: u32 = 2;

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// No request is sent with less time than this left: it would be cut off and look like an outage.
const LEAST_TIME: Duration = Duration::from_secs(2);

async fn edge_function(round: &Round<'_>) -> Finding {
    let project =
        variable("SUPABASE_URL").or_else(|| round.place.config.storage.supabase_url.clone());
    match project {
        Some(project) => function_of(round, &project, variable(PROBE_TOKEN_FILE)).await,
        None => Finding::skipped(
            EDGE_FUNCTION,
            "no Supabase project is known",
            "set SUPABASE_URL if there is one",
        ),
    }
}

async fn function_of(round: &Round<'_>, project: &str, token_file: Option<String>) -> Finding {
    let check = EDGE_FUNCTION;
    let url = format!("{}{RECOMMENDATIONS}", project.trim_end_matches('/'));
    let bound_ms = round.checks().latency_ms;
    let stranger = match post(round, &url, "{}", None).await {
        // Models may be kept in a project whose users ask a server, or SQL functions: neither needs
        // the Edge Function.
        Some(Ok(answer))
            if answer.status == 404 && round.checks().server.is_some() && token_file.is_none() =>
        {
            let why = "is not deployed; `server` of section [checks] says that a server answers";
            return Finding::skipped(check, why, "");
        }
        Some(Ok(answer))
            if answer.status == 404 && round.scope == Scope::Watched && token_file.is_none() =>
        {
            let why = "no function is deployed";
            let fix = format!(
                "if there should be one, set {PROBE_TOKEN_FILE}: its absence is an alert then"
            );
            return Finding::skipped(check, why, fix);
        }
        Some(Ok(answer)) => judge(answer.status, answer.took, bound_ms),
        Some(Err(why)) => Finding::failed(check, why, DEPLOY),
        None => return Finding::skipped(check, "not looked at: too little time was left", ""),
    };
    let Some(file) = token_file.filter(|_| stranger.verdict != Verdict::Failed) else {
        return stranger;
    };
    let authorization = match read_token(&file, &url) {
        Ok(token) => format!("Bearer {token}"),
        Err(why) => {
            let fix =
                "put the access token of a user made for this purpose there, or unset the variable";
            return Finding::failed(check, format!("{PROBE_TOKEN_FILE}: {why}"), fix);
        }
    };
    match post(round, &url, "{\"limit\":10}", Some(authorization)).await {
        Some(Ok(answer)) => judge_list(&answer, bound_ms),
        Some(Err(why)) => Finding::failed(check, format!("{why} to who has a token"), LOOK_AT_LOG),
        None => stranger,
    }
}

/// The last try's answer, or why there is none; `None` if too little time is left to ask at all.
async fn post(
    round: &Round<'_>,
    url: &str,
    body: &'static str,
    authorization: Option<String>,
) -> Option<Result<Answer, String>> {
    let request = Request::Post(body, authorization);
    let mut last = None;
    for n in 0..TRIES {
        if n > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let deadline = round.step();
        if deadline < LEAST_TIME {
            break;
        }
        let (url, request) = (url.to_owned(), request.clone());
        let asked = round.blocking(move || ask(&url, &request, deadline)).await;
        let outcome = match asked {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("does not answer: {error}")),
            Err(_) => Err("does not answer in time".into()),
        };
        let is_final =
            |answer: &Answer| answer.status < 500 && list_of(&answer.body) != Some(List::Partial);
        let is_done = outcome.as_ref().is_ok_and(is_final);
        last = Some(outcome);
        if is_done {
            break;
        }
    }
    last
}

/// What the body of an answer says of its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Whole,
    /// Made earlier, since the database did not answer the function in time.
    Partial,
}

/// `None` if the body holds no list.
fn list_of(body: &str) -> Option<List> {
    let body = serde_json::from_str::<Value>(body).ok()?;
    body["recommendations"].as_array()?;
    Some(if body["partial"].as_bool()? {
        List::Partial
    } else {
        List::Whole
    })
}

/// The token in a file. It is sent over encrypted connections, and to this machine.
fn read_token(file: &str, url: &str) -> Result<String, &'static str> {
    let url = Url::parse(url).map_err(|_| "SUPABASE_URL is no address")?;
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() != "https" && !is_local {
        return Err("a token is not sent without encryption: SUPABASE_URL has to begin with https");
    }
    let text = fs::read_to_string(file).map_err(|_| "the file cannot be read")?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the file holds no token");
    }
    Ok(token.to_owned())
}

const LOOK_AT_LOG: &str =
    "look at its log: dashboard, Edge Functions, two_tower_recommendations, Logs";

/// Without a token the function must refuse, and quickly.
fn judge(status: u16, took: Duration, bound_ms: u32) -> Finding {
    let check = EDGE_FUNCTION;
    let ms = took.as_millis();
    match status {
        401 if ms < u128::from(bound_ms) => {
            Finding::passed(check, format!("refuses who has no token, within {ms} ms"))
        }
        401 => {
            let evidence = format!(
                "refuses who has no token, but after {ms} ms; less than {bound_ms} ms is expected"
            );
            Finding::warned(
                check,
                evidence,
                "ask again: the first request after a while starts the function; look at its log for `timing`",
            )
        }
        404 => Finding::failed(
            check,
            "is not deployed",
            format!("{DEPLOY}; where `twotower serve` answers, set `server` of section [checks]"),
        ),
        200..300 => {
            let evidence = format!("answers {status} to who has no token");
            let fix = format!("deploy the function of this version: {DEPLOY}");
            Finding::failed(check, evidence, fix)
        }
        status => Finding::failed(
            check,
            format!("answers {status} to who has no token, where 401 is expected"),
            LOOK_AT_LOG,
        ),
    }
}

/// With a token it must answer with a list that it read from the database, as users expect.
fn judge_list(answer: &Answer, bound_ms: u32) -> Finding {
    let check = EDGE_FUNCTION;
    let ms = answer.took.as_millis();
    match (answer.status, list_of(&answer.body)) {
        (200, Some(List::Whole)) if ms < u128::from(bound_ms) => Finding::passed(
            check,
            format!("refuses who has no token, and answers a list within {ms} ms"),
        ),
        (200, Some(List::Whole)) => Finding::warned(
            check,
            format!("answers a list, but after {ms} ms; less than {bound_ms} ms is expected"),
            "ask again; look at `Server-Timing` of an answer for the stage that takes long: usually the database",
        ),
        (200, Some(List::Partial)) => Finding::failed(
            check,
            "answers an earlier list (`partial`) to who has a token: the database does not answer the function in time",
            format!("see that the database and PostgREST answer; {LOOK_AT_LOG}"),
        ),
        (200, None) => Finding::failed(
            check,
            "answers 200 to who has a token, but no list",
            format!("deploy the function of this version: {DEPLOY}"),
        ),
        (status @ (401 | 403), _) => Finding::failed(
            check,
            format!("answers {status} to the token of {PROBE_TOKEN_FILE}"),
            "renew the token in that file; if it is valid, Auth or the keys of the function are wrong: look at its log",
        ),
        (status, _) => Finding::failed(
            check,
            format!("answers {status} to who has a token"),
            LOOK_AT_LOG,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::operations::Place;

    /// No answer that could not come in time is taken for an outage.
    #[tokio::test]
    async fn without_time_left_nothing_is_asked() {
        let place = Place {
            db_url: String::new(),
            config_file: None,
            config: Config::default(),
        };
        let round = Round::new(&place, Scope::Watched, vec![EDGE_FUNCTION]);
        let late = round.with_time_left(LEAST_TIME / 2);
        let found = function_of(&late, "http://127.0.0.1:1", None).await;
        assert_eq!(found.verdict, Verdict::Skipped, "{}", found.evidence);
    }

    #[test]
    fn a_function_refuses_strangers_at_once() {
        let verdict = |status, ms| judge(status, Duration::from_millis(ms), 200).verdict;
        assert_eq!(verdict(401, 50), Verdict::Passed);
        assert_eq!(verdict(401, 200), Verdict::Warned);
        for status in [200, 404, 500, 302] {
            assert_eq!(verdict(status, 1), Verdict::Failed);
        }
    }

    #[test]
    fn a_token_gets_a_list_and_goes_nowhere_in_the_clear() {
        let verdict = |status, ms, body: &str| {
            let answer = Answer {
                status,
                body: body.into(),
                took: Duration::from_millis(ms),
            };
            judge_list(&answer, 200).verdict
        };
        let list = r#"{"recommendations": [], "partial": false}"#;
        assert_eq!(verdict(200, 50, list), Verdict::Passed);
        assert_eq!(verdict(200, 200, list), Verdict::Warned);
        for status in [401, 403, 404, 500, 503, 302] {
            assert_eq!(verdict(status, 1, list), Verdict::Failed);
        }
        for body in ["", "{}", "<html>", &list.replace("false", "true")] {
            assert_eq!(verdict(200, 1, body), Verdict::Failed, "{body}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let file = file.to_str().unwrap();
        let project = "https://project.example/x";
        assert_eq!(read_token(file, project), Err("the file cannot be read"));
        fs::write(file, " \n").unwrap();
        assert_eq!(read_token(file, project), Err("the file holds no token"));
        fs::write(file, "a.b.c\n").unwrap();
        for url in [project, "http://127.0.0.1:54321", "http://localhost:54321"] {
            assert_eq!(read_token(file, url), Ok("a.b.c".to_owned()), "{url}");
        }
        assert!(read_token(file, "http://project.example/x").is_err());
    }
}
