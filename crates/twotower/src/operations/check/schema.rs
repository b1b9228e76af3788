//! Compares the schema with what the migrations create.

use super::Finding;
use super::finding::counted;
use super::round::Round;
use crate::jobs::index::INDEXED_FROM_ROWS;
use twotower_store::Store;
use twotower_store::inspection::{Audit, Fault, IndexUse, SchemaAudit};

/// At most this many faults are named: the first few show what the matter is.
const NAMED: usize = 12;

/// Turns an audit of the schema into a finding.
type Judge = fn(&'static str, &SchemaAudit) -> Finding;

/// Checks that one audit of the schema answers.
const JUDGES: [(&str, Judge); 7] = [
    ("grants", |check, it| judge(check, it, &it.grants, "right")),
    ("row-security", |check, it| {
        judge(check, it, &it.row_security, "table")
    }),
    ("policies", |check, it| {
        judge(check, it, &it.policies, "policy")
    }),
    ("functions", |check, it| {
        judge(check, it, &it.functions, "function")
    }),
    ("triggers", |check, it| {
        judge(check, it, &it.triggers, "trigger")
    }),
    ("indexes", |check, it| {
        judge(check, it, &it.indexes, "index")
    }),
    ("unique-likes", |check, it| judge_keys(check, &it.keys)),
];

pub(super) async fn examine(round: &Round<'_>, store: &Store) -> Vec<Finding> {
    let mut found = Vec::new();
    if JUDGES.iter().any(|(check, _)| round.wants(check)) {
        let source = &round.place.config.source;
        let looked = round.ask(store.audit_schema(source)).await;
        let judged = JUDGES.iter().filter_map(|(check, judge)| match &looked {
            Ok(audit) => audit.as_ref().map(|audit| judge(check, audit)),
            Err(why) => Some(why.finding(check)),
        });
        found.extend(judged);
    }
    if round.wants("indexes") {
        found.extend(reads(round, store).await);
    }
    if round.wants("index-used") {
        found.push(index_used(round, store).await);
    }
    found
}

/// Missing objects may be part of pending migrations, so these come first.
fn judge(check: &'static str, schema: &SchemaAudit, audit: &Audit, thing: &str) -> Finding {
    let pending = schema.pending.len();
    let Audit {
        examined,
        faults,
        doubts,
        passed_over,
    } = audit;
    let over = over(passed_over);
    if faults.is_empty() && doubts.is_empty() {
        let things = match thing {
            "policy" => "policies".to_owned(),
            "index" => "indexes".to_owned(),
            thing => format!("{thing}s"),
        };
        return Finding::passed(check, format!("{examined} {things} looked at{over}"));
    }
    let told = || faults.iter().chain(doubts);
    let mut what: Vec<&str> = told().take(NAMED).map(|it| it.what.as_str()).collect();
    let mut fixes: Vec<&str> = Vec::new();
    for fault in told().take(NAMED) {
        // One fix may mend several faults.
        if !fixes.contains(&fault.fix.as_str()) {
            fixes.push(&fault.fix);
        }
    }
    let rest = told().count().saturating_sub(NAMED);
    let more = format!("and {rest} more: mend these, then look again");
    if rest > 0 {
        what.push(&more);
    }
    let (what, fixes) = (what.join("; ") + &over, fixes.join(" "));
    if faults.is_empty() {
        Finding::warned(check, what, format!("if it is not: {fixes}"))
    } else if pending > 0 {
        let migrations = counted(pending as u64, "migration");
        Finding::failed(
            check,
            format!("not applied yet: {migrations}, with which some of this may come; {what}"),
            format!("`twotower migrate`, then look again; what is told then: {fixes}"),
        )
    } else {
        Finding::failed(check, what, fixes)
    }
}

/// Names the application's own tables that have our names; the audit does not judge those.
fn over(passed_over: &[&str]) -> String {
    match passed_over {
        [] => String::new(),
        tables => format!(
            "; passed over, as [source] replaces them, or computes ids of theirs: {}",
            tables.join(", ")
        ),
    }
}

/// It works without these keys, because our own writes check first; but the application's
/// statements may not, and a check costs more than a key.
fn judge_keys(check: &'static str, audit: &Audit) -> Finding {
    let over = over(&audit.passed_over);
    if audit.faults.is_empty() {
        let keys = counted(audit.examined as u64, "table");
        return Finding::passed(check, format!("{keys} with a key of user and video{over}"));
    }
    let what: Vec<&str> = audit.faults.iter().map(|it| it.what.as_str()).collect();
    let fixes: Vec<&str> = audit.faults.iter().map(|it| it.fix.as_str()).collect();
    Finding::warned(
        check,
        format!("{}: a pair may come twice{over}", what.join("; ")),
        format!(
            "{} This fails while a pair is there twice: docs/doctor.md#one-like-of-a-user-and-a-video has what deletes the later rows",
            fixes.join(" ")
        ),
    )
}

/// What requests read from the application's own tables.
async fn reads(round: &Round<'_>, store: &Store) -> Option<Finding> {
    let check = "indexes";
    let source = &round.place.config.source;
    let found = match round.ask(store.unindexed_reads(source)).await {
        Ok(faults) => judge_reads(check, &faults?),
        Err(why) => why.finding(check),
    };
    Some(found.about("source"))
}

fn judge_reads(check: &'static str, faults: &[Fault]) -> Finding {
    if faults.is_empty() {
        let evidence = "in the tables that [source] reads, those of one user are found by an index, or all rows are few";
        return Finding::passed(check, evidence);
    }
    let what: Vec<&str> = faults.iter().map(|it| it.what.as_str()).collect();
    let fixes: Vec<&str> = faults.iter().map(|it| it.fix.as_str()).collect();
    Finding::warned(check, what.join("; "), fixes.join(" "))
}

async fn index_used(round: &Round<'_>, store: &Store) -> Finding {
    let check = "index-used";
    let look = async {
        let Some(generation) = store.generation().await? else {
            return Ok(None);
        };
        let index_use = store.index_use(generation.version, generation.embedding_dim);
        Ok(index_use
            .await?
            .map(|index_use| (generation.version, index_use)))
    };
    match round.ask(look).await {
        Ok(Some((version, index_use))) => judge_index(version, index_use),
        Ok(None) => Finding::skipped(check, "no model is active", "twotower train --update-db"),
        Err(why) => why.finding(check),
    }
}

fn judge_index(version: i64, index_use: IndexUse) -> Finding {
    let check = "index-used";
    let vectors = counted(index_use.rows, "vector");
    let build = format!("twotower update --model-path models/{version}");
    if index_use.rows < INDEXED_FROM_ROWS {
        return Finding::passed(
            check,
            format!("{vectors} of version {version}: so few are scanned"),
        );
    }
    match (index_use.valid, index_use.planned) {
        (Some(true), Some(true)) => Finding::passed(
            check,
            format!("the nearest of {vectors} of version {version} are found by its HNSW index"),
        ),
        (Some(true), _) => {
            let evidence = format!(
                "the planner does not use the HNSW index of version {version}, of {vectors}"
            );
            Finding::failed(check, evidence, "analyze public.video_embeddings;")
        }
        (Some(false), _) => {
            let evidence = format!(
                "the HNSW index of version {version} is invalid: building it was interrupted"
            );
            Finding::failed(check, evidence, build)
        }
        (None, _) => {
            let evidence = format!(
                "{vectors} of version {version} have no HNSW index: each search in SQL scans all of them"
            );
            Finding::warned(check, evidence, build)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    #[test]
    fn what_may_be_wanted_is_no_failure() {
        let fault = |what: &str| Fault {
            what: what.into(),
            fix: format!("mend {what};"),
        };
        let audit = |faults: &[&str], doubts: &[&str]| Audit {
            examined: 3,
            faults: faults.iter().map(|what| fault(what)).collect(),
            doubts: doubts.iter().map(|what| fault(what)).collect(),
            passed_over: Vec::new(),
        };
        for (audit, pending, verdict, evidence, fix) in [
            (
                audit(&[], &[]),
                2,
                Verdict::Passed,
                "3 policies looked at",
                "",
            ),
            (
                audit(&[], &["b"]),
                0,
                Verdict::Warned,
                "b",
                "if it is not: mend b;",
            ),
            (
                audit(&["a"], &["b"]),
                0,
                Verdict::Failed,
                "a; b",
                "mend a; mend b;",
            ),
            // A fix for several faults is named once, and migrations come first.
            (
                audit(&["a", "a"], &[]),
                1,
                Verdict::Failed,
                "not applied yet: 1 migration, with which some of this may come; a; a",
                "`twotower migrate`, then look again; what is told then: mend a;",
            ),
        ] {
            let schema = SchemaAudit {
                pending: vec![String::new(); pending],
                ..SchemaAudit::default()
            };
            let found = judge("policies", &schema, &audit, "policy");
            assert_eq!(found.verdict, verdict, "{}", found.evidence);
            assert_eq!((&*found.evidence, &*found.fix), (evidence, fix));
        }
    }

    #[test]
    fn a_missing_key_is_a_warning_with_its_statement() {
        let mut audit = Audit {
            examined: 2,
            ..Audit::default()
        };
        let found = judge_keys("unique-likes", &audit);
        assert_eq!(found.verdict, Verdict::Passed);
        assert_eq!(found.evidence, "2 tables with a key of user and video");
        audit.faults.push(Fault {
            what: "public.likes has no key".into(),
            fix: "create unique index concurrently likes_key;".into(),
        });
        let found = judge_keys("unique-likes", &audit);
        assert_eq!(found.verdict, Verdict::Warned);
        assert!(found.evidence.contains("public.likes has no key"));
        assert!(found.fix.starts_with("create unique index concurrently"));
    }

    #[test]
    fn an_index_is_asked_for_where_scanning_is_slow() {
        let verdict = |rows, valid, planned| {
            let index_use = IndexUse {
                rows,
                valid,
                planned,
            };
            judge_index(7, index_use).verdict
        };
        assert_eq!(verdict(9_999, None, None), Verdict::Passed);
        assert_eq!(verdict(10_000, None, None), Verdict::Warned);
        assert_eq!(verdict(10_000, Some(false), None), Verdict::Failed);
        assert_eq!(verdict(10_000, Some(true), Some(false)), Verdict::Failed);
        assert_eq!(verdict(10_000, Some(true), Some(true)), Verdict::Passed);
    }
}
