//! CPU use of the database's machine. PostgreSQL does not report it; `node_exporter` does, and so
//! does a Supabase project's metrics endpoint, in the same format.

use super::Finding;
use super::exposition::samples;
use super::finding::judged;
use super::http::{Answer, Request, ask};
use super::round::Round;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;
use twotower_store::model_storage::{StorageError, supabase_secret_key};

/// Interval between the two samples of the counters.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

const CPU: &str = "node_cpu_seconds_total";

pub(super) async fn examine(round: &Round<'_>) -> Option<Finding> {
    let check = "database-load";
    if !round.wants(check) {
        return None;
    }
    if round.place.db_url.starts_with("sqlite:") {
        return Some(Finding::skipped(check, "embedded database", ""));
    }
    let Some(url) = round.checks().database_metrics.clone() else {
        let fix = "set `database_metrics` of section [checks]: http://DATABASE:9100/metrics of node_exporter, or \
                   https://<ref>.supabase.co/customer/v1/privileged/metrics";
        return Some(Finding::skipped(
            check,
            "PostgreSQL does not tell how busy its machine is",
            fix,
        ));
    };
    let first = look(round, url.clone()).await;
    let second = match first {
        Ok(first) => {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            look(round, url).await.map(|second| (first, second))
        }
        Err(error) => Err(error),
    };
    Some(match second {
        Ok((first, second)) => judge(&first, &second, round.checks().database_cpu_percent),
        Err(why) => Finding::skipped(
            check,
            format!("the metrics {why}"),
            "correct `database_metrics` of section [checks], or the environment",
        ),
    })
}

async fn look(round: &Round<'_>, url: String) -> Result<Processors, String> {
    let deadline = round.step();
    let authorization = authorization(&url, |name| std::env::var(name).ok());
    let request = match authorization {
        Ok(authorization) => Request::Get(authorization),
        Err(error) => return Err(format!("of a project cannot be asked for: {error}")),
    };
    let answer = round.blocking(move || ask(&url, &request, deadline)).await;
    match answer {
        Ok(Ok(Answer {
            status: 200, body, ..
        })) => Processors::read(&body).ok_or_else(|| format!("have no {CPU}")),
        Ok(Ok(answer)) => Err(format!("answer with status {}", answer.status)),
        Ok(Err(error)) => Err(format!("do not answer: {error}")),
        Err(_) => Err("do not answer in time".into()),
    }
}

/// A project's metrics require its secret key; the key is sent nowhere else.
fn authorization(
    url: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, StorageError> {
    let host = url.strip_prefix("https://").unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    if !host.ends_with(".supabase.co") {
        return Ok(None);
    }
    let key = supabase_secret_key(variable)?;
    let basic = STANDARD.encode(format!("service_role:{key}"));
    Ok(Some(format!("Basic {basic}")))
}

/// Seconds of all processors together since boot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Processors {
    all: f64,
    idle: f64,
}

impl Processors {
    fn read(text: &str) -> Option<Self> {
        let mut processors = Self {
            all: 0.0,
            idle: 0.0,
        };
        for sample in samples(text).filter(|sample| sample.name == CPU) {
            processors.all += sample.value;
            if matches!(sample.label("mode"), Some("idle" | "iowait")) {
                processors.idle += sample.value;
            }
        }
        (processors.all > 0.0).then_some(processors)
    }
}

fn judge(first: &Processors, second: &Processors, bound: u32) -> Finding {
    let check = "database-load";
    let all = second.all - first.all;
    if all <= 0.0 {
        return Finding::skipped(
            check,
            "the figures did not change between two looks",
            "look again",
        );
    }
    let busy = 100.0 * (1.0 - (second.idle - first.idle) / all);
    let evidence = format!(
        "the processors of the database's machine are {busy:.0} % busy, less than {bound} % is expected"
    );
    let fix = "find what runs (`select pid, now() - query_start, left(query, 80) from pg_stat_activity where state = 'active' order by 2 desc`); \
               then `twotower maintain --now`, or a larger machine";
    judged(check, busy < f64::from(bound), evidence, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    #[test]
    fn what_is_not_idle_is_busy() {
        let text = |idle: f64, user: f64| {
            format!(
                "node_cpu_seconds_total{{cpu=\"0\",mode=\"idle\"}} {idle}\nnode_cpu_seconds_total{{cpu=\"0\",mode=\"user\"}} {user}\n"
            )
        };
        let read = |idle, user| Processors::read(&text(idle, user)).unwrap();
        let first = read(100.0, 100.0);
        assert_eq!(
            judge(&first, &read(101.0, 103.0), 80).verdict,
            Verdict::Passed
        );
        assert_eq!(
            judge(&first, &read(101.0, 104.0), 80).verdict,
            Verdict::Failed
        );
        assert_eq!(judge(&first, &first, 80).verdict, Verdict::Skipped);
        assert_eq!(Processors::read("up 1\n"), None);
    }

    #[test]
    fn a_projects_key_goes_to_the_project_alone() {
        let keys = |name: &str| {
            let set = name == "SUPABASE_SECRET_KEYS";
            set.then(|| r#"{"default": "sb_secret_a"}"#.to_owned())
        };
        for url in [
            "http://127.0.0.1:9100/metrics",
            "https://a.supabase.co.example.com/x",
            "http://a.supabase.co/x",
        ] {
            assert_eq!(authorization(url, keys).unwrap(), None, "{url}");
        }
        let metrics = "https://a.supabase.co/customer/v1/privileged/metrics";
        let of = |name: &'static str, text: &'static str| {
            authorization(metrics, move |asked| {
                (asked == name).then(|| text.to_owned())
            })
        };
        let expected = format!("Basic {}", STANDARD.encode("service_role:sb_secret_a"));
        for (name, text) in [
            ("SUPABASE_SECRET_KEYS", r#"{"default": "sb_secret_a"}"#),
            ("SUPABASE_SECRET_KEY", "sb_secret_a"),
            ("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_a"),
        ] {
            assert_eq!(of(name, text).unwrap(), Some(expected.clone()), "{name}");
        }
        let said = of("OTHER", "x").unwrap_err().to_string();
        assert!(said.contains("SUPABASE_SECRET_KEYS"), "{said}");
    }
}
