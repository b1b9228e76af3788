//! The database server and the connection to it. Checks that need a connection share the one made
//! here.

mod server;

use super::finding::span;
use super::round::Round;
use super::{
    CATALOGUE, Check, Finding, Needs, Verdict, data, drift, jobs, models, schema, vectors,
};
use std::time::{Duration, Instant};
use twotower_store::{ConnectOptions, Store, StoreError, StoreKind};

/// Without a connection no other check of the database can run.
const REACHABLE: &str = "database-reachable";

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    let asking: Vec<&Check> = CATALOGUE
        .iter()
        .filter(|check| check.needs != Needs::Others)
        .collect();
    if !asking.iter().any(|check| round.wants(check.name)) {
        return Vec::new();
    }
    let store = match connect(round).await {
        Ok(store) => store,
        Err(finding) => {
            let others = asking.iter().filter(|check| check.name != REACHABLE);
            let skipped = others.map(|check| {
                Finding::skipped(
                    check.name,
                    "the database cannot be asked",
                    format!("see {REACHABLE}"),
                )
            });
            return std::iter::once(finding).chain(skipped).collect();
        }
    };
    let mut found = reachable(round, &store).await;
    let away = found
        .iter()
        .any(|finding| finding.check == REACHABLE && finding.verdict == Verdict::Failed);
    if !away {
        if store.kind() == StoreKind::Sqlite {
            let of_servers = asking
                .iter()
                .filter(|check| check.needs == Needs::DatabaseServer);
            found.extend(
                of_servers.map(|check| Finding::skipped(check.name, "embedded database", "")),
            );
        } else {
            found.extend(server::examine(round, &store).await);
            found.extend(schema::examine(round, &store).await);
        }
        found.extend(jobs::examine(round, &store).await);
        found.extend(vectors::examine(round, &store).await);
        found.extend(models::examine(round, &store).await);
        found.extend(drift::examine(round, &store).await);
        found.extend(data::examine(round, &store).await);
    }
    // Connections busy with abandoned queries are not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
    found
}

async fn connect(round: &Round<'_>) -> Result<Store, Finding> {
    let check = REACHABLE;
    let url = &round.place.db_url;
    let step = round.step();
    let options = ConnectOptions {
        max_connections: 2,
        acquire_timeout: step,
        statement_timeout: step,
    };
    match round.within(Store::connect_existing(url, options)).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(StoreError::NoFile(file))) => Err(Finding::failed(
            check,
            format!("there is no file {}", file.display()),
            "set DATABASE_URL, or make it with `twotower migrate`",
        )),
        Ok(Err(error)) => Err(Finding::failed(check, evidence(&error), remedy(&error))),
        Err(_) => {
            let evidence = format!("no connection within {}", span(step.as_micros() as i64));
            Err(Finding::failed(
                check,
                evidence,
                "look whether the server is up, and whether a firewall drops packets to it",
            ))
        }
    }
}

/// The error without its remedy, which the finding has in `fix`.
fn evidence(error: &StoreError) -> String {
    match error {
        StoreError::Certificate { server, cause } => {
            format!("the certificate of {server} is refused: {cause}")
        }
        error => error.to_string(),
    }
}

fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Url(_) | StoreError::Insecure { .. } | StoreError::NoCertificateFile { .. } => {
            "set DATABASE_URL"
        }
        error if error.is_certificate() => {
            "if the server's certificate is of an authority of its own, as those of Supabase are, download that authority's and add \
             `?sslrootcert=FILE` to DATABASE_URL; otherwise look whether the address names the host that the certificate is for"
        }
        _ => {
            "try `psql \"$DATABASE_URL\" -c 'select 1'`; look whether DATABASE_URL is right and the server is up"
        }
    }
}

/// Whether the database answers, and whether the schema is present.
async fn reachable(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let begun = Instant::now();
    let check = REACHABLE;
    let mut found = Vec::new();
    match round.within(store.ping()).await {
        Ok(Ok(())) => {
            let took = begun.elapsed().as_millis();
            found.push(Finding::passed(check, format!("answers within {took} ms")));
        }
        Ok(Err(error)) => return vec![Finding::failed(check, evidence(&error), remedy(&error))],
        Err(_) => {
            let evidence = format!(
                "connected, but no answer within {}",
                span(round.step().as_micros() as i64)
            );
            return vec![Finding::failed(
                check,
                evidence,
                "look at what the server is doing: `select * from pg_stat_activity`",
            )];
        }
    }
    if round.wants("migrations") {
        let work = migrations(round, store);
        found.push(round.finding("migrations", work).await);
    }
    found
}

async fn migrations(round: &Round<'_>, store: &Store) -> Result<Finding, StoreError> {
    let check = "migrations";
    let pending = store.pending_migrations().await?;
    if !pending.is_empty() {
        let evidence = format!("not applied: {}", pending.join(", "));
        return Ok(Finding::failed(check, evidence, "twotower migrate"));
    }
    let audit = store.audit_schema(&round.place.config.source).await?;
    let faults = audit.map(|audit| audit.tables.faults).unwrap_or_default();
    Ok(match faults.first() {
        None => Finding::passed(check, "all are applied"),
        Some(first) => {
            let what: Vec<_> = faults.iter().map(|fault| fault.what.as_str()).collect();
            Finding::failed(check, what.join("; "), first.fix.clone())
        }
    })
}
