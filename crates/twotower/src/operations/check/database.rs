//! The database server and the way to it; what needs a connection is looked at over the one that is made here.

use super::finding::{judged, span};
use super::round::Round;
use super::{Finding, data, drift, jobs, models, schema, vectors};
use std::path::Path;
use std::time::{Duration, Instant};
use twotower_store::inspection::{Pooler, ServerFacts, Transport, Verification};
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
    "indexes",
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
    "indexes",
    "index-used",
    "tls",
    "connections",
    "pooler",
    "clock",
];

/// Least version of PostgreSQL, as `server_version_num` has it.
const OLDEST_SERVER: i32 = 140_000;

/// Least pgvector: iterative scans.
const OLDEST_VECTOR: [u32; 3] = [0, 8, 0];

/// Before it a parallel build could overflow (CVE-2026-3172, 0.8.2), and vacuuming could break an index (0.8.3, 0.8.4).
const SOUND_VECTOR: [u32; 3] = [0, 8, 4];

/// Of the connections that the server takes, the share from which on the rest is too small a reserve, percent.
const FULL_PERCENT: i64 = 90;

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
        .any(|finding| finding.check == "database-reachable" && !finding.fix.is_empty());
    if !away {
        if store.kind() == StoreKind::Sqlite {
            found.extend(
                OF_SERVERS
                    .iter()
                    .map(|&check| Finding::skipped(check, "embedded database", "")),
            );
        } else {
            found.extend(server(round, &store).await);
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
    if let Some(file) = missing_file(url) {
        let evidence = format!("there is no file {}", file.display());
        return Err(Finding::failed(
            check,
            evidence,
            "set DATABASE_URL, or make it with `twotower migrate`",
        ));
    }
    let step = round.step();
    let options = ConnectOptions {
        max_connections: 2,
        acquire_timeout: step,
        statement_timeout: step,
    };
    match round.within(Store::connect(url, options)).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(error)) => Err(Finding::failed(check, error.to_string(), remedy(&error))),
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

/// The file of an embedded database that would be made by connecting to it.
fn missing_file(url: &str) -> Option<&Path> {
    let file = url.strip_prefix("sqlite:")?;
    let file = file.strip_prefix("//").unwrap_or(file);
    let file = file.split('?').next().unwrap_or_default();
    let path = Path::new(file);
    (!file.starts_with(":memory:") && !path.exists()).then_some(path)
}

fn remedy(error: &StoreError) -> &'static str {
    match error {
        StoreError::Url(_) | StoreError::Insecure { .. } => "set DATABASE_URL",
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
        Ok(Err(error)) => return vec![Finding::failed(check, error.to_string(), remedy(&error))],
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

async fn server(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let mut found = Vec::new();
    let own = ["server-version", "pgvector", "tls", "connections"];
    if round.wants_any(&own) {
        match round.within(store.server_facts()).await {
            Ok(Ok(Some(facts))) => {
                found.push(server_version(&facts));
                found.push(pgvector(&facts));
                found.push(tls(&facts.transport));
                found.push(connections(&facts, round.checks().connections));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => found.extend(own.map(|check| Finding::unseen(check, &error))),
            Err(_) => {
                found.extend(own.map(|check| Finding::skipped(check, "no answer in time", "")));
            }
        }
    }
    if round.wants("pooler") {
        found.push(match round.within(store.pooler()).await {
            Ok(Ok(Some(pooler))) => Finding::passed("pooler", between(pooler)),
            Ok(Err(error)) => Finding::unseen("pooler", &error),
            _ => Finding::skipped("pooler", "no answer in time", ""),
        });
    }
    if round.wants("clock") {
        found.push(clock(round, store).await);
    }
    found
}

fn server_version(facts: &ServerFacts) -> Finding {
    let evidence = format!("PostgreSQL {}, 14 or later is needed", facts.version);
    let fix = "upgrade the server to a version that still gets corrections";
    judged(
        "server-version",
        facts.version_number >= OLDEST_SERVER,
        evidence,
        fix,
    )
}

fn pgvector(facts: &ServerFacts) -> Finding {
    let check = "pgvector";
    let available = facts.vector_available.as_deref();
    let Some(version) = facts.vector.as_deref() else {
        let (evidence, fix) = match available {
            Some(version) => (
                format!("not in this database; {version} could be"),
                "create extension vector;".to_owned(),
            ),
            None => (
                "not in this database, and not on the server".to_owned(),
                "install pgvector on the server (package postgresql-NN-pgvector), then `create extension vector;`".to_owned(),
            ),
        };
        return Finding::failed(check, evidence, fix);
    };
    let update = match available {
        Some(newer) if numbers(newer) > numbers(version) => {
            format!("alter extension vector update to '{newer}';")
        }
        _ => "install a newer pgvector on the server, then `alter extension vector update;`"
            .to_owned(),
    };
    if numbers(version) < OLDEST_VECTOR {
        let evidence = format!(
            "version {version}: 0.8.0 or later is needed, for searches that leave videos out"
        );
        Finding::failed(check, evidence, update)
    } else if numbers(version) < SOUND_VECTOR {
        let evidence = format!(
            "version {version}: before 0.8.4 building or vacuuming an index could break it"
        );
        let then = "then `twotower maintain` builds the index anew";
        Finding::warned(check, evidence, format!("{update} {then}"))
    } else {
        Finding::passed(check, format!("version {version}"))
    }
}

/// The first three numbers of a version.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| {
        let digits = part
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(part.len());
        part[..digits].parse().unwrap_or(0)
    });
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

fn tls(transport: &Transport) -> Finding {
    let check = "tls";
    let host = &transport.host;
    match (transport.local, transport.verified) {
        (true, _) => Finding::passed(check, format!("the server is on this machine ({host})")),
        (false, Verification::Host) => Finding::passed(
            check,
            format!("encrypted, and {host} shows a certificate of its own"),
        ),
        (false, verified) => {
            let whose = match verified {
                Verification::Authority => "its name is not verified",
                _ => "nobody verifies who it is",
            };
            let evidence = format!("encrypted to {host}, but {whose}");
            let fix = "leave sslmode out of DATABASE_URL, and name the authority of the server's certificate with sslrootcert=FILE if it is none \
                       that browsers know";
            Finding::warned(check, evidence, fix)
        }
    }
}

fn connections(facts: &ServerFacts, bound: u32) -> Finding {
    let check = "connections";
    let (open, most) = (facts.connections, facts.max_connections);
    let evidence = format!(
        "{open} of {most} connections of the server are in use; fewer than {bound} should be"
    );
    let fix = "find who holds them (`select usename, application_name, state, count(*) from pg_stat_activity group by 1, 2, 3`), lower \
               max_connections of section [database], or go through a pooler";
    let full = open * 100 >= most * FULL_PERCENT;
    judged(check, open < i64::from(bound) && !full, evidence, fix)
}

fn between(pooler: Pooler) -> &'static str {
    match pooler {
        Pooler::None => "nothing: connections go straight to the server",
        Pooler::Session => {
            "a pooler in session mode, or a forwarded port: servers hear of changes, builds of indexes work"
        }
        Pooler::Transaction => {
            "a pooler in transaction mode: everything works, but servers hear of no changes (`NOTIFY`) and ask for them instead"
        }
    }
}

async fn clock(round: &Round<'_>, store: &Store) -> Finding {
    let check = "clock";
    let before = crate::jobs::now_us();
    let theirs = match round.within(store.time()).await {
        Ok(Ok(time)) => time.us(),
        Ok(Err(error)) => return Finding::unseen(check, &error),
        Err(_) => return Finding::skipped(check, "no answer in time", ""),
    };
    let after = crate::jobs::now_us();
    judge_clock(before, theirs, after, round.checks().clock_seconds)
}

/// The database's time was read between `before` and `after` by our clock.
fn judge_clock(before: i64, theirs: i64, after: i64, bound_seconds: u32) -> Finding {
    let off = if theirs < before {
        before - theirs
    } else {
        (theirs - after).max(0)
    };
    let direction = if theirs < before {
        "ahead of"
    } else {
        "behind"
    };
    let evidence = if off == 0 {
        "no difference from the database's can be told".to_owned()
    } else {
        format!("{:.1} s {direction} the database's", off as f64 / 1e6)
    };
    let fix = "keep both clocks by NTP: `timedatectl set-ntp true`";
    judged(
        "clock",
        off <= i64::from(bound_seconds) * 1_000_000,
        evidence,
        fix,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    fn facts(vector: Option<&str>, available: Option<&str>) -> ServerFacts {
        ServerFacts {
            version: "13.2".into(),
            version_number: 130_002,
            vector: vector.map(str::to_owned),
            vector_available: available.map(str::to_owned),
            connections: 40,
            max_connections: 100,
            transport: Transport {
                host: "db.example.com".into(),
                local: false,
                encrypted: Some(true),
                verified: Verification::None,
            },
            port: Some(5432),
        }
    }

    #[test]
    fn old_servers_and_extensions_are_named_with_the_way_out() {
        let of = |vector, available| pgvector(&facts(vector, available));
        assert_eq!(server_version(&facts(None, None)).verdict, Verdict::Failed);
        let missing = of(None, Some("0.8.6"));
        assert_eq!(
            (missing.verdict, missing.fix.as_str()),
            (Verdict::Failed, "create extension vector;")
        );
        assert!(of(None, None).fix.contains("postgresql-NN-pgvector"));
        let old = of(Some("0.7.4"), Some("0.8.6"));
        assert_eq!(
            (old.verdict, old.fix.as_str()),
            (Verdict::Failed, "alter extension vector update to '0.8.6';")
        );
        assert_eq!(of(Some("0.8.3"), Some("0.8.3")).verdict, Verdict::Warned);
        assert_eq!(of(Some("0.8.4"), None).verdict, Verdict::Passed);
        assert_eq!(of(Some("0.10.0-beta"), None).verdict, Verdict::Passed);
    }

    #[test]
    fn connections_run_out_at_the_bound_or_near_the_servers_limit() {
        let of = |connections, max_connections, bound| {
            let facts = ServerFacts {
                connections,
                max_connections,
                ..facts(None, None)
            };
            super::connections(&facts, bound).verdict
        };
        assert_eq!(of(99, 500, 100), Verdict::Passed);
        assert_eq!(of(100, 500, 100), Verdict::Failed);
        assert_eq!(of(54, 60, 100), Verdict::Failed);
        assert_eq!(of(53, 60, 100), Verdict::Passed);
    }

    #[test]
    fn encryption_without_verification_is_not_enough() {
        assert_eq!(tls(&facts(None, None).transport).verdict, Verdict::Warned);
        let verified = Transport {
            verified: Verification::Host,
            ..facts(None, None).transport
        };
        assert_eq!(tls(&verified).verdict, Verdict::Passed);
    }

    #[test]
    fn clocks_may_differ_by_what_an_answer_takes() {
        let verdict = |theirs| judge_clock(10_000_000, theirs, 11_000_000, 2).verdict;
        for good in [8_000_000, 10_500_000, 13_000_000] {
            assert_eq!(verdict(good), Verdict::Passed);
        }
        for bad in [7_999_999, 13_000_001] {
            assert_eq!(verdict(bad), Verdict::Failed);
        }
    }

    #[test]
    fn no_database_is_made_by_looking_for_it() {
        assert_eq!(
            missing_file("sqlite://nowhere/x.db?mode=rwc"),
            Some(Path::new("nowhere/x.db"))
        );
        assert_eq!(missing_file("sqlite::memory:"), None);
        assert_eq!(missing_file("postgresql://a/b"), None);
    }
}
