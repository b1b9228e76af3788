//! The Supabase CLI against the stand-in: `db push`, `db advisors`, and `twotower migrate` before and after.

use super::person::Person;
use super::stand_in::{Place, as_superuser};
use crate::database::few_connections;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};
use twotower_store::Store;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs the pinned CLI, in the repository, against a database.
fn supabase(url: &str, arguments: &[&str]) -> Output {
    let output = Command::new(repository().join("scripts/supabase-cli"))
        .args(arguments)
        .args(["--db-url", &format!("{url}?sslmode=disable")])
        .current_dir(repository())
        .output()
        .unwrap();
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

/// What advisors say of any database like this one: no index was used yet where nothing was asked yet, and keys between tables of a
/// row for each version or experiment, which are never deleted, need none. And that a function has no `search_path` of its own: with one it
/// would not be inlined, and no index on a column of text used. Its body was parsed when it was made, and looks nothing up.
fn says_nothing(finding: &Value) -> bool {
    match finding["name"].as_str().unwrap() {
        "unused_index" => true,
        "unindexed_foreign_keys" => finding["metadata"]["schema"] == "twotower",
        "function_search_path_mutable" => finding["metadata"]["name"] == "text_equals_uuid",
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
