//! The schema as it is, against the schema as the migrations made it.

use super::super::session::query_as;
use super::super::{Postgres, Session};
use super::expected::{self, Grant, INDEXES, LEADING, OURS, Policy, Rows};
use crate::StoreError;
use crate::inspection::{Audit, Fault, SchemaAudit};
use std::collections::HashMap;

/// By names, since a cast to regclass asks for rights on the schema.
const TABLES: &str = "
    SELECT nspname || '.' || relname, relrowsecurity FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND nspname || '.' || relname = ANY ($1)";

/// Table, name, verb, roles in order with commas between, USING or WITH CHECK, and whether it only restricts.
const POLICIES: &str = "
    SELECT nspname || '.' || relname, polname::text, polcmd::text,
           (SELECT string_agg(CASE role WHEN 0 THEN 'public' ELSE pg_get_userbyid(role)::text END, ',' ORDER BY pg_get_userbyid(role)::text)
            FROM unnest(polroles) AS role),
           pg_get_expr(coalesce(polqual, polwithcheck), polrelid), NOT polpermissive
    FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname || '.' || relname = ANY ($1)";

/// Whether each of the roles has each of the rights, if role and table are there.
const PRIVILEGES: &str = "
    SELECT has_table_privilege(role.oid, class.oid, verb)
           OR CASE WHEN verb IN ('SELECT', 'INSERT', 'UPDATE') THEN has_any_column_privilege(role.oid, class.oid, verb) ELSE false END,
           role.oid IS NOT NULL
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS asked (role_name, table_name, verb, n)
    LEFT JOIN pg_roles AS role ON rolname = role_name
    LEFT JOIN (
        SELECT pg_class.oid, nspname || '.' || relname AS name FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relkind IN ('r', 'p')
    ) AS class ON class.name = table_name
    ORDER BY n";

/// Table, index, whether it is valid, and its first column, of every index of these tables.
const INDEX_ROWS: &str = "
    SELECT nspname || '.' || class.relname, index.relname::text, indisvalid, attname::text
    FROM pg_index
    JOIN pg_class AS class ON class.oid = indrelid
    JOIN pg_class AS index ON index.oid = indexrelid
    JOIN pg_namespace ON pg_namespace.oid = class.relnamespace
    LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE nspname || '.' || class.relname = ANY ($1)";

/// Whose policy every user of an own table has left alone.
const OF_COMPONENTS: [&str; 2] = [
    "twotower: the jobs and the server read",
    "twotower: the server records",
];

type PolicyRow = (String, String, String, Option<String>, Option<String>, bool);

impl Postgres {
    pub(crate) async fn audit_schema(&self) -> Result<Option<SchemaAudit>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        let names: Vec<&str> = expected::tables().collect();
        let tables: Vec<(String, bool)> = query_as(TABLES)
            .bind(&names)
            .fetch_all(&mut *session)
            .await?;
        let policies: Vec<PolicyRow> = query_as(POLICIES)
            .bind(&names)
            .fetch_all(&mut *session)
            .await?;
        let indexes: Vec<(String, String, bool, Option<String>)> = query_as(INDEX_ROWS)
            .bind(&names)
            .fetch_all(&mut *session)
            .await?;
        let schema = Schema {
            tables: tables.into_iter().collect(),
            policies,
        };
        let grants = schema.grants(&mut session).await?;
        session.commit().await?;
        Ok(Some(SchemaAudit {
            tables: schema.missing_tables(),
            row_security: schema.row_security(),
            policies: schema.policies(),
            grants,
            indexes: schema.indexes(&indexes),
        }))
    }
}

/// What there is.
struct Schema {
    /// Row level security by table.
    tables: HashMap<String, bool>,
    policies: Vec<PolicyRow>,
}

impl Schema {
    fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// Whether the policies of a table are for us to say.
    fn is_ours(&self, table: &str) -> bool {
        OURS.contains(&table)
            || self.policies.iter().any(|(of, name, ..)| {
                of == table
                    && name.starts_with("twotower: ")
                    && !OF_COMPONENTS.contains(&name.as_str())
            })
    }

    fn missing_tables(&self) -> Audit {
        let missing = OURS.iter().filter(|table| !self.has(table));
        Audit {
            examined: OURS.len(),
            faults: missing
                .map(|table| Fault {
                    what: format!("table {table} is missing, though its migration is recorded"),
                    // What later migrations add to it comes back with them: each can be run again.
                    fix: format!(
                        "delete from supabase_migrations.schema_migrations where version >= '{}'; then `twotower migrate`",
                        expected::migration_of(table)
                    ),
                })
                .collect(),
        }
    }

    fn row_security(&self) -> Audit {
        let off = expected::tables().filter(|&table| self.tables.get(table) == Some(&false));
        Audit {
            examined: self.tables.len(),
            faults: off
                .map(|table| Fault {
                    what: format!("row level security of {table} is off"),
                    fix: format!("alter table {table} enable row level security;"),
                })
                .collect(),
        }
    }

    fn policies(&self) -> Audit {
        let mut audit = Audit::default();
        for policy in expected::policies() {
            if !self.has(policy.table) || !self.is_ours(policy.table) {
                continue;
            }
            audit.examined += 1;
            let there = self
                .policies
                .iter()
                .find(|(table, name, ..)| table == policy.table && name == policy.name);
            let wrong = match there {
                None => "is missing",
                Some(there) if !fits(&policy, there) => "is not as the migration made it",
                Some(_) => continue,
            };
            audit.faults.push(Fault {
                what: format!("policy \"{}\" of {} {wrong}", policy.name, policy.table),
                fix: statement(&policy, there.is_some()),
            });
        }
        audit
    }

    async fn grants(&self, session: &mut Session) -> Result<Audit, StoreError> {
        let mut asked: Vec<(Grant, bool)> = expected::grants().map(|grant| (grant, true)).collect();
        asked.extend(expected::forbidden().map(|grant| (grant, false)));
        asked.retain(|(grant, _)| self.has(grant.table) && self.is_ours(grant.table));
        let column = |of: fn(&Grant) -> &'static str| {
            asked.iter().map(|(grant, _)| of(grant)).collect::<Vec<_>>()
        };
        let has: Vec<(Option<bool>, bool)> = query_as(PRIVILEGES)
            .bind(column(|grant| grant.role))
            .bind(column(|grant| grant.table))
            .bind(column(|grant| grant.verb))
            .fetch_all(&mut **session)
            .await?;
        let mut audit = Audit {
            examined: asked.len(),
            faults: Vec::new(),
        };
        for ((grant, wanted), (has, role)) in asked.iter().zip(has) {
            let Grant {
                table,
                role: name,
                verb,
                columns,
            } = grant;
            let fault = match (role, has, wanted) {
                (false, _, true) => Fault {
                    what: format!("role {name} does not exist"),
                    fix: format!("create role {name} nologin;"),
                },
                (true, Some(false), true) => Fault {
                    what: format!("role {name} may not {verb} {table}"),
                    fix: format!("grant {verb} {columns} on {table} to {name};").replace("  ", " "),
                },
                (true, Some(true), false) => Fault {
                    what: format!("role {name} may {verb} {table}, and should not"),
                    fix: format!("revoke {verb} on {table} from public, {name};"),
                },
                _ => continue,
            };
            if !audit.faults.contains(&fault) {
                audit.faults.push(fault);
            }
        }
        Ok(audit)
    }

    fn indexes(&self, there: &[(String, String, bool, Option<String>)]) -> Audit {
        let mut audit = Audit::default();
        for index in INDEXES.iter().filter(|index| self.has(index.table)) {
            audit.examined += 1;
            let (table, name, columns) = (index.table, index.name, index.columns);
            let unique = if index.unique { "unique " } else { "" };
            let create = format!("create {unique}index concurrently {name} on {table} {columns};");
            let schema = table.split('.').next().unwrap_or_default();
            match there
                .iter()
                .find(|(of, found, ..)| of == table && found == name)
            {
                None => audit.faults.push(Fault {
                    what: format!("index {name} of {table} is missing"),
                    fix: create,
                }),
                Some((_, _, false, _)) => audit.faults.push(Fault {
                    what: format!(
                        "index {name} of {table} is invalid: building it was interrupted"
                    ),
                    fix: format!("drop index concurrently {schema}.{name}; {create}"),
                }),
                Some(_) => {}
            }
        }
        for &(table, column) in LEADING.iter().filter(|(table, _)| self.has(table)) {
            audit.examined += 1;
            let found = there.iter().any(|(of, _, valid, first)| {
                of == table && *valid && first.as_deref() == Some(column)
            });
            if !found {
                audit.faults.push(Fault {
                    what: format!("no index of {table} begins with {column}"),
                    fix: format!("create index concurrently on {table} ({column});"),
                });
            }
        }
        audit
    }
}

/// Whether a policy of this name does what it should: the verb, the roles, and all rows or only one's own.
fn fits(policy: &Policy, (_, _, verb, roles, condition, restricts): &PolicyRow) -> bool {
    let condition = condition.as_deref().unwrap_or_default();
    let rows = match policy.rows {
        Rows::All => condition == "true",
        Rows::Own => condition.contains("user_id") && condition.contains("uid()"),
    };
    !restricts && rows && *verb == policy.verb.to_string() && roles.as_deref() == Some(policy.roles)
}

/// Makes the policy, in place of one that is there.
fn statement(policy: &Policy, there: bool) -> String {
    let Policy {
        table,
        name,
        verb,
        roles,
        rows,
    } = policy;
    let drop = if there {
        format!("drop policy \"{name}\" on {table}; ")
    } else {
        String::new()
    };
    let condition = match rows {
        Rows::All => "true",
        Rows::Own => "user_id = (select auth.uid())",
    };
    let (verb, rows) = match verb {
        'r' => ("select", format!("using ({condition})")),
        'a' => ("insert", format!("with check ({condition})")),
        'd' => ("delete", format!("using ({condition})")),
        _ => (
            "all",
            format!("using ({condition}) with check ({condition})"),
        ),
    };
    let roles = roles.replace(',', ", ");
    format!("{drop}create policy \"{name}\" on {table} for {verb} to {roles} {rows};")
}
