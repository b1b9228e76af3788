//! The migrations split into statements, to find those that create an object and set its
//! privileges.

use super::MIGRATIONS;
use std::ops::Range;
use std::sync::LazyLock;

const CREATE_FUNCTION: &str = "create or replace function ";

/// Text before the name of a function in statements about it.
const OF_FUNCTIONS: [&str; 4] = [
    CREATE_FUNCTION,
    "alter function ",
    "drop function if exists ",
    "on function ",
];

const SEARCH_PATH: &str = "set search_path = ";

static STATEMENTS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    MIGRATIONS
        .iter()
        .flat_map(|(_, _, text)| split(text))
        .collect()
});

/// The statements that create these objects, in order. Each object is a kind (`schema`, `sequence`,
/// `table` or `function`) and a name, of a function without its arguments. Each statement can be
/// run repeatedly.
///
/// A statement about several tables is reduced to these: the others may have been changed on
/// purpose, or be busy.
pub(in crate::postgres) fn that_make(objects: &[(&str, &str)]) -> Vec<String> {
    STATEMENTS
        .iter()
        .filter_map(|statement| part(statement, objects))
        .collect()
}

/// The part of a statement that is about these objects; `None` if it is about others.
fn part(statement: &str, objects: &[(&str, &str)]) -> Option<String> {
    let is_of_one = |(kind, name): &(&str, &str)| is_of(statement, kind, name);
    let (functions, others): (Vec<_>, Vec<_>) =
        objects.iter().partition(|(kind, _)| *kind == "function");
    if is_support(statement) || functions.into_iter().any(is_of_one) {
        return Some(statement.to_owned());
    }
    let relations: Vec<&str> = others
        .into_iter()
        .filter(|it| is_of_one(it))
        .map(|(_, name)| *name)
        .collect();
    if relations.is_empty() {
        None
    } else if is_block(statement) {
        Some(block_of(statement, &relations))
    } else {
        Some(rights_on(statement, &relations))
    }
}

/// A block whose lists of tables are reduced to these.
fn block_of(block: &str, relations: &[&str]) -> String {
    let mut kept = String::new();
    let mut at = 0;
    for (range, elements) in lists(block) {
        let own: Vec<&str> = elements
            .into_iter()
            .filter(|element| relations.iter().any(|name| is_named(element, name)))
            .collect();
        // A list of something else, such as roles.
        if own.is_empty() {
            continue;
        }
        kept.push_str(&block[at..range.start]);
        kept.push_str(&own.join(", "));
        at = range.end;
    }
    kept + &block[at..]
}

/// `grant` and `revoke` reduced to these objects; any other statement unchanged.
fn rights_on(statement: &str, relations: &[&str]) -> String {
    let end = match statement.split_once(' ') {
        Some(("grant", _)) => " to ",
        Some(("revoke", _)) => " from ",
        _ => return statement.to_owned(),
    };
    let parts = statement
        .split_once(" on ")
        .and_then(|(head, rest)| Some((head, rest, rest.find(end)?)));
    let Some((head, rest, at)) = parts else {
        return statement.to_owned();
    };
    let kind = ["schema ", "sequence "]
        .into_iter()
        .find(|kind| rest.starts_with(kind))
        .unwrap_or_default();
    let own: Vec<&str> = rest[kind.len()..at]
        .split(',')
        .map(str::trim)
        .filter(|name| relations.contains(name))
        .collect();
    format!("{head} on {kind}{}{}", own.join(", "), &rest[at..])
}

/// The `search_path` that the migrations set for a function; `None` if it has none of its own.
pub(in crate::postgres) fn search_path(function: &str) -> Option<&'static str> {
    let mut path = None;
    for statement in STATEMENTS.iter().filter(|it| is_of_function(it, function)) {
        let head = statement.split("$$").next().unwrap_or_default();
        let given = head.split_once(SEARCH_PATH).map(|(_, value)| {
            let end = value.find(['\n', ';']).unwrap_or(value.len());
            &value[..end]
        });
        // Recreating a function without one removes it.
        if given.is_some() || statement.starts_with(CREATE_FUNCTION) {
            path = given;
        }
    }
    path
}

fn is_of(statement: &str, kind: &str, name: &str) -> bool {
    match kind {
        "function" => is_of_function(statement, name),
        "schema" => {
            statement == format!("create schema if not exists {name};")
                || statement.starts_with("grant usage on schema ") && mentions(statement, name)
        }
        _ => is_of_relation(statement, name),
    }
}

fn is_of_function(statement: &str, name: &str) -> bool {
    let is_about = |words: &str| statement.contains(&format!("{words}{name}("));
    // The body of another function can contain anything.
    let is_another = statement.starts_with(CREATE_FUNCTION)
        && !statement.starts_with(&format!("{CREATE_FUNCTION}{name}("));
    // An operator belongs to its function.
    let is_operator = is_block(statement) && statement.contains(&format!("function = {name})"));
    is_operator || !is_another && OF_FUNCTIONS.iter().any(|words| is_about(words))
}

/// Whether a statement creates a table or a sequence, or something that belongs to it. Statements
/// that write rows into another table do not.
fn is_of_relation(statement: &str, name: &str) -> bool {
    if !is_block(statement) && OF_FUNCTIONS.iter().any(|words| statement.contains(words)) {
        return false;
    }
    // Other tables refer to it.
    let written = ["create table if not exists ", "insert into ", "update "]
        .iter()
        .find_map(|words| statement.strip_prefix(words));
    if let Some(written) = written {
        return written.starts_with(&format!("{name} "));
    }
    let is_listed = || {
        lists(statement)
            .iter()
            .any(|(_, elements)| elements.iter().any(|element| is_named(element, name)))
    };
    mentions(statement, name) || is_block(statement) && is_listed()
}

/// The lists over which a block loops, `array[…]` and `(values …)`, in order: position and elements
/// of each.
fn lists(block: &str) -> Vec<(Range<usize>, Vec<&str>)> {
    let mut lists: Vec<_> = [("array[", ']'), ("(values", ')')]
        .into_iter()
        .flat_map(|(begin, end)| {
            block.match_indices(begin).map(move |(at, _)| {
                let from = at + begin.len();
                let (length, elements) = elements(&block[from..], end);
                (from..from + length, elements)
            })
        })
        .collect();
    lists.sort_by_key(|(range, _)| range.start);
    lists
}

/// The comma-separated elements up to `end`, without comments before them, and the length of the
/// whole.
fn elements(text: &str, end: char) -> (usize, Vec<&str>) {
    let mut elements = Vec::new();
    let (mut at, mut begin, mut depth) = (0, 0, 0_usize);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if rest.starts_with("--") {
            at += through(rest, "\n");
            begin = at;
            continue;
        }
        if depth == 0 && (c == end || c == ',') {
            elements.push(text[begin..at].trim());
            begin = at + 1;
            if c == end {
                break;
            }
        }
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += match c {
            '\'' => 1 + through(&rest[1..], "'"),
            _ => c.len_utf8(),
        };
    }
    (at, elements)
}

/// Whether an element of a list names a table: qualified, or by its name alone in `public`.
fn is_named(element: &str, table: &str) -> bool {
    let mut texts = element.split('\'').skip(1).step_by(2);
    let first = texts.next().unwrap_or_default();
    match table.split_once('.') {
        Some((schema, name)) if schema == first => texts.next() == Some(name),
        Some(("public", name)) => name == first,
        _ => false,
    }
}

fn is_block(statement: &str) -> bool {
    statement.starts_with("do ")
}

/// Prerequisites of functions that the checks ignore: a type, if it is missing.
fn is_support(statement: &str) -> bool {
    is_block(statement) && statement.contains("create type ")
}

/// Whether a text contains a name as a whole word.
fn mentions(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    text.match_indices(name).any(|(at, _)| {
        let after = text[at + name.len()..].chars().next();
        let before = text[..at].chars().next_back();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Statements with their semicolons, without the comments before them.
fn split(text: &'static str) -> Vec<&'static str> {
    let mut statements = Vec::new();
    let (mut at, mut begin) = (0, None);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if let Some(comment) = rest.strip_prefix("--") {
            at += 2 + through(comment, "\n");
            continue;
        }
        if begin.is_none() && !first.is_whitespace() {
            begin = Some(at);
        }
        at += match first {
            '\'' => 1 + through(&rest[1..], "'"),
            '"' => 1 + through(&rest[1..], "\""),
            '$' => dollar_quote(rest).map_or(1, |quote| {
                quote.len() + through(&rest[quote.len()..], quote)
            }),
            _ => first.len_utf8(),
        };
        if first == ';' {
            statements.extend(begin.take().map(|begin| &text[begin..at]));
        }
    }
    statements
}

/// Number of bytes up to and including `end`, or of everything.
fn through(text: &str, end: &str) -> usize {
    text.find(end).map_or(text.len(), |at| at + end.len())
}

/// The delimiter `$$` or `$word$`; a parameter is none.
fn dollar_quote(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let word = &text[1..end];
    let is_word = word.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
    is_word.then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart() {
        let text = "-- a; b\nselect ';' as \";\", $1; -- c\n\ndo $$ begin; end $$;\nselect $x$ $$;$$ $x$;\n-- d;\n";
        assert_eq!(
            split(text),
            [
                "select ';' as \";\", $1;",
                "do $$ begin; end $$;",
                "select $x$ $$;$$ $x$;"
            ]
        );
        for (version, _, text) in MIGRATIONS {
            assert!(!text.contains("/*"), "{version}: comments are by lines");
            assert!(
                !text.to_lowercase().contains("begin atomic"),
                "{version}: its semicolons would end the statement"
            );
            let statements = split(text);
            let last = statements.last().unwrap();
            let (_, rest) = text.rsplit_once(last).unwrap();
            let is_comment = |line: &str| line.is_empty() || line.starts_with("--");
            assert!(rest.lines().all(is_comment), "{version}: {rest}");
        }
    }

    #[test]
    fn a_function_has_its_own_statements() {
        let of = |name| that_make(&[("function", name)]);
        let user_state = of("twotower.user_state");
        assert!(user_state.iter().any(|it| it.starts_with("alter function")));
        assert!(user_state.iter().any(|it| it.contains("twotower_server")));
        let made: Vec<_> = user_state
            .iter()
            .filter_map(|it| it.strip_prefix(CREATE_FUNCTION))
            .collect();
        assert!(!made.is_empty());
        assert!(made.iter().all(|it| it.starts_with("twotower.user_state(")));
        let written = of("public.write_user_embedding");
        assert!(written.iter().any(|it| it.starts_with("drop function")));
        // Created in a block.
        assert!(of("twotower.tidy").iter().any(|it| is_block(it)));
        // Nothing else than the table's own objects is replaced.
        let runs = that_make(&[("table", "twotower.job_runs")]);
        assert!(runs.len() > 4);
        assert!(runs.iter().all(|it| !it.starts_with(CREATE_FUNCTION)));
        assert!(runs.iter().all(|it| !it.contains("public.likes")));
        let ends = "update twotower.experiments";
        let active = that_make(&[("table", "twotower.active_model")]);
        assert!(active.iter().all(|it| !it.starts_with(ends)));
        let made = "create table if not exists twotower.experiments";
        let models = that_make(&[("table", "twotower.models")]);
        assert!(models.iter().all(|it| !it.starts_with(made)));
    }

    #[test]
    fn of_several_tables_one_has_its_part() {
        let rights = "revoke all on public.a, public.b,\n    public.c\n    from public, anon;";
        assert_eq!(
            part(rights, &[("table", "public.c"), ("table", "public.a")]).unwrap(),
            "revoke all on public.a, public.c from public, anon;"
        );
        assert_eq!(part(rights, &[("table", "public.d")]), None);
        let usage = "grant usage on schema public, twotower to x;";
        assert_eq!(
            part(usage, &[("schema", "twotower")]).unwrap(),
            "grant usage on schema twotower to x;"
        );
        let block = "do $$ begin foreach own in array array['a', 'b'] loop perform f(array['x']); end loop;
            select * from (values ('a', 'select (x, y)'), -- it's b\n ('twotower', 'b', ')')) as _ (name); end $$;";
        assert_eq!(
            part(block, &[("table", "public.a")]).unwrap(),
            "do $$ begin foreach own in array array['a'] loop perform f(array['x']); end loop;
            select * from (values('a', 'select (x, y)')) as _ (name); end $$;"
        );
        let both = part(block, &[("table", "twotower.b"), ("table", "public.b")]).unwrap();
        assert!(both.contains("array['b']") && both.contains("(values('twotower', 'b', ')')) as"));
        assert_eq!(part(block, &[("table", "twotower.a")]), None);
    }

    /// Above all those of the application.
    #[test]
    fn no_other_table_is_touched() {
        let tables = [
            "public.likes",
            "public.skips",
            "public.videos",
            "public.tags",
            "public.video_tags",
            "public.performers",
            "public.video_performers",
            "public.video_embeddings",
            "public.user_embeddings",
            "public.recommendation_blocks",
            "public.recommendation_cache",
        ];
        for table in &tables[7..] {
            let made = that_make(&[("table", *table)]);
            for other in tables.iter().filter(|other| *other != table) {
                let touches = |it: &&String| is_of_relation(it, other);
                assert_eq!(made.iter().find(touches), None, "{table} with {other}");
            }
        }
    }

    #[test]
    fn the_last_search_path_counts() {
        assert_eq!(search_path("twotower.caller_is_erased"), Some("''"));
        // By an `alter` of a later migration.
        for name in ["twotower.user_state", "public.similar_videos"] {
            assert_eq!(search_path(name), Some("public, pg_temp"), "{name}");
        }
        // An earlier migration set one.
        assert_eq!(search_path("public.text_equals_uuid"), None);
        assert_eq!(search_path("twotower.tidy"), None);
    }

    /// An object without a schema in its name is created according to the migrator's `search_path`,
    /// where `twotower doctor` would not find it.
    #[test]
    fn whatever_is_made_is_named_with_its_schema() {
        let kinds = [
            "function",
            "procedure",
            "aggregate",
            "table",
            "view",
            "sequence",
            "type",
            "domain",
            "operator",
        ];
        let verbs = ["create", "replace", "alter", "drop"];
        let mut made = 0;
        for (version, _, text) in MIGRATIONS {
            let code: Vec<&str> = text
                .lines()
                .map(|line| line.split("--").next().unwrap_or_default())
                .collect();
            let code = code.join(" ").to_lowercase();
            let words: Vec<&str> = code
                .split_whitespace()
                .map(|word| word.trim_matches('\''))
                .filter(|word| !["if", "not", "exists", "materialized", "only"].contains(word))
                .collect();
            for found in words.windows(3) {
                if verbs.contains(&found[0]) && kinds.contains(&found[1]) {
                    made += 1;
                    assert!(
                        found[2].contains('.'),
                        "{version}: `{}` needs the name of a schema",
                        found.join(" ")
                    );
                }
            }
        }
        assert!(made > 60, "{made}");
    }
}
