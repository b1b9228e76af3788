//! What only migrations make: whether it is there, whether a function is what they made of it, and what makes it so again.

use super::super::Session;
use super::super::session::query_as;
use super::audit::Schema;
use super::expected::OURS;
use super::objects::Object;
use crate::StoreError;
use crate::inspection::{Audit, Fault};
use crate::postgres::migrations;

/// Functions of $1, each with a recorded migration that makes or changes it and is not of $2, the last first. A record of before statements
/// were kept in it says nothing.
const OTHERS: &str = "
    WITH record (version, words) AS MATERIALIZED (
        SELECT version, translate(lower(to_jsonb(applied) ->> 'statements'), '\\\"', '')
        FROM supabase_migrations.schema_migrations AS applied WHERE version <> ALL ($2)
    )
    SELECT name, version FROM unnest($1::text[]) AS asked (name)
    JOIN record ON words ~ ('(create|replace|alter) +function +' || name || ' *\\(')
    ORDER BY version DESC";

/// A function that is to be made again.
pub(super) struct Again<'a> {
    name: &'a str,
    what: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// It is there, and does something else.
    Changed,
    /// It is there, and takes or gives something else: `create or replace` would refuse.
    Reshaped,
}

impl<'a> Again<'a> {
    pub(super) fn missing(object: &Object<'a>) -> Self {
        Self {
            name: object.name,
            what: format!("function {} is missing", object.name),
            state: State::Missing,
        }
    }

    /// A function that is there, if it is another than the migrations made.
    pub(super) fn differing(wanted: &Object<'a>, found: &Object<'_>) -> Option<Self> {
        let there = found.definitions().next()?;
        if wanted.definitions().any(|made| made == there) {
            return None;
        }
        let (state, changed) = if wanted.definitions().any(|made| made.0 == there.0) {
            (State::Changed, "what it does")
        } else {
            (State::Reshaped, "what it takes or gives")
        };
        let owner = if wanted.is_as_owner() {
            ", with its owner's rights,"
        } else {
            ""
        };
        let name = wanted.name;
        Some(Self {
            name,
            what: format!(
                "function {name} is not as the migrations make it: {changed}{owner} was changed"
            ),
            state,
        })
    }

    /// The first migration that has to run again for it, and all that come after it. One that goes takes its rights along, which only those
    /// give it back that made it first.
    fn since(&self) -> &'static str {
        let words = making("function", self.name);
        if self.state == State::Changed {
            migrations::last_with(&words)
        } else {
            migrations::first_with(&words)
        }
    }
}

impl<'a> Object<'a> {
    /// Hashes of what a function takes and gives, and of what it does.
    fn definitions(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.lines
            .iter()
            .filter_map(|line| line.strip_prefix("definition ")?.split_once('-'))
    }

    /// Whether it runs with the rights of its owner.
    fn is_as_owner(&self) -> bool {
        self.note.contains(" as owner")
    }
}

/// Whether a migration is pending that makes or changes an object: then it is not there, or as of before, and that is what is the matter.
pub(super) fn is_pending(object: &Object<'_>, schema: &Schema<'_>) -> bool {
    let (kind, name) = (object.kind, object.name);
    schema.is_pending(&making(kind, name))
        || kind == "function" && schema.is_pending(&format!("alter function {}", opening(name)))
}

/// Says of these functions what is wrong, before what is wrong with others, and what makes all of them again.
pub(super) async fn tell(
    session: &mut Session,
    schema: &Schema<'_>,
    functions: &[Again<'_>],
    audit: &mut Audit,
) -> Result<(), StoreError> {
    if functions.is_empty() {
        return Ok(());
    }
    if !schema.tells_pending() {
        put_first(audit, functions.iter().map(|it| untold(&it.what)));
        return Ok(());
    }
    let others = others(session, functions).await?;
    let mut ours = Vec::new();
    for function in functions {
        let name = without_arguments(function.name);
        let last = migrations::last_with(&making("function", function.name));
        let other = others
            .iter()
            .find(|(of, version)| of == name && version.as_str() > last);
        match other {
            Some((_, version)) if function.state != State::Missing => audit.doubts.push(Fault {
                what: format!(
                    "{}; migration {version} makes or changes it, the application's own or a newer twotower's: is this wanted?",
                    function.what
                ),
                fix: remedy(&[function]),
            }),
            _ => ours.push(function),
        }
    }
    if ours.is_empty() {
        return Ok(());
    }
    let fix = remedy(&ours);
    let told = ours.iter().map(|function| Fault {
        what: if function.state == State::Missing {
            format!("{}, though its migration is recorded", function.what)
        } else {
            function.what.clone()
        },
        fix: fix.clone(),
    });
    put_first(audit, told);
    Ok(())
}

fn put_first(audit: &mut Audit, faults: impl Iterator<Item = Fault>) {
    let mut all: Vec<Fault> = faults.collect();
    all.append(&mut audit.faults);
    audit.faults = all;
}

/// Functions by name, and migrations in the record that make them and are none of ours.
async fn others(
    session: &mut Session,
    functions: &[Again<'_>],
) -> Result<Vec<(String, String)>, StoreError> {
    let names: Vec<&str> = functions
        .iter()
        .map(|it| without_arguments(it.name))
        .collect();
    Ok(query_as(OTHERS)
        .bind(names)
        .bind(migrations::known())
        .fetch_all(&mut **session)
        .await?)
}

/// What makes functions again, whatever of them is there.
fn remedy(functions: &[&Again<'_>]) -> String {
    let reshaped = functions.iter().filter(|it| it.state == State::Reshaped);
    let mut steps: Vec<String> = reshaped
        .map(|it| format!("drop function {};", it.name))
        .collect();
    let since = functions.iter().map(|it| it.since()).min();
    steps.push(migrated_since(since.unwrap_or_default()));
    steps.join(" ")
}

/// A schema or a sequence that is not there.
pub(super) fn missing(object: &Object<'_>, schema: &Schema<'_>) -> Option<Fault> {
    let what = format!("{} {} is missing", object.kind, object.name);
    if let Some((table, column)) = identity(object) {
        // Where the table is missing, that is what is told.
        return schema.has(table).then(|| Fault {
            what: format!("{what}: {column} of {table} is no identity any more"),
            fix: made_again(object),
        });
    }
    Some(if schema.tells_pending() {
        Fault {
            what: format!("{what}, though its migration is recorded"),
            fix: made_again(object),
        }
    } else {
        untold(&what)
    })
}

fn untold(what: &str) -> Fault {
    Fault {
        what: format!("{what}, and this role may not see whether its migration is recorded"),
        fix: "`twotower doctor` as the owner tells what to do;".into(),
    }
}

/// What makes a schema or a sequence again that is not there. Of what only a migration makes, those after it come again with it, as each can;
/// but none changes a table that is there.
fn made_again(object: &Object<'_>) -> String {
    match identity(object) {
        Some((table, column)) => format!(
            "alter table {table} alter column {column} add generated always as identity; \
             select setval('{}', coalesce((select max({column}) from {table}), 0) + 1, false);",
            object.name
        ),
        None => migrated_since(migrations::first_with(&making(object.kind, object.name))),
    }
}

/// Each migration can be run again, and one leaves things as it knew them: all that follow have to run, too. By their versions, since the
/// application has its own migrations in the same record, which need not be such.
pub(super) fn migrated_since(version: &str) -> String {
    let known = migrations::known().into_iter();
    let again: Vec<String> = known
        .filter(|known| *known >= version)
        .map(|known| format!("'{known}'"))
        .collect();
    format!(
        "delete from supabase_migrations.schema_migrations where version in ({}); then `twotower migrate`",
        again.join(", ")
    )
}

/// Table and column of a sequence that came with an identity, which no migration names.
fn identity<'a>(object: &Object<'a>) -> Option<(&'static str, &'a str)> {
    let stem = object.name.strip_suffix("_seq")?;
    OURS.iter().find_map(|&table| {
        let column = stem.strip_prefix(table)?.strip_prefix('_')?;
        Some((table, column))
    })
}

/// What a migration has in it that makes a function, a schema or a sequence.
fn making(kind: &str, name: &str) -> String {
    match kind {
        "function" => format!("create or replace function {}", opening(name)),
        kind => format!("create {kind} if not exists {name}"),
    }
}

/// A name as the migration has it that makes it: of a function with the parenthesis, since others may begin alike.
fn opening(name: &str) -> &str {
    let end = name.find('(').map_or(name.len(), |at| at + 1);
    &name[..end]
}

/// The name of a function without its arguments.
fn without_arguments(name: &str) -> &str {
    opening(name).trim_end_matches('(')
}

/// Whose rights a function runs with, what it finds names by, and whose it is.
pub(super) fn altered(wanted: &Object<'_>, found: &Object<'_>) -> Option<Fault> {
    if wanted.note == found.note {
        return None;
    }
    let name = wanted.name;
    let (what, change) = if wanted.is_as_owner() && !found.is_as_owner() {
        ("runs with its caller's rights", "security definer".into())
    } else if found.is_as_owner() && !wanted.is_as_owner() {
        ("runs with its owner's rights", "security invoker".into())
    } else if let Some((_, owner)) = found.note.split_once(" NOT owned by ") {
        (
            "belongs to another role than the schema of twotower",
            format!("owner to {owner}"),
        )
    } else if wanted.note.contains(" WITHOUT search_path") {
        (
            "has a search_path of its own, and keeps indexes from being used",
            "reset search_path".into(),
        )
    } else {
        (
            "looks names up in schemas that it does not name",
            "set search_path = ''".into(),
        )
    };
    Some(Fault {
        what: format!("function {name} {what}: the migration made it otherwise"),
        fix: format!("alter function {name} {change};"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::objects::{LIST, parse};
    use super::*;

    #[test]
    fn a_migration_makes_each_of_them() {
        for object in parse(LIST) {
            let name = object.name;
            assert!(!object.lines.is_empty(), "{name}");
            let definitions = object.definitions().count();
            assert_eq!(definitions > 0, object.kind == "function", "{name}");
            // Of the others that they are missing is told elsewhere, or not ours to tell.
            let told = match object.kind {
                "table" | "trigger" => false,
                "schema" => name == "twotower",
                _ => true,
            };
            let fix = made_again(&object);
            if let Some((table, column)) = identity(&object) {
                assert_eq!(name, format!("{table}_{column}_seq"));
                assert!(fix.starts_with(&format!("alter table {table} ")), "{fix}");
            } else if told {
                let making = making(object.kind, name);
                let (first, last) = (
                    migrations::first_with(&making),
                    migrations::last_with(&making),
                );
                assert_eq!((first.len(), last.len()), (14, 14), "{name}");
                assert!(first <= last, "{name}");
                assert!(fix.contains(&format!("in ('{first}'")), "{fix}");
            }
        }
        let identities = parse(LIST).iter().filter_map(identity).count();
        assert_eq!(identities, 4);
    }

    /// What goes takes its rights along, and what stays keeps them.
    #[test]
    fn what_mends_several_functions_is_said_once() {
        let list = parse(LIST);
        let named = |name: &str| list.iter().find(|it| it.name == name).unwrap();
        let changed = |name: &str, definition: &str| {
            let wanted = named(name);
            let found = Object {
                lines: vec![definition],
                ..wanted.clone()
            };
            Again::differing(wanted, &found)
        };
        let caller = "twotower.caller()";
        let (shape, text) = named(caller).definitions().next().unwrap();
        let same = format!("definition {shape}-{text}");
        let other_text = format!("definition {shape}-0");
        let other_shape = format!("definition 0-{text}");
        assert!(changed(caller, &same).is_none());
        let edited = changed(caller, &other_text).unwrap();
        assert_eq!(edited.state, State::Changed);
        let erase = "twotower.erase_user(user_id uuid, application_tables boolean)";
        let reshaped = changed(erase, &other_shape).unwrap();
        assert_eq!(reshaped.state, State::Reshaped);
        assert!(reshaped.what.contains("owner's rights"));
        assert_eq!(remedy(&[&edited]), migrated_since("20261128000100"));
        let (shape, _) = named(erase).definitions().next().unwrap();
        let other_text = format!("definition {shape}-0");
        let edited_again = changed(erase, &other_text).unwrap();
        let last = migrations::last_with("create or replace function twotower.erase_user(");
        assert!(last > "20261126000000");
        assert_eq!(remedy(&[&edited_again]), migrated_since(last));
        assert_eq!(
            remedy(&[&edited, &reshaped]),
            format!(
                "drop function {erase}; {}",
                migrated_since("20261126000000")
            )
        );
    }
}
