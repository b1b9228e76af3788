//! Compares the schema with the one that the migrations create.

use super::super::Postgres;
use super::super::migrations::{self, Migration};
use super::super::pairs::is_key;
use super::super::session::{query, query_as};
use super::expected::{self, INDEXES, KEYS, LEADING, OURS};
use super::objects;
use super::policies::{self, PolicyRow};
use crate::inspection::{Audit, Fault, SchemaAudit};
use crate::{Source, StoreError};
use std::collections::HashMap;

/// By names, since a cast to regclass requires rights on the schema.
const TABLES: &str = "
    SELECT nspname || '.' || relname, relrowsecurity FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND nspname || '.' || relname = ANY ($1)";

/// Every index of these tables: table, name, whether it is valid, its first column, and whether it
/// is a key of user and video.
const INDEX_ROWS: &str = concat!(
    "SELECT nspname || '.' || class.relname, index.relname::text, indisvalid, head.attname::text, ",
    is_key!(),
    "
    FROM pg_index
    JOIN pg_class AS class ON class.oid = indrelid
    JOIN pg_class AS index ON index.oid = indexrelid
    JOIN pg_namespace ON pg_namespace.oid = class.relnamespace
    LEFT JOIN pg_attribute AS head ON head.attrelid = indrelid AND head.attnum = indkey[0]
    WHERE nspname || '.' || class.relname = ANY ($1)"
);

/// Policies for our own roles. The application's own tables can have them too, so they do not make
/// a table ours.
const OF_COMPONENTS: [&str; 2] = [
    "twotower: the jobs and the server read",
    "twotower: the server records",
];

type IndexRow = (String, String, bool, Option<String>, bool);

impl Postgres {
    pub(crate) async fn audit_schema(
        &self,
        source: &Source,
    ) -> Result<Option<SchemaAudit>, StoreError> {
        let mut session = self.begin_reading(self.statement_timeout).await?;
        // So that expressions are printed with qualified names, whatever the role's search path.
        query("SET LOCAL search_path = ''")
            .execute(&mut *session)
            .await?;
        let names: Vec<&str> = expected::tables().collect();
        let tables: Vec<(String, bool)> = query_as(TABLES)
            .bind(&names)
            .fetch_all(&mut *session)
            .await?;
        let policies: Vec<PolicyRow> = query_as(policies::QUERY)
            .bind(&names)
            .fetch_all(&mut *session)
            .await?;
        let indexes: Vec<IndexRow> = query_as(INDEX_ROWS)
            .bind(&names)
            .fetch_all(&mut *session)
            .await?;
        let mut schema = Schema {
            tables: tables.into_iter().collect(),
            policies: &policies,
            pending: migrations::pending_if_told(&mut session).await?,
            replaced: expected::replaced(source),
            foreign: Vec::new(),
            read: Vec::new(),
        };
        schema.put_aside(source);
        let compared = objects::compare(&mut session, &schema).await?;
        session.commit().await?;
        Ok(Some(SchemaAudit {
            pending: schema
                .pending()
                .map(|(version, ..)| (*version).to_owned())
                .collect(),
            tables: schema.tables(&compared.remedy),
            row_security: schema.row_security(),
            policies: policies::audit(&schema, &policies),
            grants: compared.grants,
            functions: compared.functions,
            triggers: compared.triggers,
            indexes: schema.indexes(&indexes),
            keys: schema.keys(&indexes),
        }))
    }
}

/// The existing objects.
pub(super) struct Schema<'a> {
    /// Row level security by table.
    tables: HashMap<String, bool>,
    policies: &'a [PolicyRow],
    /// Pending migrations, if the role may read the record.
    pending: Option<Vec<Migration>>,
    /// Existing tables that the source does not read, as it reads others instead.
    replaced: Vec<&'static str>,
    /// Those of them that no migration created: the application's own, which are not checked.
    foreign: Vec<&'static str>,
    /// Those of them that the source reads nevertheless, for example with computed ids, with their
    /// row level security. That and what exposes their rows is checked, since they contain users'
    /// data.
    read: Vec<(&'static str, bool)>,
}

impl Schema<'_> {
    /// Ignores the application's own tables that are not read, or not in the role of ours.
    fn put_aside(&mut self, source: &Source) {
        let mut replaced = std::mem::take(&mut self.replaced);
        replaced.retain(|table| self.has(table));
        let foreign = replaced.iter().filter(|table| !self.is_ours(table));
        self.foreign = foreign.copied().collect();
        self.replaced = replaced;
        for &table in &self.foreign {
            let security = self.tables.remove(table);
            let read = security.filter(|_| expected::is_read(source, table));
            self.read.extend(read.map(|security| (table, security)));
        }
    }

    /// Whether a table is the application's own and is read in another role than ours.
    pub(super) fn reads_own(&self, table: &str) -> bool {
        self.read.iter().any(|(own, _)| *own == table)
    }

    /// Whether the speed and the keys of a table matter: it exists and is read.
    fn reads(&self, table: &str) -> bool {
        self.has(table) && !self.replaced.contains(&table)
    }

    /// Those of `tables` that exist and are not read.
    fn passed_over(&self, tables: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
        let mut over: Vec<_> = tables
            .filter(|table| self.replaced.contains(table))
            .collect();
        over.dedup();
        over
    }

    /// Whether the pending migrations are known.
    pub(super) fn tells_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether a pending migration contains these words. Its objects may then be missing or out of
    /// date.
    pub(super) fn is_pending(&self, words: &str) -> bool {
        self.pending().any(|(_, _, text)| text.contains(words))
    }

    fn pending(&self) -> impl Iterator<Item = &Migration> {
        self.pending.iter().flatten()
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// Whether we define the policies of a table.
    pub(super) fn is_ours(&self, table: &str) -> bool {
        OURS.contains(&table)
            || self.policies.iter().any(|(of, name, ..)| {
                of == table
                    && name.starts_with("twotower: ")
                    && !OF_COMPONENTS.contains(&name.as_str())
            })
    }

    /// Missing tables of ours that no pending migration creates.
    pub(super) fn missing_tables(&self) -> Vec<&'static str> {
        let is_missing = |table: &&&'static str| {
            let made = expected::migration_of(table);
            !self.has(table) && !self.pending().any(|(version, ..)| *version == made)
        };
        OURS.iter().filter(is_missing).copied().collect()
    }

    /// `remedy` recreates them.
    fn tables(&self, remedy: &str) -> Audit {
        let missing = self.missing_tables().into_iter();
        Audit {
            examined: OURS.len(),
            faults: missing
                .map(|table| Fault {
                    what: format!("table {table} is missing, though its migration is recorded"),
                    fix: remedy.to_owned(),
                })
                .collect(),
            ..Audit::default()
        }
    }

    fn row_security(&self) -> Audit {
        let off = expected::tables().filter(|&table| self.tables.get(table) == Some(&false));
        let own = self.read.iter().filter(|(_, security)| !security);
        let unread = self.foreign.iter().filter(|table| !self.reads_own(table));
        Audit {
            examined: self.tables.len() + self.read.len(),
            faults: off
                .map(|table| Fault {
                    what: format!("row level security of {table} is off"),
                    fix: format!("alter table {table} enable row level security;"),
                })
                .collect(),
            doubts: own
                .map(|(table, _)| Fault {
                    what: format!(
                        "row level security of {table}, a table of the application's own that [source] reads, is off: is this wanted? Where \
                         PostgREST serves the schema public, as Supabase's does, rights on the table alone keep anybody from its rows"
                    ),
                    // Without policies only its owner can see rows; the jobs and the server cannot.
                    fix: format!(
                        "in one transaction, enable row level security of {table} and create policies for the application's roles and for those of \
                         docs/supabase.md#roles-for-the-jobs;"
                    ),
                })
                .collect(),
            passed_over: unread.copied().collect(),
        }
    }

    fn indexes(&self, there: &[IndexRow]) -> Audit {
        let mut audit = Audit {
            passed_over: self.passed_over(LEADING.iter().map(|(table, _)| *table)),
            ..Audit::default()
        };
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
                Some((_, _, false, ..)) => audit.faults.push(Fault {
                    what: format!(
                        "index {name} of {table} is invalid: building it was interrupted"
                    ),
                    fix: format!("drop index concurrently {schema}.{name}; {create}"),
                }),
                Some(_) => {}
            }
        }
        for &(table, column) in LEADING.iter().filter(|(table, _)| self.reads(table)) {
            audit.examined += 1;
            let found = there.iter().any(|(of, _, valid, first, _)| {
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

    fn keys(&self, there: &[IndexRow]) -> Audit {
        let mut audit = Audit {
            passed_over: self.passed_over(KEYS.iter().map(|(table, _)| *table)),
            ..Audit::default()
        };
        for &(table, made) in KEYS.iter().filter(|(table, _)| self.reads(table)) {
            audit.examined += 1;
            let keys = || {
                there
                    .iter()
                    .filter(|(of, .., is_key)| of == table && *is_key)
            };
            if keys().any(|(_, _, valid, ..)| *valid) {
                continue;
            }
            let create =
                format!("create unique index concurrently {made} on {table} (user_id, video_id);");
            let schema = table.split('.').next().unwrap_or_default();
            audit.faults.push(match keys().next() {
                None => Fault {
                    what: format!("{table} has no unique key on (user_id, video_id)"),
                    fix: create,
                },
                Some((_, name, ..)) => Fault {
                    what: format!(
                        "the unique key {name} of {table} is invalid: building it failed"
                    ),
                    fix: format!("drop index concurrently {schema}.{name}; {create}"),
                },
            });
        }
        audit
    }
}
