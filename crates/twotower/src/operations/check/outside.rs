//! What strangers reach: the bucket of models, and the Edge Function.

use super::Finding;
use super::http::{Request, ask};
use super::round::Round;
use super::server::RECOMMENDATIONS;
use crate::config::Storage;
use std::time::Duration;
use twotower_store::model_storage::{Address, ModelStorage, StorageError, StorageSettings};

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if round.wants("bucket-private") {
        found.push(bucket(round).await);
    }
    if round.wants("edge-function") {
        found.push(edge_function(round).await);
    }
    found
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

async fn edge_function(round: &Round<'_>) -> Finding {
    let check = "edge-function";
    let project =
        variable("SUPABASE_URL").or_else(|| round.place.config.storage.supabase_url.clone());
    let Some(project) = project else {
        return Finding::skipped(
            check,
            "no Supabase project is known",
            "set SUPABASE_URL if there is one",
        );
    };
    let url = format!("{}{RECOMMENDATIONS}", project.trim_end_matches('/'));
    let deadline = round.step();
    let deploy = "supabase functions deploy two_tower_recommendations";
    let answer = round
        .blocking(move || ask(&url, &Request::Post("{}"), deadline))
        .await;
    match answer {
        // Who answers by a server needs no function, though models may lie in the project.
        Ok(Ok(answer)) if answer.status == 404 && round.checks().server.is_some() => {
            let why = "is not deployed; `server` of section [checks] says that a server answers";
            Finding::skipped(check, why, "")
        }
        Ok(Ok(answer)) => judge(answer.status, answer.took, round.checks().latency_ms),
        Ok(Err(error)) => Finding::failed(check, format!("does not answer: {error}"), deploy),
        Err(_) => Finding::failed(check, "does not answer in time", deploy),
    }
}

/// Asked without a token, it refuses, and says so at once; the first request after a while starts it, and takes longer.
fn judge(status: u16, took: Duration, bound_ms: u32) -> Finding {
    let check = "edge-function";
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
            "supabase functions deploy two_tower_recommendations",
        ),
        200..300 => {
            let evidence = format!("answers {status} to who has no token");
            Finding::failed(
                check,
                evidence,
                "deploy the function of this version: supabase functions deploy two_tower_recommendations",
            )
        }
        status => Finding::failed(
            check,
            format!("answers {status} to who has no token, where 401 is expected"),
            "look at its log: dashboard, Edge Functions, two_tower_recommendations, Logs",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    #[test]
    fn a_function_refuses_strangers_at_once() {
        let verdict = |status, ms| judge(status, Duration::from_millis(ms), 200).verdict;
        assert_eq!(verdict(401, 50), Verdict::Passed);
        assert_eq!(verdict(401, 200), Verdict::Warned);
        for status in [200, 404, 500, 302] {
            assert_eq!(verdict(status, 1), Verdict::Failed);
        }
    }
}
