//! Every role × schema, table, view, sequence, function and bucket × verb, and every trigger, read
//! from the catalogue and compared with the list that `twotower doctor` uses.

use super::person::{ANN, Person};
use super::stand_in::{Place, as_superuser};
use crate::database::few_connections;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection, Row};
use std::collections::BTreeMap;
use twotower_store::{Source, Store};

const QUERY: &str = include_str!("../../../src/postgres/inspection/objects.sql");
const EXPECTED: &str = include_str!("../../../src/postgres/inspection/objects.txt");
const FILE: &str = "crates/twotower-store/src/postgres/inspection/objects.txt";

/// Objects with the lines below each, without comments.
fn blocks(text: &str) -> BTreeMap<String, String> {
    let mut blocks: BTreeMap<String, String> = BTreeMap::new();
    let mut object = String::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        if line.starts_with(' ') {
            let who = blocks.entry(object.clone()).or_default();
            *who = format!("{who}{line}\n");
        } else {
            line.clone_into(&mut object);
        }
    }
    blocks
}

/// Whether this is in the list; of several definitions of a function, one must match.
fn fits(allowed: &str, found: &str) -> bool {
    let own = allowed
        .lines()
        .filter(|line| !line.starts_with("    definition ") || found.contains(*line));
    own.eq(found.lines())
}

#[tokio::test]
async fn everybody_may_what_the_matrix_says_and_nothing_else() {
    let expected = blocks(EXPECTED);
    for place in Place::ALL {
        let url = place.migrated().await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute("SET search_path = ''").await.unwrap();
        let mut wrong = Vec::new();
        let mut found = BTreeMap::new();
        let all = sqlx::query(QUERY).bind(None::<Vec<String>>);
        for row in all.fetch_all(&mut connection).await.unwrap() {
            let (object, who): (String, String) = (row.get("object"), row.get("who"));
            let who = format!("{who}\n");
            match expected.get(&object) {
                Some(allowed) if fits(allowed, &who) => {}
                Some(allowed) => {
                    wrong.push(format!("{object}\n  allowed:\n{allowed}  found:\n{who}"));
                }
                None => {
                    wrong.push(format!(
                        "{object} has no row in {FILE}: decide who may do what with it, and add\n{object}\n{who}"
                    ));
                }
            }
            found.insert(object, who);
        }
        for object in expected
            .keys()
            .filter(|object| !found.contains_key(*object))
        {
            wrong.push(format!("{object} stands in {FILE} and is not there\n"));
        }
        assert!(wrong.is_empty(), "{place:?}:\n{}", wrong.concat());
        // The doctor's findings, including policies: a policy that a migration adds must be known
        // there.
        let store = Store::connect(&url, few_connections()).await.unwrap();
        let audit = store
            .audit_schema(&Source::default())
            .await
            .unwrap()
            .unwrap();
        for audit in [
            audit.tables,
            audit.policies,
            audit.grants,
            audit.functions,
            audit.triggers,
        ] {
            assert_eq!((audit.faults, audit.doubts), (vec![], vec![]), "{place:?}");
        }
    }
}

/// A bucket is a row, and its objects are rows, so effective access is tested.
#[tokio::test]
async fn the_bucket_of_models_is_nobodys_but_the_service_keys() {
    for place in [Place::Supabase, Place::OlderSupabase] {
        let url = place.migrated().await;
        let url = as_superuser(&url);
        let mut owner = Person::owner(&url).await;
        let public = owner
            .value("SELECT public FROM storage.buckets WHERE id = 'models'")
            .await;
        assert_eq!(public.unwrap(), json!(false));
        owner
            .run("INSERT INTO storage.objects (bucket_id, name) VALUES ('models', '1/manifest.json')")
            .await
            .unwrap();
        let everybody = [
            Person::anonymous(&url).await,
            Person::user(&url, ANN).await,
            Person::with_claims(&url, "twotower_trainer", &json!({})).await,
            Person::with_claims(&url, "twotower_updater", &json!({})).await,
            Person::with_claims(&url, "twotower_server", &json!({})).await,
        ];
        for mut person in everybody {
            for verb in [
                "SELECT FROM storage.objects",
                "SELECT FROM storage.buckets",
                "UPDATE storage.objects SET name = 'x'",
                "UPDATE storage.buckets SET public = true",
                "DELETE FROM storage.objects",
                "TRUNCATE storage.objects",
                "INSERT INTO storage.objects (bucket_id, name) VALUES ('models', 'mine')",
                "INSERT INTO storage.buckets (id, name) VALUES ('mine', 'mine')",
            ] {
                assert_eq!(person.run(verb).await.unwrap_or(0), 0, "{verb}");
            }
        }
        let mut service = Person::with_claims(&url, "service_role", &json!({})).await;
        let seen = service
            .rows("SELECT name FROM storage.objects")
            .await
            .unwrap();
        assert_eq!(seen, [json!({"name": "1/manifest.json"})]);
    }
}
