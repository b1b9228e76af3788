//! The database server and the way to it; what needs a connection is looked at over the one that is made here.

mod server;

use super::finding::span;
use super::round::Round;
use super::{Finding, Verdict, data, drift, jobs, models, schema, vectors};
use std::time::{Duration, Instant};
use twotower_store::{ConnectOptions, Store, StoreError, StoreKind};

/// Every check that asks the database.
const ASKING: &[&str] = &[
    "database-reachable",
    "server-version",
    "pgvector",
    "migrations",
    "grants",
    "row-security",
    "policies",
    "functions",
    "triggers",
    "indexes",
    "unique-likes",
    "index-used",
    "tls",
    "connections",
    "pooler",
    "data-sufficiency",
    "model-files",
    "model-signature",
    "model-quality",
    "dimension",
    "vectors-fresh",
    "vectors-complete",
    "gate-refused",
    "drift",
    "erasure-overdue",
    "run-failed",
    "run-missed",
    "run-slow",
    "backup-age",
    "clock",
];

/// Of these there is nothing to look at in a file.
const OF_SERVERS: &[&str] = &[
    "server-version",
    "pgvector",
    "grants",
    "row-security",
    "policies",
    "functions",
    "triggers",
    "indexes",
    "unique-likes",
    "index-used",
    "tls",
    "connections",
    "pooler",
    "clock",
];

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    if !round.wants_any(ASKING) {
        return Vec::new();
    }
    let store = match connect(round).await {
        Ok(store) => store,
        Err(finding) => {
            let skipped = ASKING[1..].iter().map(|&check| {
                Finding::skipped(
                    check,
                    "the database cannot be asked",
                    "see database-reachable",
                )
            });
            return std::iter::once(finding).chain(skipped).collect();
        }
    };
    let mut found = reachable(round, &store).await;
    let away = found
        .iter()
        .any(|finding| finding.check == ASKING[0] && finding.verdict == Verdict::Failed);
    if !away {
        if store.kind() == StoreKind::Sqlite {
            found.extend(
                OF_SERVERS
                    .iter()
                    .map(|&check| Finding::skipped(check, "embedded database", "")),
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
    // Connections that still work on what nobody waits for any more are not waited for either.
    let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
    found
}

async fn connect(round: &Round<'_>) -> Result<Store, Finding> {
    let check = "database-reachable";
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

/// What was said, but for the remedy, which stands beside it.
fn evidence(error: &StoreError) -> String {
    match error {
        StoreError::Certificate { server, source } => {
            format!("the certificate of {server} is refused: {source}")
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

/// Whether it answers, and whether the schema is there.
async fn reachable(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let begun = Instant::now();
    let check = "database-reachable";
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
        found.push(match round.within(migrations(store)).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(error)) => Finding::unseen("migrations", &error),
            Err(_) => Finding::skipped("migrations", "no answer in time", ""),
        });
    }
    found
}

async fn migrations(store: &Store) -> Result<Finding, StoreError> {
    let check = "migrations";
    let pending = store.pending_migrations().await?;
    if !pending.is_empty() {
        let evidence = format!("not applied: {}", pending.join(", "));
        return Ok(Finding::failed(check, evidence, "twotower migrate"));
    }
    let audit = store.audit_schema().await?;
    let faults = audit.map(|audit| audit.tables.faults).unwrap_or_default();
    Ok(match faults.first() {
        None => Finding::passed(check, "all are applied"),
        Some(first) => {
            let what: Vec<_> = faults.iter().map(|fault| fault.what.as_str()).collect();
            Finding::failed(check, what.join("; "), first.fix.clone())
        }
    })
}
