//! Compares our objects and their privileges in the database with `objects.txt`. Both are in the
//! same form.

use super::super::Session;
use super::super::session::{query_as, query_scalar};
use super::audit::Schema;
use super::definitions::{self, Again, Lost};
use super::expected::{APPLICATION, LIKES, OURS, SKIPS};
use crate::StoreError;
use crate::inspection::{Audit, Fault};
use std::collections::{HashMap, HashSet};

pub(super) const LIST: &str = include_str!("objects.txt");
const QUERY: &str = include_str!("objects.sql");

/// PUBLIC, as spelled by `objects.sql`.
const EVERYBODY: &str = "public";

/// Roles whose privileges must not exceed the list: every token holder, and everything reachable
/// from the Internet. Other roles are up to the operator.
const STRANGERS: [&str; 4] = [EVERYBODY, "anon", "authenticated", "twotower_server"];

/// Result of the comparison.
pub(super) struct Compared {
    pub(super) grants: Audit,
    pub(super) functions: Audit,
    pub(super) triggers: Audit,
    /// Statements that recreate missing objects, including tables.
    pub(super) remedy: String,
}

/// An object, with the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object<'a> {
    /// `schema`, `table`, `sequence`, `function` or `trigger`.
    pub(super) kind: &'a str,
    /// Name with its schema; for a function with its arguments, for a trigger with its table.
    pub(super) name: &'a str,
    /// Properties that differ from the default.
    pub(super) note: &'a str,
    pub(super) lines: Vec<&'a str>,
}

/// A privilege of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right<'a> {
    role: &'a str,
    verb: &'a str,
    /// Columns in parentheses; empty for all.
    columns: &'a str,
}

pub(super) fn parse(text: &str) -> Vec<Object<'_>> {
    let mut objects: Vec<Object<'_>> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match (line.strip_prefix("    "), objects.last_mut()) {
            (Some(below), Some(object)) => object.lines.push(below),
            _ => objects.push(Object::headed(line)),
        }
    }
    objects
}

impl<'a> Object<'a> {
    fn headed(line: &'a str) -> Self {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let end = match kind {
            "function" => rest.rfind(')').map(|at| at + 1),
            "trigger" => rest.find(" DISABLED"),
            _ => rest.find(' '),
        };
        let (name, note) = rest.split_at(end.unwrap_or(rest.len()));
        Self {
            kind,
            name,
            note,
            lines: Vec::new(),
        }
    }

    fn rights(&self) -> Vec<Right<'a>> {
        let mut rights = Vec::new();
        for (role, verbs) in self.lines.iter().filter_map(|line| line.split_once(": ")) {
            let mut depth = 0;
            let outside = verbs.split(|c: char| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                c == ',' && depth == 0
            });
            rights.extend(outside.map(|verb| {
                let (verb, columns) = verb.trim().split_once(' ').unwrap_or((verb.trim(), ""));
                Right {
                    role,
                    verb,
                    columns,
                }
            }));
        }
        rights
    }

    /// The table that the object is, or belongs to.
    fn table(&self) -> Option<&'a str> {
        match self.kind {
            "table" => Some(self.name),
            "trigger" => self.name.split_once(" on ").map(|(_, table)| table),
            _ => None,
        }
    }

    /// Name of the object in GRANT and REVOKE.
    fn target(&self) -> String {
        match self.kind {
            "table" => self.name.to_owned(),
            kind => format!("{kind} {}", self.name),
        }
    }

    /// Statement that `role` has the privilege, or should not have it.
    fn says(&self, role: &str, may: bool, verb: &str, columns: &str) -> String {
        let target = self.target();
        let text = match (self.kind, may) {
            ("table", true) => format!("role {role} may {verb} {columns} {target}"),
            ("table", false) => format!("role {role} may not {verb} {columns} {target}"),
            (_, true) => format!("role {role} has {verb} on {target}"),
            (_, false) => format!("role {role} lacks {verb} on {target}"),
        };
        text.replace("  ", " ")
    }

    /// Whether we define the object's privileges. Not for the public schema and the record of
    /// migrations.
    fn is_ours(&self, schema: &Schema<'_>) -> bool {
        match self.kind {
            "table" => schema.has(self.name) && schema.is_ours(self.name),
            "trigger" => self.table().is_some_and(|table| schema.has(table)),
            "function" => true,
            _ => self.name == "twotower" || self.name.starts_with("twotower."),
        }
    }
}

impl Right<'_> {
    /// Whether this privilege includes `asked`.
    fn covers(&self, asked: &Right<'_>) -> bool {
        let columns = |of: &str| -> HashSet<String> {
            let names = of.trim_matches(['(', ')']).split(", ");
            names.map(str::to_owned).collect()
        };
        self.role == asked.role
            && self.verb == asked.verb
            && (self.columns.is_empty()
                || !asked.columns.is_empty()
                    && columns(self.columns).is_superset(&columns(asked.columns)))
    }
}

pub(super) async fn compare(
    session: &mut Session,
    schema: &Schema<'_>,
) -> Result<Compared, StoreError> {
    let expected = parse(LIST);
    let names: Vec<String> = expected
        .iter()
        .map(|object| format!("{} {}", object.kind, object.name))
        .collect();
    let rows: Vec<(String, String)> = query_as(QUERY)
        .bind(&names)
        .fetch_all(&mut **session)
        .await?;
    let roles: Vec<String> = query_scalar("SELECT rolname::text FROM pg_roles")
        .fetch_all(&mut **session)
        .await?;
    let lines: Vec<&str> = rows
        .iter()
        .flat_map(|(object, who)| [object.as_str(), who])
        .collect();
    let text = lines.join("\n");
    let found: HashMap<_, _> = parse(&text)
        .into_iter()
        .map(|object| ((object.kind, object.name), object))
        .collect();
    let roles: HashSet<&str> = roles.iter().map(String::as_str).collect();

    let mut compared = Compared {
        grants: Audit::default(),
        functions: Audit::default(),
        triggers: Audit::default(),
        remedy: String::new(),
    };
    let mut lost = Lost::default();
    if let Some(public) = found.get(&("schema", "public")) {
        creators(public, &mut compared.grants);
    }
    for object in expected.iter().filter(|object| object.is_ours(schema)) {
        let audit = match object.kind {
            "function" => &mut compared.functions,
            "trigger" => &mut compared.triggers,
            _ => &mut compared.grants,
        };
        let there = found.get(&(object.kind, object.name));
        if object.kind == "trigger" {
            trigger(object, there, schema, audit);
            continue;
        }
        let is_pending = definitions::is_pending(object, schema);
        let Some(there) = there else {
            if is_pending {
                continue;
            }
            if object.kind == "function" {
                audit.examined += 1;
                lost.functions.push(Again::missing(object));
                continue;
            }
            if definitions::identity(object).is_some() {
                let fault = definitions::missing_identity(object, schema);
                audit.examined += usize::from(fault.is_some());
                audit.faults.extend(fault);
            } else {
                audit.examined += 1;
                lost.others.push(object.clone());
            }
            continue;
        };
        if object.kind == "function" {
            audit.examined += 1;
            // It may be out of date; the pending migration then updates it.
            if !is_pending {
                match definitions::altered(object, there) {
                    Some(fault) => audit.faults.push(fault),
                    None => lost.functions.extend(Again::differing(object, there)),
                }
            }
        }
        lacking(object, there, &roles, audit);
        excessive(object, there, audit);
    }
    definitions::tell(session, schema, lost, &mut compared).await?;
    Ok(compared)
}

fn trigger(
    wanted: &Object<'_>,
    found: Option<&Object<'_>>,
    schema: &Schema<'_>,
    audit: &mut Audit,
) {
    let (Some((name, table)), [made]) = (wanted.name.split_once(" on "), &wanted.lines[..]) else {
        return;
    };
    let is_as_made = found.is_some_and(|found| found.lines == wanted.lines);
    // Objects of a pending migration are missing or out of date.
    if !is_as_made && schema.is_pending(&format!("trigger {name} ")) {
        return;
    }
    // A table of the application's own may lack the columns.
    if found.is_none() && !schema.is_ours(table) {
        return;
    }
    audit.examined += 1;
    let (wrong, fix) = match found {
        None => ("is missing", format!("{made};")),
        Some(_) if !is_as_made => (
            "is not as the migration made it",
            format!("drop trigger {name} on {table}; {made};"),
        ),
        Some(found) if !found.note.is_empty() => (
            "is disabled",
            format!("alter table {table} enable trigger {name};"),
        ),
        Some(_) => return,
    };
    audit.faults.push(Fault {
        what: format!("trigger {name} of {table} {wrong}"),
        fix,
    });
}

/// Missing privileges. None is required of PUBLIC: roles that lost a privilege with it are reported
/// by name.
fn lacking(wanted: &Object<'_>, found: &Object<'_>, roles: &HashSet<&str>, audit: &mut Audit) {
    let there = found.rights();
    let target = wanted.target();
    for right in wanted.rights() {
        let Right {
            role,
            verb,
            columns,
        } = right;
        if role == EVERYBODY {
            continue;
        }
        audit.examined += 1;
        let verb = verb.to_uppercase();
        let fault = if !roles.contains(role) {
            Fault {
                what: format!("role {role} does not exist"),
                fix: format!("create role {role} nologin;"),
            }
        } else if there.iter().any(|have| have.covers(&right)) {
            continue;
        } else {
            Fault {
                what: wanted.says(role, false, &verb, ""),
                fix: format!("grant {verb} {columns} on {target} to {role};").replace("  ", " "),
            }
        };
        if !audit.faults.contains(&fault) {
            audit.faults.push(fault);
        }
    }
}

/// Excess privileges of untrusted roles. Those of PUBLIC are reported once.
fn excessive(wanted: &Object<'_>, found: &Object<'_>, audit: &mut Audit) {
    let expected = wanted.rights();
    let there = found.rights();
    let target = wanted.target();
    for right in there
        .iter()
        .filter(|right| STRANGERS.contains(&right.role) && minds(wanted, right))
    {
        audit.examined += 1;
        let own = expected
            .iter()
            .find(|own| (own.role, own.verb) == (right.role, right.verb));
        let is_known = own.is_some_and(|own| own.covers(right) || !is_ours_alone(wanted));
        let of_everybody = |other: &Right<'_>| {
            other.covers(&Right {
                role: EVERYBODY,
                ..*right
            })
        };
        if is_known || right.role != EVERYBODY && there.iter().any(of_everybody) {
            continue;
        }
        let Right {
            role,
            verb,
            columns,
        } = right;
        let verb = verb.to_uppercase();
        let again = match own {
            Some(own) => format!(" grant {verb} {} on {target} to {role};", own.columns),
            None => String::new(),
        };
        audit.faults.push(Fault {
            what: format!(
                "{}, and should not",
                wanted.says(role, true, &verb, columns)
            ),
            fix: format!("revoke {verb} {columns} on {target} from {role};{again}")
                .replace("  ", " "),
        });
    }
}

/// Who may create objects in the public schema, whose owner is the operator. A function there can fit
/// a call better than the one that was meant, in statements of other roles that look for names
/// there. PUBLIC may create them where the database began before PostgreSQL 15.
fn creators(public: &Object<'_>, audit: &mut Audit) {
    audit.examined += 1;
    let rights = public.rights();
    // PUBLIC comes first, and everybody else has what it has.
    let creator = rights
        .iter()
        .find(|right| right.verb == "create" && right.role != "service_role");
    if let Some(Right { role, .. }) = creator {
        audit.doubts.push(Fault {
            what: format!(
                "role {role} may create objects in schema public, such as functions that others then run"
            ),
            fix: format!("revoke create on schema public from {role};"),
        });
    }
}

fn is_ours_alone(object: &Object<'_>) -> bool {
    object.kind != "table" || OURS.contains(&object.name)
}

/// Whether an excess privilege matters. On the application's own tables, which may have more
/// columns and readers, only access of untrusted roles to users' rows does, and TRUNCATE, which
/// ignores policies.
fn minds(object: &Object<'_>, right: &Right<'_>) -> bool {
    if !APPLICATION.contains(&object.name) {
        return true;
    }
    [LIKES, SKIPS].contains(&object.name)
        && !["references", "trigger"].contains(&right.verb)
        && ([EVERYBODY, "anon"].contains(&right.role)
            || (right.role, right.verb) == ("authenticated", "truncate"))
}

#[cfg(test)]
mod tests {
    use super::super::expected;
    use super::*;

    /// A table that a new migration adds must be among the checked ones.
    #[test]
    fn tables_of_the_list_are_those_that_are_looked_at() {
        let listed: HashSet<&str> = parse(LIST)
            .iter()
            .filter_map(|object| (object.kind == "table").then_some(object.name))
            .filter(|name| *name != "supabase_migrations.schema_migrations")
            .collect();
        assert_eq!(listed, expected::tables().collect());
    }

    #[test]
    fn rights_of_columns_are_told_apart() {
        let text =
            "table a.b WITHOUT row security\n    x: select, insert (c, d), delete\n    nobody\n";
        let [object] = &parse(text)[..] else {
            panic!("{:?}", parse(text));
        };
        assert_eq!((object.name, object.note), ("a.b", " WITHOUT row security"));
        let right = |verb, columns| Right {
            role: "x",
            verb,
            columns,
        };
        let insert = right("insert", "(c, d)");
        let rights = [right("select", ""), insert, right("delete", "")];
        assert_eq!(object.rights(), rights);
        assert!(insert.covers(&right("insert", "(d)")) && !insert.covers(&right("insert", "")));
        assert!(!insert.covers(&right("insert", "(e)")) && right("insert", "").covers(&insert));
    }
}
