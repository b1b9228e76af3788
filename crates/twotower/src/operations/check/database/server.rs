//! Versions, encryption, connections and clock of the server.

use super::super::Finding;
use super::super::finding::judged;
use super::super::round::{Round, Unanswered};
use twotower_core::time::SECOND_US;
use twotower_store::Store;
use twotower_store::inspection::{Pooler, ServerFacts, Transport, Verification};

/// Oldest supported PostgreSQL, as `server_version_num`.
const OLDEST_SERVER: i32 = 140_000;

/// Oldest supported pgvector: the first with iterative scans.
const OLDEST_VECTOR: [u32; 3] = [0, 8, 0];

/// Earlier versions could overflow in a parallel index build (CVE-2026-3172, fixed in 0.8.2) or
/// break an index in a vacuum (fixed in 0.8.3 and 0.8.4).
const SOUND_VECTOR: [u32; 3] = [0, 8, 4];

/// The check fails if at least this share of the server's connections is used, percent: the rest is
/// too small a reserve.
const FULL_PERCENT: i64 = 90;

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let mut found = Vec::new();
    let own = ["server-version", "pgvector", "tls", "connections"];
    if round.wants_any(&own) {
        match round.ask(store.server_facts()).await {
            Ok(Some(facts)) => {
                found.push(server_version(&facts));
                found.push(pgvector(&facts));
                found.push(tls(&facts.transport));
                found.push(connections(&facts, round.checks().connections));
            }
            Ok(None) => {}
            Err(why) => found.extend(why.of_each(&own)),
        }
    }
    if round.wants("pooler") {
        found.push(match round.ask(store.pooler()).await {
            Ok(Some(pooler)) => Finding::passed("pooler", between(pooler)),
            Ok(None) => Unanswered::Late.finding("pooler"),
            Err(why) => why.finding("pooler"),
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
        // Maintenance does not rebuild an index that is valid and of normal size, so this has to be
        // done by hand.
        let then = "then build what it may have broken anew: `reindex table concurrently public.video_embeddings;`";
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
    let before = crate::time::now_us();
    let theirs = match round.ask(store.time()).await {
        Ok(time) => time.us(),
        Err(why) => return why.finding(check),
    };
    let after = crate::time::now_us();
    judge_clock(before, theirs, after, round.checks().clock_seconds)
}

/// `theirs` was read from the database between `before` and `after` by our clock.
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
        off <= i64::from(bound_seconds) * SECOND_US,
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
        let unsound = of(Some("0.8.3"), Some("0.8.4"));
        assert_eq!(unsound.verdict, Verdict::Warned);
        assert!(
            unsound
                .fix
                .contains("`reindex table concurrently public.video_embeddings;`"),
            "{}",
            unsound.fix
        );
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
}
