//! Definitions of functions against the migrations: an edited one is named, and the reported remedy
//! repairs it.

use crate::database::{empty_postgres_url, execute, few_connections, postgres_url, server};
use twotower_store::inspection::{Audit, Fault, SchemaAudit};
use twotower_store::{Source, Store};

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

async fn audit(store: &Store) -> SchemaAudit {
    store
        .audit_schema(&Source::default())
        .await
        .unwrap()
        .unwrap()
}

/// The faults of functions; there are no others.
async fn edited(store: &Store) -> Vec<Fault> {
    let found = audit(store).await;
    let others: [&Audit; 5] = [
        &found.tables,
        &found.policies,
        &found.grants,
        &found.triggers,
        &found.indexes,
    ];
    assert!(others.iter().all(|it| it.faults.is_empty()), "{found:#?}");
    assert_eq!(found.functions.doubts, []);
    found.functions.faults
}

/// Performs a remedy and expects no faults afterwards.
async fn mend(url: &str, store: &Store, fix: &str) {
    super::again::mend(url, store, fix).await;
    assert_eq!(edited(store).await, [], "after {fix}");
}

/// An edit, the function, and the changed property.
const EDITS: &[(&str, &str, &str)] = &[
    // Edited by hand, with everything else unchanged.
    (
        "do $$ begin
             execute replace(
                 pg_get_functiondef('twotower.erase_user_from(uuid, text[], boolean)'::regprocedure), 'tombstones', 'models');
         end $$",
        "twotower.erase_user_from(user_id uuid, tables text[], every_spelling boolean)",
        "what it does, with its owner's rights,",
    ),
    (
        "alter function twotower.popular_videos(bigint) volatile",
        "twotower.popular_videos(most bigint)",
        "what it does, with its owner's rights,",
    ),
    (
        "alter function twotower.keep_erased_out() reset row_security",
        "twotower.keep_erased_out()",
        "what it does, with its owner's rights,",
    ),
    (
        "alter function twotower.user_state(uuid, bigint) set search_path = elsewhere, public",
        "twotower.user_state(asked uuid, skip_limit bigint, OUT erased boolean, OUT likes bytea, OUT skips bytea, OUT blocks text)",
        "what it does",
    ),
    // Functions whose text is not recorded, since a migration creates them by format().
    (
        "create or replace function twotower.tidy(name text) returns text language sql immutable parallel safe return name",
        "twotower.tidy(name text)",
        "what it does",
    ),
    (
        "drop function like_video(uuid, boolean);
         create function like_video(video_id uuid, liked boolean default false) returns integer
             language sql set search_path = '' as 'select 1';
         revoke all on function like_video(uuid, boolean) from public;
         grant execute on function like_video(uuid, boolean) to authenticated",
        "public.like_video(video_id uuid, liked boolean)",
        "what it takes or gives",
    ),
];

#[tokio::test]
async fn a_function_that_was_edited_is_named_and_mended() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    for (edit, function, changed) in EDITS {
        execute(&url, edit).await;
        let faults = edited(&store).await;
        let [fault] = &faults[..] else {
            panic!("{edit}: {faults:#?}")
        };
        let what =
            format!("function {function} is not as the migrations make it: {changed} was changed");
        assert_eq!(fault.what, what);
        mend(&url, &store, &fault.fix).await;
    }
    // As after restoring an old dump: one remedy repairs all of them.
    for (edit, ..) in EDITS {
        execute(&url, edit).await;
    }
    execute(&url, "drop function twotower.spells_uuid(text)").await;
    let faults = edited(&store).await;
    assert_eq!(faults.len(), EDITS.len() + 1, "{faults:#?}");
    assert!(faults.iter().all(|it| it.fix == faults[0].fix));
    mend(&url, &store, &faults[0].fix).await;
}

/// Limits and costs are up to the operator, and a checkout may have other line endings.
#[tokio::test]
async fn settings_of_the_operators_own_change_no_function() {
    let url = postgres_url().await;
    execute(
        &url,
        "alter function public.recommend_videos(integer, boolean, real, text) set statement_timeout = '5s';
         alter function twotower.best(text) cost 50;
         do $$ begin
             execute replace(pg_get_functiondef('twotower.caller()'::regprocedure), e'\\n', e'\\r\\n');
         end $$",
    )
    .await;
    assert_eq!(edited(&connect(&url).await).await, []);
}

/// The text of one function depends on the encoding.
#[tokio::test]
async fn another_encoding_has_the_functions_that_are_expected() {
    let name = format!("twotower_{}_western", std::process::id());
    let server = server();
    let create = format!(
        "create database {name} encoding 'WIN1252' lc_collate 'C' lc_ctype 'C' template template0"
    );
    execute(&server, &create).await;
    let (server, _) = server.rsplit_once('/').unwrap();
    let store = connect(&format!("{server}/{name}")).await;
    store.migrate().await.unwrap();
    assert_eq!(edited(&store).await, []);
}

/// Objects of a pending migration are not reported as missing, nor those that it changes as edited.
#[tokio::test]
async fn what_is_still_to_be_migrated_is_left_out() {
    let url = empty_postgres_url().await;
    let store = connect(&url).await;
    store.migrate().await.unwrap();
    execute(
        &url,
        "delete from supabase_migrations.schema_migrations where version >= '20261203000300';
         drop trigger twotower_blocks_wait on recommendation_blocks;
         create or replace trigger twotower_blocks_have_an_end before insert on recommendation_blocks
             for each statement execute function twotower.limit_own_blocks();
         create or replace function twotower.caller_blocks(
             out videos uuid[], out makers text[], out genres text[], out tags text[], out performers text[], out admitted text
         ) language sql as 'select null::uuid[], null::text[], null::text[], null::text[], null::text[], null'",
    )
    .await;
    assert_eq!(edited(&store).await, []);
    let pending = audit(&store).await.pending;
    assert_eq!(pending, store.pending_migrations().await.unwrap());
    assert_eq!(pending[0], "20261203000300");
    store.migrate().await.unwrap();
    assert_eq!(edited(&store).await, []);
    assert_eq!(audit(&store).await.pending, [] as [&str; 0]);
}

/// A migration of the application may change a function, and one of a newer program does: undoing
/// that is not suggested without a question.
#[tokio::test]
async fn what_another_migration_has_changed_is_asked_about() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let record = |version: &str, statement: &str| {
        format!(
            "insert into supabase_migrations.schema_migrations (version, name, statements)
             values ('{version}', 'own', array['select 1', $own${statement}$own$])"
        )
    };
    let own = "CREATE OR REPLACE FUNCTION \"twotower\".\"vector_schema\"() RETURNS text LANGUAGE sql STABLE
               SET search_path TO '' AS $$ SELECT 'extensions'::text $$";
    execute(&url, own).await;
    // Neither a privilege nor an older migration than our last explains it.
    execute(
        &url,
        &record(
            "20270101000000",
            "grant execute on function twotower.vector_schema() to anon",
        ),
    )
    .await;
    execute(&url, &record("20261101000000", own)).await;
    assert_eq!(edited(&store).await.len(), 1);
    execute(&url, &record("20270102000000", own)).await;
    let found = audit(&store).await.functions;
    assert_eq!(found.faults, []);
    let [doubt] = &found.doubts[..] else {
        panic!("{found:#?}")
    };
    assert_eq!(
        doubt.what,
        "function twotower.vector_schema() is not as the migrations make it: what it does was changed; migration 20270102000000 makes \
         or changes it, the application's own or a newer twotower's: is this wanted?"
    );
    mend(&url, &store, &doubt.fix).await;
}

/// Whether a migration is pending depends on a record that some roles cannot read.
#[tokio::test]
async fn who_may_not_see_the_record_is_sent_to_the_owner() {
    let url = postgres_url().await;
    let name = format!("onlooker_{}", std::process::id());
    execute(&url, &format!("create role {name} login")).await;
    execute(&url, EDITS[0].0).await;
    let onlooker = connect(&url.replace("postgres@", &format!("{name}@"))).await;
    let faults = edited(&onlooker).await;
    let [fault] = &faults[..] else {
        panic!("{faults:#?}")
    };
    assert!(fault.what.contains("this role may not see"), "{fault:?}");
    assert!(!fault.fix.contains("--again"), "{fault:?}");
    onlooker.close().await;
    execute(&url, &format!("drop role {name}")).await;
}
