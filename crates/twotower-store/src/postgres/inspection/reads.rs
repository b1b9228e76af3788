//! Checks that one user's rows are found by an index in the application's own tables.

use super::super::mapped::MappedQuery;
use super::super::session::{query, query_as};
use super::super::{Postgres, Session};
use crate::inspection::Fault;
use crate::{InteractionKind, Source, StoreError};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

/// Tables with fewer rows are fast to scan.
const MANY_ROWS: f32 = 5_000.0;

/// Table, estimated rows, and whether it has partitions, one of which then stands for the table.
const TABLE: &str = "
    SELECT format('%I.%I', space.nspname, whole.relname), part.reltuples, whole.relkind = 'p'
    FROM pg_class AS part JOIN pg_namespace AS home ON home.oid = part.relnamespace
    JOIN pg_class AS whole ON whole.oid = coalesce(pg_partition_root(part.oid)::oid, part.oid)
    JOIN pg_namespace AS space ON space.oid = whole.relnamespace
    WHERE home.nspname = $1 AND part.relname = $2";

impl Postgres {
    /// Tables that each request scans in full, if they have many rows; `None` if likes and skips
    /// are read from our own.
    pub(crate) async fn unindexed_reads(
        &self,
        source: &Source,
    ) -> Result<Option<Vec<Fault>>, StoreError> {
        let mapping = source.mapping();
        if mapping.likes.is_none() && mapping.skips.is_none() {
            return Ok(None);
        }
        let reading = self.with_source(source).await?;
        let mut session = self.begin_reading(self.statement_timeout).await?;
        // So that the plan scans a table only where nothing else is possible, rather than where
        // that is cheaper at present.
        for setting in [
            "SET LOCAL enable_seqscan = off",
            "SET LOCAL max_parallel_workers_per_gather = 0",
        ] {
            query(setting).execute(&mut *session).await?;
        }
        let mut faults = Vec::new();
        for kind in [InteractionKind::Like, InteractionKind::Skip] {
            // Our own table is not one of [source], whatever it keeps ids as.
            let mapped = reading.mapped_interactions(kind);
            if let (Some(_), Some(mapped)) = (mapping.interactions(kind), mapped) {
                of_one_user(&mut session, kind.table(), mapped, &mut faults).await?;
            }
        }
        session.commit().await?;
        Ok(Some(faults))
    }
}

/// Plans the queries of a request in the same form: by an id that is known only during execution.
async fn of_one_user(
    session: &mut Session,
    name: &str,
    mapped: &MappedQuery,
    faults: &mut Vec<Fault>,
) -> Result<(), StoreError> {
    let rows = mapped.rows();
    let read = format!(
        "SELECT (SELECT string_agg(source.video_id::text || source.created_at::text, '') FROM {rows} WHERE {})
         FROM (SELECT id FROM unnest('{{{}}}'::uuid[]) AS each (id) OFFSET 0) AS asked",
        mapped.is("user_id", "asked.id"),
        Uuid::nil(),
    );
    let read = plan(session, &read).await?;
    let asked = format!("SELECT {} FROM {rows}", mapped.compared("user_id"));
    let asked = plan(session, &asked).await?;
    for scan in whole_reads(&read) {
        let Some((schema, relation)) = relation(scan) else {
            continue;
        };
        let found: Option<(String, f32, bool)> = query_as(TABLE)
            .bind(schema)
            .bind(relation)
            .fetch_optional(&mut **session)
            .await?;
        let Some((table, rows, partitioned)) = found.filter(|(_, rows, _)| *rows > MANY_ROWS)
        else {
            continue;
        };
        let concurrently = if partitioned { "" } else { "concurrently " };
        let fix = match self::relation(&asked)
            .filter(|of| *of == (schema, relation))
            .and_then(|_| expression(&asked))
        {
            Some(expression) => format!("create index {concurrently}on {table} ({expression});"),
            None => format!(
                "give {table} an index by which the rows of one user are found (docs/configuration.md#source);"
            ),
        };
        let fault = Fault {
            what: format!(
                "{name} of [source]: each request reads all of {table}, about {rows} rows, as no index finds those of one user"
            ),
            fix,
        };
        if !faults.iter().any(|known| known.fix == fault.fix) {
            faults.push(fault);
        }
    }
    Ok(())
}

async fn plan(session: &mut Session, statement: &str) -> Result<Value, StoreError> {
    let explain = format!("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) {statement}");
    // By the simple protocol: nothing is prepared, and the answer is text.
    let row = sqlx::raw_sql(AssertSqlSafe(explain))
        .fetch_one(&mut **session)
        .await?;
    let value = row.try_get_raw(0)?;
    let text = value.as_str().map_err(sqlx::Error::Decode)?;
    let mut plans: Value =
        serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let plan = plans.pointer_mut("/0/Plan").map(Value::take);
    Ok(plan.unwrap_or_default())
}

/// Parts of a plan that visit each row of a table, also through an index without a condition.
fn whole_reads(plan: &Value) -> Vec<&Value> {
    let text = |key: &str| plan[key].as_str().unwrap_or_default();
    let mut found = Vec::new();
    let is_whole = match text("Node Type") {
        "Seq Scan" => true,
        "Index Scan" | "Index Only Scan" => plan.get("Index Cond").is_none(),
        _ => false,
    };
    if is_whole {
        found.push(plan);
    }
    let below = plan["Plans"].as_array().into_iter().flatten();
    found.extend(below.flat_map(whole_reads));
    found
}

fn relation(scan: &Value) -> Option<(&str, &str)> {
    Some((scan["Schema"].as_str()?, scan["Relation Name"].as_str()?))
}

/// Output of a scan of one table, in the form that an index over it would have.
fn expression(scan: &Value) -> Option<String> {
    let [output] = &scan["Output"].as_array()?[..] else {
        return None;
    };
    let alias = scan["Alias"].as_str()?;
    let said = output.as_str()?;
    if said.contains("SubPlan") {
        return None;
    }
    let quoted = format!("\"{}\"", alias.replace('"', "\"\""));
    let said = unqualified(&unqualified(said, &quoted), alias);
    let is_column = said.chars().all(|c| c.is_alphanumeric() || c == '_');
    Some(if is_column { said } else { format!("({said})") })
}

/// An expression without the table's name before its columns.
fn unqualified(said: &str, alias: &str) -> String {
    let of = format!("{alias}.");
    let mut plain = String::with_capacity(said.len());
    for (n, part) in said.split(&of).enumerate() {
        // The end of another name, for example of a function's schema.
        if n > 0 && plain.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            plain += &of;
        }
        plain += part;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_tables_are_found_wherever_they_stand_in_a_plan() {
        let scan = |kind: &str, table: &str| {
            json!({"Node Type": kind, "Schema": "app", "Relation Name": table, "Alias": "f",
                   "Output": ["pdf.md5(f.member)"]})
        };
        let mut looked_up = scan("Index Scan", "a");
        looked_up["Index Cond"] = "(a.member = asked.id)".into();
        let plan = json!({"Node Type": "Result", "Plans": [
            {"Node Type": "Append", "Plans": [looked_up, scan("Seq Scan", "b")]},
            scan("Index Scan", "c"), scan("Foreign Scan", "d"),
        ]});
        let found: Vec<_> = whole_reads(&plan)
            .into_iter()
            .filter_map(relation)
            .collect();
        assert_eq!(found, [("app", "b"), ("app", "c")]);
        assert_eq!(
            expression(&scan("Seq Scan", "b")).unwrap(),
            "(pdf.md5(member))"
        );
    }
}
