//! Ballista's processes with our functions: both must know them to read a plan that calls them.

mod executor;

mod scheduler;

pub use executor::{Arguments as ExecutorArguments, run as execute};
pub use scheduler::{Arguments as SchedulerArguments, run as schedule};

use crate::engine::reading;
use crate::function;
use anyhow::{Context, bail};
use ballista::prelude::{SessionConfigExt, SessionContextExt};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::net::SocketAddr;
use url::Url;

/// Port of a scheduler unless it is said.
const SCHEDULER_PORT: u16 = 50050;

/// A context whose plans run on the cluster of the scheduler at `url`, df://HOST:PORT.
pub(crate) async fn connect(url: &str) -> anyhow::Result<SessionContext> {
    // Checked first, so that a mistake is not reported by the machinery below.
    let (host, port) = address(url)?;
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(reading(SessionConfig::new_with_ballista()))
        .build();
    let context = SessionContext::remote_with_state(&format!("df://{host}:{port}"), state)
        .await
        .with_context(|| format!("connect to the scheduler {url}"))?;
    for function in function::all() {
        context.register_udf(function);
    }
    Ok(context)
}

/// Host and port of df://HOST:PORT.
fn address(url: &str) -> anyhow::Result<(String, u16)> {
    let parsed = Url::parse(url).ok().filter(|url| url.scheme() == "df");
    let host = parsed.as_ref().and_then(Url::host_str);
    match (host, &parsed) {
        (Some(host), Some(parsed)) => {
            Ok((host.to_owned(), parsed.port().unwrap_or(SCHEDULER_PORT)))
        }
        _ => bail!("--scheduler {url}: expected df://HOST:PORT"),
    }
}

/// What others reach a process by: `host`, else the address that it is bound to.
fn external(host: Option<&String>, bind: SocketAddr) -> anyhow::Result<String> {
    match host {
        Some(host) => Ok(host.clone()),
        None if bind.ip().is_unspecified() => bail!(
            "--bind {bind} listens on all addresses: say with --external-host by which one the others reach this machine"
        ),
        None => Ok(bind.ip().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_has_an_address() {
        assert_eq!(address("df://a:7").unwrap(), ("a".to_owned(), 7));
        assert_eq!(
            address("df://10.0.0.1").unwrap(),
            ("10.0.0.1".to_owned(), SCHEDULER_PORT)
        );
        for wrong in ["a:7", "http://a:7", "df://", ""] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_listens_everywhere_says_where_it_is() {
        let all: SocketAddr = "0.0.0.0:1".parse().unwrap();
        assert!(external(None, all).is_err());
        assert_eq!(external(Some(&"a".to_owned()), all).unwrap(), "a");
    }
}
