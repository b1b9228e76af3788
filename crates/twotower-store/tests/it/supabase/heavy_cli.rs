//! The Supabase CLI against the stand-in: `db push`, `db advisors`, and `twotower migrate` before
//! and after.

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

/// In the repository; it must succeed.
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

/// A project of an application, with these migrations of its own.
fn project(own: &[(&str, &str)]) -> tempfile::TempDir {
    let project = tempfile::tempdir().unwrap();
    let folder = project.path().join("supabase/migrations");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(
        repository().join("supabase/config.toml"),
        project.path().join("supabase/config.toml"),
    )
    .unwrap();
    for (name, sql) in own {
        std::fs::write(folder.join(name), sql).unwrap();
    }
    project
}

/// Copies our migrations into a project, as docs/supabase.md says.
fn take_ours(project: &Path) {
    for file in std::fs::read_dir(repository().join("supabase/migrations")).unwrap() {
        let file = file.unwrap();
        let copy = project.join("supabase/migrations").join(file.file_name());
        std::fs::copy(file.path(), copy).unwrap();
    }
}

/// Whether a push from a folder ended well, and what it said.
fn push(folder: &Path, url: &str, more: &[&str]) -> (bool, String) {
    let output = supabase_in(folder, url, &[&["db", "push", "--yes"], more].concat());
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), said)
}

/// docs/supabase.md, "A project with migrations of its own".
#[tokio::test]
async fn a_project_with_migrations_of_its_own_takes_ours_from_its_own_folder() {
    // One of its own migrations is older than ours, one newer.
    let project = project(&[
        (
            "20250101000000_notes.sql",
            "create table public.notes (id integer);",
        ),
        (
            "20990101000000_orders.sql",
            "create table public.orders (id integer);",
        ),
    ]);
    let url = Place::Supabase.empty().await;
    let refusal = "Remote migration versions not found in local migrations directory";
    let (done, said) = push(project.path(), &url, &[]);
    assert!(done, "{said}");
    let (done, said) = push(&repository(), &url, &[]);
    assert!(!done && said.contains(refusal), "{said}");
    let store = Store::connect(&url, few_connections()).await.unwrap();
    let applied = store.migrate().await.unwrap();
    let (done, said) = push(project.path(), &url, &[]);
    assert!(!done && said.contains(refusal), "{said}");

    take_ours(project.path());
    let (done, said) = push(project.path(), &url, &["--include-all"]);
    assert!(done, "{said}");
    assert_eq!(recorded(&url).await.len(), applied.len() + 2);

    // A missing one of ours is older than its newest own: the CLI requires the flag.
    let mut owner = Person::owner(&url).await;
    owner
        .run(
            "DELETE FROM supabase_migrations.schema_migrations
             WHERE version = (SELECT max(version) FROM supabase_migrations.schema_migrations WHERE version < '2099')",
        )
        .await
        .unwrap();
    let (done, said) = push(project.path(), &url, &[]);
    assert!(!done && said.contains("--include-all"), "{said}");
}

/// The name and the text of the migration that docs/supabase.md gives to applications whose own migrations made tables of vectors.
fn documented_move() -> (&'static str, String) {
    let name = "20261123000000_make_room_for_twotower.sql";
    let document = std::fs::read_to_string(repository().join("docs/supabase.md")).unwrap();
    let after = document.split(name).nth(1).unwrap();
    let block = after.split("```sql\n").nth(1).unwrap();
    (name, block.split("```").next().unwrap().to_owned())
}

/// An application whose own migrations made vectors without versions replays them in every new database.
#[tokio::test]
async fn migrations_that_made_vectors_of_another_system_can_be_replayed() {
    const OLD: &str = "create extension if not exists vector with schema extensions;
        create table public.video_embeddings (video_id uuid primary key, embedding extensions.vector(2));
        create index video_embeddings_updated_at_idx on public.video_embeddings (video_id);
        insert into public.video_embeddings values (gen_random_uuid(), '[1, 0]');";
    let project = project(&[("20250101000000_vectors.sql", OLD)]);
    take_ours(project.path());
    let url = Place::Supabase.empty().await;
    let (done, said) = push(project.path(), &url, &[]);
    assert!(!done && said.contains("model_version"), "{said}");

    let (name, sql) = documented_move();
    let file = project.path().join("supabase/migrations").join(name);
    std::fs::write(&file, &sql).unwrap();
    let url = Place::Supabase.empty().await;
    let (done, said) = push(project.path(), &url, &[]);
    assert!(done, "{said}");
    let mut owner = Person::owner(&url).await;
    let kept = owner
        .value("SELECT to_jsonb(count(*)) FROM two_tower_python.video_embeddings")
        .await
        .unwrap();
    assert_eq!(kept, 1);
    let store = Store::connect(&url, few_connections()).await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());

    // Where ours are there already, it moves nothing.
    owner
        .run("DELETE FROM supabase_migrations.schema_migrations WHERE version = '20261123000000'")
        .await
        .unwrap();
    let (done, said) = push(project.path(), &url, &["--include-all"]);
    assert!(done, "{said}");
    let ours = owner
        .value("SELECT to_jsonb(to_regclass('public.video_embeddings') IS NOT NULL AND to_regclass('public.user_embeddings') IS NOT NULL)")
        .await
        .unwrap();
    assert_eq!(ours, true);
}

/// Advice that applies to any such database: unused indexes where no query ran yet; foreign keys
/// without an index in tables with a row per version or experiment, which are never deleted; and
/// functions without a `search_path`, which would prevent inlining, and with it the index on a text
/// column. Their bodies were parsed at creation and look nothing up.
fn says_nothing(finding: &Value) -> bool {
    match finding["name"].as_str().unwrap() {
        "unused_index" => true,
        "unindexed_foreign_keys" => finding["metadata"]["schema"] == "twotower",
        "function_search_path_mutable" => {
            ["text_equals_uuid", "uuid_equals_text", "tidy", "is_time"]
                .map(Value::from)
                .contains(&finding["metadata"]["name"])
        }
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
        // It does check, or it would not report unused indexes.
        assert!(!findings.is_empty());
        let found: Vec<&Value> = findings
            .iter()
            .filter(|finding| !says_nothing(finding))
            .collect();
        assert!(found.is_empty(), "{place:?}: {found:#?}");
    }
}
