//! The Supabase CLI against the stand-in: `db push`, `db advisors`, and `twotower migrate` before and after.

use super::person::Person;
use super::stand_in::{Place, as_superuser};
use crate::database::few_connections;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use twotower_store::Store;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs the pinned CLI in a folder against a database.
fn supabase_in(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    Command::new(repository().join("scripts/supabase-cli"))
        .args(arguments)
        .args(["--db-url", &format!("{url}?sslmode=disable")])
        .current_dir(folder)
        .output()
        .unwrap()
}

/// In the repository, and it has to end well.
fn supabase(url: &str, arguments: &[&str]) -> Output {
    let output = supabase_in(&repository(), url, arguments);
    assert!(
        output.status.success(),
        "supabase {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

async fn recorded(url: &str) -> Vec<Value> {
    let mut owner = Person::owner(url).await;
    owner
        .rows("SELECT version, name FROM supabase_migrations.schema_migrations ORDER BY version")
        .await
        .unwrap()
}

#[tokio::test]
async fn both_ways_of_migrating_go_together() {
    // The CLI first, twice, and then ours.
    let url = Place::Supabase.empty().await;
    supabase(&url, &["db", "push", "--yes"]);
    let pushed = recorded(&url).await;
    supabase(&url, &["db", "push", "--yes"]);
    assert_eq!(recorded(&url).await, pushed);
    let store = Store::connect(&url, few_connections()).await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());
    // Ours first, and then the CLI.
    let other = Place::OlderSupabase.migrated().await;
    assert_eq!(recorded(&other).await, pushed);
    supabase(&other, &["db", "push", "--yes"]);
    assert_eq!(recorded(&other).await, pushed);
}

/// docs/supabase.md, "A project with migrations of its own".
#[tokio::test]
async fn a_project_with_migrations_of_its_own_takes_ours_from_its_own_folder() {
    let project = tempfile::tempdir().unwrap();
    let migrations = project.path().join("supabase/migrations");
    std::fs::create_dir_all(&migrations).unwrap();
    let ours = repository().join("supabase");
    std::fs::copy(
        ours.join("config.toml"),
        project.path().join("supabase/config.toml"),
    )
    .unwrap();
    // One of its own is older than ours, one newer.
    for (version, table) in [("20250101000000", "notes"), ("20990101000000", "orders")] {
        let file = migrations.join(format!("{version}_{table}.sql"));
        std::fs::write(file, format!("create table public.{table} (id integer);")).unwrap();
    }
    let url = Place::Supabase.empty().await;
    let push = |folder: &Path, more: &[&str]| {
        let output = supabase_in(folder, &url, &[&["db", "push", "--yes"], more].concat());
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.success(), said)
    };
    let refusal = "Remote migration versions not found in local migrations directory";
    let (done, said) = push(project.path(), &[]);
    assert!(done, "{said}");
    let (done, said) = push(&repository(), &[]);
    assert!(!done && said.contains(refusal), "{said}");
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let applied = store.migrate().await.unwrap();
    let (done, said) = push(project.path(), &[]);
    assert!(!done && said.contains(refusal), "{said}");

    for file in std::fs::read_dir(ours.join("migrations")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), migrations.join(file.file_name())).unwrap();
    }
    let (done, said) = push(project.path(), &["--include-all"]);
    assert!(done, "{said}");
    assert_eq!(recorded(&url).await.len(), applied.len() + 2);

    // One of ours that is missing is older than the newest of its own: the CLI asks for the flag.
    let mut owner = Person::owner(&url).await;
    owner
        .run(
            "DELETE FROM supabase_migrations.schema_migrations
             WHERE version = (SELECT max(version) FROM supabase_migrations.schema_migrations WHERE version < '2099')",
        )
        .await
        .unwrap();
    let (done, said) = push(project.path(), &[]);
    assert!(!done && said.contains("--include-all"), "{said}");
}

/// What advisors say of any database like this one: no index was used yet where nothing was asked yet, and keys between tables of a
/// row for each version or experiment, which are never deleted, need none. And that functions have no `search_path` of their own: with one they
/// would not be inlined, and no index on a column of text used. Their bodies were parsed when they were made, and look nothing up.
fn says_nothing(finding: &Value) -> bool {
    match finding["name"].as_str().unwrap() {
        "unused_index" => true,
        "unindexed_foreign_keys" => finding["metadata"]["schema"] == "twotower",
        "function_search_path_mutable" => ["text_equals_uuid", "uuid_equals_text", "tidy"]
            .map(Value::from)
            .contains(&finding["metadata"]["name"]),
        _ => false,
    }
}

#[tokio::test]
async fn the_advisors_find_nothing() {
    for place in [Place::Supabase, Place::OlderSupabase] {
        let url = place.migrated().await;
        let output = supabase(
            &as_superuser(&url),
            &["db", "advisors", "--type", "all", "--level", "info"],
        );
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
        // It looks, or it would not even say that no index was used.
        assert!(!findings.is_empty());
        let found: Vec<&Value> = findings
            .iter()
            .filter(|finding| !says_nothing(finding))
            .collect();
        assert!(found.is_empty(), "{place:?}: {found:#?}");
    }
}
