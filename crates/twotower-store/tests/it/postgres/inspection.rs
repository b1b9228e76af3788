//! The schema against what the migrations make: each thing that is broken is named, and what is said to mend it mends it.

use crate::database::{self, few_connections, postgres_url};
use twotower_store::inspection::{Audit, Pooler, SchemaAudit, Verification};
use twotower_store::{Store, StoreKind};

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

async fn audit(store: &Store) -> SchemaAudit {
    store.audit_schema().await.unwrap().unwrap()
}

fn faults(audit: &SchemaAudit) -> Vec<&twotower_store::inspection::Fault> {
    let all: [&Audit; 5] = [
        &audit.tables,
        &audit.row_security,
        &audit.policies,
        &audit.grants,
        &audit.indexes,
    ];
    all.into_iter().flat_map(|audit| &audit.faults).collect()
}

#[tokio::test]
async fn a_server_tells_its_versions_and_how_it_is_reached() {
    let store = database::postgres().await;
    let facts = store.server_facts().await.unwrap().unwrap();
    assert!(facts.version_number >= 140_000, "{facts:?}");
    assert!(facts.vector.is_some(), "{facts:?}");
    assert!(
        facts.connections >= 1 && facts.connections < facts.max_connections,
        "{facts:?}"
    );
    assert!(facts.transport.local, "{facts:?}");
    assert_eq!(facts.transport.verified, Verification::None);
    let tables = store.table_statistics().await.unwrap();
    let names: Vec<_> = tables.iter().map(|table| table.table.as_str()).collect();
    assert!(
        names.contains(&"public.likes") && names.contains(&"twotower.models"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_pooler_is_noticed() {
    let store = database::postgres().await;
    let expected = if std::env::var("TWOTOWER_TEST_POOLER").is_ok() {
        Pooler::Transaction
    } else {
        Pooler::None
    };
    assert_eq!(store.pooler().await.unwrap(), Some(expected));
}

#[tokio::test]
async fn what_the_migrations_make_is_what_is_expected() {
    let store = connect(&postgres_url().await).await;
    assert_eq!(store.kind(), StoreKind::Postgres);
    let audit = audit(&store).await;
    assert_eq!(faults(&audit), [] as [&_; 0]);
    for audit in [
        &audit.tables,
        &audit.row_security,
        &audit.policies,
        &audit.grants,
        &audit.indexes,
    ] {
        assert!(audit.examined > 10, "{audit:?}");
    }
}

#[tokio::test]
async fn what_is_broken_is_named_and_mended_by_what_is_said() {
    let cases = [
        (
            "alter table likes disable row level security",
            "row level security of public.likes is off",
        ),
        (
            "alter table twotower.events disable row level security",
            "row level security of twotower.events is off",
        ),
        (
            "drop policy \"twotower: users read their own vector\" on user_embeddings",
            "policy \"twotower: users read their own vector\" of public.user_embeddings is missing",
        ),
        (
            "drop policy \"twotower: users read own likes\" on likes",
            "policy \"twotower: users read own likes\" of public.likes is missing",
        ),
        (
            "alter policy \"twotower: users read own skips\" on skips using (true)",
            "policy \"twotower: users read own skips\" of public.skips is not as the migration made it",
        ),
        (
            "alter policy \"twotower: users read own blocks\" on recommendation_blocks to public",
            "policy \"twotower: users read own blocks\" of public.recommendation_blocks is not",
        ),
        (
            "drop policy \"twotower: all rows for twotower_updater\" on video_embeddings",
            "policy \"twotower: all rows for twotower_updater\" of public.video_embeddings is missing",
        ),
        (
            "revoke select on user_embeddings from authenticated",
            "role authenticated may not SELECT public.user_embeddings",
        ),
        (
            "revoke insert (user_id, video_id) on likes from authenticated",
            "role authenticated may not INSERT public.likes",
        ),
        (
            "revoke delete on video_embeddings from twotower_updater",
            "role twotower_updater may not DELETE public.video_embeddings",
        ),
        (
            "grant truncate on likes to authenticated",
            "role authenticated may TRUNCATE public.likes, and should not",
        ),
        (
            "grant select on twotower.events to anon",
            "role anon may SELECT twotower.events, and should not",
        ),
        (
            "drop index video_embeddings_updated_at_idx",
            "index video_embeddings_updated_at_idx of public.video_embeddings is missing",
        ),
        (
            "drop index twotower.models_one_active_idx",
            "index models_one_active_idx of twotower.models is missing",
        ),
        (
            "drop index likes_video_id_idx",
            "no index of public.likes begins with video_id",
        ),
    ];
    let url = postgres_url().await;
    let store = connect(&url).await;
    for (broken, expected) in cases {
        database::execute(&url, broken).await;
        let found = audit(&store).await;
        let [fault] = faults(&found)[..] else {
            panic!("{broken}: {:#?}", faults(&found))
        };
        assert!(fault.what.starts_with(expected), "{broken}: {}", fault.what);
        for statement in fault
            .fix
            .split(';')
            .filter(|statement| !statement.trim().is_empty())
        {
            database::execute(&url, statement).await;
        }
        assert_eq!(
            faults(&audit(&store).await),
            [] as [&_; 0],
            "after {}",
            fault.fix
        );
    }
}

#[tokio::test]
async fn a_table_that_was_dropped_comes_back_with_its_migration() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    database::execute(
        &url,
        "drop table twotower.job_runs, public.recommendation_cache",
    )
    .await;
    let found = audit(&store).await;
    let what: Vec<_> = found
        .tables
        .faults
        .iter()
        .map(|fault| fault.what.as_str())
        .collect();
    assert_eq!(what.len(), 2, "{what:?}");
    assert!(
        what[0].starts_with("table public.recommendation_cache is missing"),
        "{what:?}"
    );
    let (statement, _) = found.tables.faults[0].fix.split_once(';').unwrap();
    database::execute(&url, statement).await;
    store.migrate().await.unwrap();
    assert_eq!(faults(&audit(&store).await), [] as [&_; 0]);
}

#[tokio::test]
async fn an_own_table_keeps_its_own_policies() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let own = "do $$ declare policy text; begin
        for policy in select policyname from pg_policies where tablename = 'likes' and policyname like 'twotower: users%' loop
            execute format('drop policy %I on likes', policy);
        end loop; end $$;
        create policy theirs on likes for select to authenticated using (user_id = (select auth.uid()));
        revoke delete on likes from authenticated";
    database::execute(&url, own).await;
    assert_eq!(faults(&audit(&store).await), [] as [&_; 0]);
}

#[tokio::test]
async fn a_role_without_rights_may_look_all_the_same() {
    let url = postgres_url().await;
    let name = format!("bystander_{}", std::process::id());
    database::execute(&url, &format!("create role {name} login")).await;
    let bystander = connect(&url.replace("postgres@", &format!("{name}@"))).await;
    assert_eq!(faults(&audit(&bystander).await), [] as [&_; 0]);
    bystander.server_facts().await.unwrap().unwrap();
    let refused = bystander.generation().await.unwrap_err();
    assert!(
        matches!(refused, twotower_store::StoreError::Permission(_)),
        "{refused}"
    );
    bystander.close().await;
    database::execute(&url, &format!("drop role {name}")).await;
}
