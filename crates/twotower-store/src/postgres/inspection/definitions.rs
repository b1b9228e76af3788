//! Objects that only migrations create: whether they exist, whether a function matches, and what
//! recreates them.

use super::super::Session;
use super::super::migrations::{self, statements};
use super::super::session::query_as;
use super::audit::Schema;
use super::expected::OURS;
use super::objects::{Compared, Object};
use crate::StoreError;
use crate::inspection::{Audit, Fault};

/// Functions of $1, each with a recorded migration that creates or changes it and is not in $2,
/// last first. A record from before statements were kept in it has no text to match.
const OTHERS: &str = "
    WITH record (version, words) AS MATERIALIZED (
        SELECT version, translate(lower(to_jsonb(applied) ->> 'statements'), '\\\"', '')
        FROM supabase_migrations.schema_migrations AS applied WHERE version <> ALL ($2)
    )
    SELECT name, version FROM unnest($1::text[]) AS asked (name)
    JOIN record ON words ~ ('(create|replace|alter) +function +' || name || ' *\\(')
    ORDER BY version DESC";

/// Functions with the names $1: name, arguments with their names, and types of the given arguments.
const NAMESAKES: &str = "
    SELECT nspname || '.' || proname, pg_get_function_identity_arguments(pg_proc.oid),
           ARRAY(SELECT format_type(type, NULL) FROM unnest(proargtypes) WITH ORDINALITY AS given (type, place) ORDER BY place)
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname || '.' || proname = ANY ($1)";

/// A function to be recreated.
pub(super) struct Again<'a> {
    name: &'a str,
    what: String,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Missing,
    /// It exists with another body.
    Changed,
    /// It exists under this name with other arguments, result or argument names: `create or
    /// replace` would be refused.
    Reshaped(String),
}

impl<'a> Again<'a> {
    pub(super) fn missing(object: &Object<'a>) -> Self {
        Self {
            name: object.name,
            what: format!("function {} is missing", object.name),
            state: State::Missing,
        }
    }

    /// An existing function, if it differs from the migrations'.
    pub(super) fn differing(wanted: &Object<'a>, found: &Object<'_>) -> Option<Self> {
        let there = found.definitions().next()?;
        if wanted.definitions().any(|made| made == there) {
            return None;
        }
        let (state, changed) = if wanted.definitions().any(|made| made.0 == there.0) {
            (State::Changed, "what it does")
        } else {
            (
                State::Reshaped(wanted.name.to_owned()),
                "what it takes or gives",
            )
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

    /// A seemingly missing function exists with other argument names.
    fn renamed(&mut self, there: String) {
        self.what = format!(
            "function {} is not as the migrations make it: it takes or gives the same by other names, as {there}",
            self.name
        );
        self.state = State::Reshaped(there);
    }
}

impl<'a> Object<'a> {
    /// Hashes of a function's signature and of its body.
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

/// Whether a pending migration creates or changes an object. It is then missing or out of date, and
/// the migration is the remedy.
pub(super) fn is_pending(object: &Object<'_>, schema: &Schema<'_>) -> bool {
    let (kind, name) = (object.kind, object.name);
    schema.is_pending(&making(kind, name))
        || kind == "function" && schema.is_pending(&format!("alter function {}", opening(name)))
}

/// Objects that only migrations create, and that are to be recreated.
#[derive(Default)]
pub(super) struct Lost<'a> {
    /// Missing schemas and sequences.
    pub(super) others: Vec<Object<'a>>,
    pub(super) functions: Vec<Again<'a>>,
}

/// Reports the faults, functions before others, and what recreates all of them, including missing
/// tables: one may need the other.
pub(super) async fn tell(
    session: &mut Session,
    schema: &Schema<'_>,
    mut lost: Lost<'_>,
    compared: &mut Compared,
) -> Result<(), StoreError> {
    let mut names = schema.missing_tables();
    if names.is_empty() && lost.others.is_empty() && lost.functions.is_empty() {
        return Ok(());
    }
    find_renamed(session, &mut lost.functions).await?;
    let functions = &lost.functions;
    let Compared {
        grants,
        functions: audit,
        ..
    } = compared;
    if !schema.tells_pending() {
        let others = lost.others.iter().map(|it| untold(&missing(it)));
        grants.faults.extend(others);
        put_first(audit, functions.iter().map(|it| untold(&it.what)));
        compared.remedy = remedy(&names, &[]);
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
                fix: remedy(&[], &[function]),
            }),
            _ => ours.push(function),
        }
    }
    names.extend(lost.others.iter().map(|it| it.name));
    let fix = remedy(&names, &ours);
    let recorded = |what: String| format!("{what}, though its migration is recorded");
    grants.faults.extend(lost.others.iter().map(|it| Fault {
        what: recorded(missing(it)),
        fix: fix.clone(),
    }));
    let told = ours.iter().map(|function| Fault {
        what: if function.state == State::Missing {
            recorded(function.what.clone())
        } else {
            function.what.clone()
        },
        fix: fix.clone(),
    });
    put_first(audit, told);
    compared.remedy = fix;
    Ok(())
}

/// Some missing functions may exist under the same name and types, with another argument name.
async fn find_renamed(
    session: &mut Session,
    functions: &mut [Again<'_>],
) -> Result<(), StoreError> {
    let missing = || functions.iter().filter(|it| it.state == State::Missing);
    let names: Vec<&str> = missing().map(|it| without_arguments(it.name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let there: Vec<(String, String, Vec<String>)> = query_as(NAMESAKES)
        .bind(names)
        .fetch_all(&mut **session)
        .await?;
    for function in functions {
        let namesake = there.iter().find(|(name, _, types)| {
            name == without_arguments(function.name) && takes(function.name, types)
        });
        if let (State::Missing, Some((name, arguments, _))) = (&function.state, namesake) {
            function.renamed(format!("{name}({arguments})"));
        }
    }
    Ok(())
}

/// Whether a function of the list, with its arguments, takes values of these types.
fn takes(function: &str, types: &[String]) -> bool {
    let arguments = function[opening(function).len()..].trim_end_matches(')');
    let given: Vec<&str> = arguments
        .split(", ")
        .filter(|argument| !argument.is_empty() && !argument.starts_with("OUT "))
        .collect();
    let is_of = |argument: &str, of: &str| {
        let name = argument.strip_suffix(of);
        name.is_some_and(|name| name.is_empty() || name.ends_with(' '))
    };
    given.len() == types.len() && given.iter().zip(types).all(|(given, of)| is_of(given, of))
}

fn put_first(audit: &mut Audit, faults: impl Iterator<Item = Fault>) {
    let mut all: Vec<Fault> = faults.collect();
    all.append(&mut audit.faults);
    audit.faults = all;
}

/// Functions by name, and recorded migrations that create them and are not ours.
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

/// The command that recreates objects and functions, with a note on what it replaces. The record of
/// migrations stays unchanged: running one again would undo later changes of the application.
fn remedy(objects: &[&str], functions: &[&Again<'_>]) -> String {
    let drops = functions.iter().filter_map(|it| match &it.state {
        State::Reshaped(there) => Some(format!("drop function {there}; ")),
        _ => None,
    });
    let drops: Vec<String> = drops.collect();
    let then = if drops.is_empty() { "" } else { "then " };
    let mut names = objects.to_vec();
    names.extend(functions.iter().map(|it| without_arguments(it.name)));
    names.dedup();
    format!(
        "{}{then}`twotower migrate --again {}`, which replaces what is named there and nothing else;",
        drops.concat(),
        names.join(",")
    )
}

fn missing(object: &Object<'_>) -> String {
    format!("{} {} is missing", object.kind, object.name)
}

/// A sequence of an identity column, which no migration names. If its table is missing, that is
/// reported instead.
pub(super) fn missing_identity(object: &Object<'_>, schema: &Schema<'_>) -> Option<Fault> {
    let (table, column) = identity(object)?;
    schema.has(table).then(|| Fault {
        what: format!(
            "{}: {column} of {table} is no identity any more",
            missing(object)
        ),
        fix: format!(
            "alter table {table} alter column {column} add generated always as identity; \
             select setval('{}', coalesce((select max({column}) from {table}), 0) + 1, false);",
            object.name
        ),
    })
}

/// Kind and name of each object that can be recreated alone; functions without arguments. Tables of
/// the application are not among them.
pub(super) fn made_alone<'a>(objects: &[Object<'a>]) -> Vec<(&'a str, &'a str)> {
    let is_made = |object: &&Object<'_>| match object.kind {
        "function" => true,
        "table" => OURS.contains(&object.name),
        "sequence" => identity(object).is_none(),
        "schema" => object.name == "twotower",
        _ => false,
    };
    let mut made: Vec<_> = objects
        .iter()
        .filter(is_made)
        .map(|object| (object.kind, without_arguments(object.name)))
        .collect();
    // Functions of one name stand side by side in the list, and are recreated together.
    made.dedup();
    made
}

fn untold(what: &str) -> Fault {
    Fault {
        what: format!("{what}, and this role may not see whether its migration is recorded"),
        fix: "`twotower doctor` as the owner tells what to do;".into(),
    }
}

/// Table and column of the sequence of an identity column, which no migration names.
pub(super) fn identity<'a>(object: &Object<'a>) -> Option<(&'static str, &'a str)> {
    let stem = object.name.strip_suffix("_seq")?;
    OURS.iter().find_map(|&table| {
        let column = stem.strip_prefix(table)?.strip_prefix('_')?;
        Some((table, column))
    })
}

/// Text in a migration that creates a function, a schema or a sequence.
fn making(kind: &str, name: &str) -> String {
    match kind {
        "function" => format!("create or replace function {}", opening(name)),
        kind => format!("create {kind} if not exists {name}"),
    }
}

/// A name as written in the migration that creates it; for a function with the parenthesis, since
/// other names may begin alike.
fn opening(name: &str) -> &str {
    let end = name.find('(').map_or(name.len(), |at| at + 1);
    &name[..end]
}

/// Name of a function without its arguments.
fn without_arguments(name: &str) -> &str {
    opening(name).trim_end_matches('(')
}

/// The rights that a function runs with, its search path, and its owner.
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
    } else {
        match statements::search_path(without_arguments(name)) {
            None => (
                "has a search_path of its own, and keeps indexes from being used",
                "reset search_path".into(),
            ),
            // Functions that read the application's tables find them and their operators in
            // `public`.
            Some(path) => (
                "looks names up in schemas that it does not name",
                format!("set search_path = {path}"),
            ),
        }
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
        let list = parse(LIST);
        for (kind, name) in made_alone(&list) {
            let made = statements::that_make(&[(kind, name)]);
            let makes = |statement: &String| {
                statement.contains(&match kind {
                    "function" => format!("create or replace function {name}("),
                    // Some are created by `format()`.
                    "table" => "create table if not exists ".into(),
                    kind => format!("create {kind} if not exists {name}"),
                })
            };
            assert!(made.iter().any(makes), "{kind} {name}");
        }
        for object in list {
            let name = object.name;
            assert!(!object.lines.is_empty(), "{name}");
            let definitions = object.definitions().count();
            assert_eq!(definitions > 0, object.kind == "function", "{name}");
            if object.kind == "function" {
                let last = migrations::last_with(&making("function", name));
                assert_eq!(last.len(), 14, "{name}");
                let has_none = object.note.contains(" WITHOUT search_path");
                let path = statements::search_path(without_arguments(name));
                assert_eq!(path.is_none(), has_none, "{name}");
            }
        }
        let identities = parse(LIST).iter().filter_map(identity).count();
        assert_eq!(identities, 4);
    }

    /// `--again` takes names without kinds and arguments.
    #[test]
    fn no_two_of_them_have_one_name() {
        let list = parse(LIST);
        let mut names: Vec<&str> = made_alone(&list).iter().map(|(_, name)| *name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.contains(&"twotower.caller") && names.contains(&"twotower.models"));
        assert!(!names.contains(&"public.likes") && !names.contains(&"public"));
    }

    #[test]
    fn arguments_are_compared_by_their_types() {
        let types = |types: &[&str]| -> Vec<String> { types.iter().map(|&it| it.into()).collect() };
        let write =
            "a.b(user_id uuid, \"limit\" integer, as_of timestamp with time zone, OUT c text)";
        let given = ["uuid", "integer", "timestamp with time zone"];
        assert!(takes(write, &types(&given)));
        assert!(!takes(write, &types(&given[..2])));
        assert!(!takes(
            write,
            &types(&["uuid", "integer", "time with time zone"])
        ));
        assert!(takes("a.b()", &[]) && !takes("a.b()", &types(&["uuid"])));
        assert!(takes(
            "a.b(text, dim integer)",
            &types(&["text", "integer"])
        ));
        assert!(
            !takes("a.b(text)", &types(&["citext"])) && !takes("a.b(x citext)", &types(&["text"]))
        );
    }

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
        assert_eq!(reshaped.state, State::Reshaped(erase.into()));
        assert!(reshaped.what.contains("owner's rights"));
        assert_eq!(
            remedy(&[], &[&edited]),
            "`twotower migrate --again twotower.caller`, which replaces what is named there and nothing else;"
        );
        assert_eq!(
            remedy(&["twotower.models"], &[&edited, &reshaped]),
            format!(
                "drop function {erase}; then `twotower migrate --again twotower.models,twotower.caller,twotower.erase_user`, \
                 which replaces what is named there and nothing else;"
            )
        );
    }
}
