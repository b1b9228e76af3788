//! Compares policies with those of the migrations, and checks what other policies expose.

use super::audit::Schema;
use super::expected::{self, LIKES, OURS, Policy, Rows, SKIPS, USER_ROWS};
use crate::inspection::{Audit, Fault};

/// Every policy of these tables. With an empty `search_path`, expressions qualify every name
/// outside `pg_catalog`.
pub(super) const QUERY: &str = "
    SELECT nspname || '.' || relname, polname::text, polcmd::text,
           (SELECT string_agg(CASE role WHEN 0 THEN 'public' ELSE pg_get_userbyid(role)::text END, ',' ORDER BY pg_get_userbyid(role)::text)
            FROM unnest(polroles) AS role),
           pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid), polpermissive
    FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname || '.' || relname = ANY ($1) ORDER BY 1, 2";

/// Table, name, verb, sorted roles with commas, USING, WITH CHECK, and whether it is permissive.
pub(super) type PolicyRow = (
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    bool,
);

pub(super) fn audit(schema: &Schema<'_>, there: &[PolicyRow]) -> Audit {
    let mut audit = Audit::default();
    for policy in expected::policies().filter(|policy| schema.has(policy.table)) {
        let found = there
            .iter()
            .find(|(table, name, ..)| table == policy.table && name == policy.name);
        // On a table of the application's own, our policies may have been removed.
        if found.is_none() && !schema.is_ours(policy.table) {
            continue;
        }
        audit.examined += 1;
        let wrong = match found {
            None => "is missing",
            Some(found) if !fits(&policy, found) => "is not as the migration made it",
            Some(_) => continue,
        };
        audit.faults.push(Fault {
            what: format!("policy \"{}\" of {} {wrong}", policy.name, policy.table),
            fix: statement(&policy, found.is_some()),
        });
    }
    // Computed ids need other conditions than the known ones. Only policies that expose all rows
    // are reported there.
    let looked_at = |row: &PolicyRow| schema.has(&row.0) || schema.reads_own(&row.0) && opens(row);
    let unknown = |row: &&PolicyRow| looked_at(row) && is_unknown(row);
    for row in there.iter().filter(unknown) {
        audit.examined += 1;
        match opened(row, schema) {
            Some((true, fault)) => audit.faults.push(fault),
            Some((false, doubt)) => audit.doubts.push(doubt),
            None => {}
        }
    }
    audit
}

/// Whether no migration creates a policy of this name, on a table where that matters.
fn is_unknown((table, name, ..): &PolicyRow) -> bool {
    let table = table.as_str();
    let watched = OURS.contains(&table) || [LIKES, SKIPS].contains(&table);
    watched && !expected::policies().any(|policy| policy.table == table && policy.name == name)
}

/// Whether a policy lets everybody, or every signed-in user, reach all rows.
fn opens((_, _, _, roles, using, check, _): &PolicyRow) -> bool {
    let everybody = [
        "true",
        "auth.role = 'authenticated'",
        "auth.uid is not null",
    ];
    let all = |said: &str| everybody.contains(&plain(said).as_str());
    is_for_strangers(roles.as_deref().unwrap_or_default())
        && [using, check].into_iter().flatten().any(|said| all(said))
}

fn is_for_strangers(roles: &str) -> bool {
    roles
        .split(',')
        .any(|role| ["public", "anon", "authenticated"].contains(&role))
}

/// The finding about a policy that no migration creates, and whether it is a fault. `None` for a
/// restrictive policy, or one that lets users reach only their own rows. On a table of the
/// application's own, whose likes may be public on purpose, it is at most a question.
fn opened(row: &PolicyRow, schema: &Schema<'_>) -> Option<(bool, Fault)> {
    let (table, name, verb, roles, using, check, permissive) = row;
    let roles = roles.as_deref().unwrap_or_default();
    let (using, check) = (using.as_deref(), check.as_deref());
    let said = || [using, check].into_iter().flatten();
    let own = |said: &str| {
        [Rows::Own, Rows::OwnUnlessErased]
            .into_iter()
            .any(|rows| is(said, rows))
    };
    if !permissive || said().all(own) && said().next().is_some() {
        return None;
    }
    let strangers = is_for_strangers(roles);
    let all = said().any(|said| is(said, Rows::All));
    let is_fault = strangers && all && USER_ROWS.contains(&table.as_str()) && schema.is_ours(table);
    let verb = match verb.as_str() {
        "r" => "select",
        "a" => "insert",
        "w" => "update",
        "d" => "delete",
        _ => "all",
    };
    let clause = |words: &str, said: Option<&str>| match said {
        Some(said) => format!(" {words} ({})", without_texts(said)),
        None => String::new(),
    };
    let to = roles.replace(',', ", ");
    let does = format!(
        "for {verb} to {to}{}{}",
        clause("using", using),
        clause("with check", check)
    );
    let name = name.replace('"', "\"\"");
    let what = if is_fault {
        format!(
            "policy \"{name}\" of {table}, which is none of ours, opens rows of all users: {does}"
        )
    } else {
        format!("policy \"{name}\" of {table} is none of ours, {does}: is this wanted?")
    };
    let fix = format!("drop policy \"{name}\" on {table};");
    Some((is_fault, Fault { what, fix }))
}

/// Whether a policy of this name is as it should be: verb, roles and rows.
fn fits(policy: &Policy, row: &PolicyRow) -> bool {
    let (_, _, verb, roles, using, check, permissive) = row;
    let (using, check) = (using.as_deref(), check.as_deref());
    let asks = |said: Option<&str>| said.is_some_and(|said| is(said, policy.rows));
    let rows = match policy.verb {
        'a' => asks(check),
        // Without WITH CHECK, written rows are checked by USING.
        '*' => asks(using) && (check.is_none() || asks(check)),
        _ => asks(using),
    };
    *permissive
        && rows
        && *verb == policy.verb.to_string()
        && roles.as_deref() == Some(policy.roles)
}

/// Whether an expression admits exactly these rows.
fn is(expression: &str, rows: Rows) -> bool {
    let plain = plain(expression);
    let own = ["user_id = auth.uid", "auth.uid = user_id"];
    match rows {
        Rows::All => plain == "true",
        Rows::Own => own.contains(&plain.as_str()),
        Rows::OwnUnlessErased => plain
            .strip_suffix(" and not twotower.caller_is_erased")
            .is_some_and(|rest| own.contains(&rest)),
    }
}

/// Normalises an expression across versions of PostgreSQL: without parentheses, casts, schemas of
/// operators, and the SELECT that makes a function run once. No expression of ours changes its
/// meaning with its parentheses.
fn plain(expression: &str) -> String {
    let lower = expression.to_lowercase();
    let words = words(&lower);
    let mut kept: Vec<&str> = Vec::new();
    let mut n = 0;
    while let Some(&word) = words.get(n) {
        n += 1;
        match word {
            "(" | ")" | "select" => {}
            "as" => n += 1,
            "::" => {
                n += 1;
                let more = ["varying", "precision"];
                n += usize::from(words.get(n).is_some_and(|word| more.contains(word)));
                // Of a type with a length.
                let length = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
                if words.get(n) == Some(&"(") && words.get(n + 1).is_some_and(length) {
                    n += 2;
                }
            }
            "operator" => {
                let ours = ["public.", "pg_catalog."];
                n += 1 + usize::from(words.get(n + 1).is_some_and(|word| ours.contains(word)));
            }
            word => kept.push(word),
        }
    }
    kept.join(" ")
}

/// Tokens: qualified names, texts, casts, and single characters.
fn words(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || ['_', '.', '$'].contains(&c);
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if is_name(first) {
            rest.find(|c: char| !is_name(c))
        } else if ['\'', '"'].contains(&first) {
            rest[1..].find(first).map(|at| at + 2)
        } else if rest.starts_with("::") {
            Some(2)
        } else {
            Some(first.len_utf8())
        };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// An expression for display. Literals are masked, since they can contain anything, such as an id.
fn without_texts(expression: &str) -> String {
    let parts: Vec<&str> = expression
        .split('\'')
        .enumerate()
        .map(|(n, part)| if n % 2 == 0 { part } else { "…" })
        .collect();
    parts.join("'")
}

/// Creates the policy, replacing an existing one.
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
        Rows::OwnUnlessErased => {
            "user_id = (select auth.uid()) and not (select twotower.caller_is_erased())"
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_read_however_it_is_printed() {
        for own in [
            "(user_id = ( SELECT auth.uid() AS uid))",
            "(user_id = auth.uid())",
            "(auth.uid() = user_id)",
            "((user_id)::text = (( SELECT auth.uid() AS uid))::text)",
            "((user_id)::character varying(36) OPERATOR(public.=) ( SELECT auth.uid() AS uid))",
            "((user_id)::public.code = ( SELECT auth.uid() AS uid))",
        ] {
            assert!(is(own, Rows::Own), "{own}: {}", plain(own));
            let living = format!(
                "({own} AND (NOT ( SELECT twotower.caller_is_erased() AS caller_is_erased)))"
            );
            assert!(is(&living, Rows::OwnUnlessErased), "{}", plain(&living));
            for more in [
                format!("({own} OR true)"),
                format!("(NOT {own})"),
                format!("({own} OR (NOT ( SELECT twotower.caller_is_erased() AS x)))"),
                format!("(true OR {living})"),
            ] {
                let rows = [Rows::All, Rows::Own, Rows::OwnUnlessErased];
                assert!(!rows.into_iter().any(|rows| is(&more, rows)), "{more}");
            }
        }
        for other in [
            "(user_id = ( SELECT app.uid() AS uid))",
            "(owner_id = ( SELECT auth.uid() AS uid))",
            "(user_id <> ( SELECT auth.uid() AS uid))",
            "(user_id OPERATOR(evil.=) ( SELECT auth.uid() AS uid))",
            "('user_id = auth.uid'::text = 'x'::text)",
        ] {
            assert!(!is(other, Rows::Own), "{other}: {}", plain(other));
        }
        assert!(is("true", Rows::All) && !is("false", Rows::All));
    }

    #[test]
    fn texts_of_an_expression_are_not_shown() {
        let shown = without_texts("((role = 'admin''s'::text) OR (user_id = 'a-b'::uuid))");
        assert_eq!(shown, "((role = '…''…'::text) OR (user_id = '…'::uuid))");
    }
}
