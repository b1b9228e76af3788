//! The schema against the migrations: each fault is named, and the reported remedy repairs it.

use super::again::mend;
use crate::database::{self, empty_postgres_url, few_connections, postgres_url};
use twotower_store::inspection::{Audit, Pooler, SchemaAudit, Verification};
use twotower_store::{Source, Store, StoreKind};

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

fn faults(audit: &SchemaAudit) -> Vec<&twotower_store::inspection::Fault> {
    // By name, so that an added one must be listed here.
    let SchemaAudit {
        pending: _,
        tables,
        row_security,
        policies,
        grants,
        functions,
        triggers,
        indexes,
        keys,
    } = audit;
    [
        tables,
        row_security,
        policies,
        grants,
        functions,
        triggers,
        indexes,
        keys,
    ]
    .into_iter()
    .flat_map(|audit| &audit.faults)
    .collect()
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
    let url = postgres_url().await;
    // PostgreSQL 14 lets everybody create objects there.
    database::execute(&url, "revoke create on schema public from public").await;
    let store = connect(&url).await;
    assert_eq!(store.kind(), StoreKind::Postgres);
    let audit = audit(&store).await;
    assert_eq!(faults(&audit), [] as [&_; 0]);
    for audit in [
        &audit.tables,
        &audit.row_security,
        &audit.policies,
        &audit.grants,
        &audit.functions,
        &audit.triggers,
        &audit.indexes,
    ] {
        assert!(audit.examined > 10 && audit.doubts.is_empty(), "{audit:?}");
    }
}

/// A statement that breaks the schema, and the beginning of its report.
const BROKEN: &[(&str, &str)] = &[
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
        "alter policy \"twotower: users read own likes\" on likes using (user_id = auth.uid() or true)",
        "policy \"twotower: users read own likes\" of public.likes is not as the migration made it",
    ),
    (
        "alter policy \"twotower: users like for themselves\" on likes with check (user_id = (select auth.uid()))",
        "policy \"twotower: users like for themselves\" of public.likes is not as the migration made it",
    ),
    (
        "alter policy \"twotower: the server records\" on likes to public",
        "policy \"twotower: the server records\" of public.likes is not as the migration made it",
    ),
    (
        "create policy \"all \"\"of\"\" them\" on likes for select to authenticated using (true)",
        "policy \"all \"\"of\"\" them\" of public.likes, which is none of ours, opens rows of all users: for select to authenticated using (true)",
    ),
    (
        "create policy theirs on user_embeddings using (true)",
        "policy \"theirs\" of public.user_embeddings, which is none of ours, opens rows of all users: for all to public using (true)",
    ),
    (
        "grant select on twotower.tombstone_salt to authenticated",
        "role authenticated may SELECT twotower.tombstone_salt, and should not",
    ),
    (
        "grant select (user_hash) on twotower.tombstones to public",
        "role public may SELECT (user_hash) twotower.tombstones, and should not",
    ),
    (
        "grant insert on recommendation_blocks to authenticated",
        "role authenticated may INSERT public.recommendation_blocks, and should not",
    ),
    (
        "grant delete on twotower.models to twotower_server",
        "role twotower_server may DELETE twotower.models, and should not",
    ),
    (
        "revoke select on twotower.user_towers from twotower_updater",
        "role twotower_updater may not SELECT twotower.user_towers",
    ),
    (
        "revoke select (event_id) on twotower.events from twotower_server",
        "role twotower_server may not SELECT twotower.events",
    ),
    (
        "revoke usage on schema twotower from authenticated",
        "role authenticated lacks USAGE on schema twotower",
    ),
    (
        "revoke usage on sequence twotower.model_versions from twotower_trainer",
        "role twotower_trainer lacks USAGE on sequence twotower.model_versions",
    ),
    (
        "alter table twotower.job_runs alter column id drop identity",
        "sequence twotower.job_runs_id_seq is missing",
    ),
    (
        "grant execute on function twotower.erase_user(uuid, boolean) to public",
        "role public has EXECUTE on function twotower.erase_user(user_id uuid, application_tables boolean), and should not",
    ),
    (
        "revoke execute on function like_video(uuid, boolean) from authenticated",
        "role authenticated lacks EXECUTE on function public.like_video(video_id uuid, liked boolean)",
    ),
    (
        "alter function twotower.keep_erased_out() security invoker",
        "function twotower.keep_erased_out() runs with its caller's rights",
    ),
    (
        "alter function like_video(uuid, boolean) security definer",
        "function public.like_video(video_id uuid, liked boolean) runs with its owner's rights",
    ),
    (
        "alter function twotower.erase_caller() owner to pg_read_all_data",
        "function twotower.erase_caller() belongs to another role",
    ),
    (
        "alter function twotower.caller_is_erased() reset search_path",
        "function twotower.caller_is_erased() looks names up in schemas that it does not name",
    ),
    (
        "drop trigger twotower_erased_stay_out on likes",
        "trigger twotower_erased_stay_out of public.likes is missing",
    ),
    (
        "alter table skips disable trigger twotower_erasures_wait",
        "trigger twotower_erasures_wait of public.skips is disabled",
    ),
    (
        "create or replace trigger twotower_blocks_wait before delete on recommendation_blocks
             for each statement execute function twotower.limit_own_blocks()",
        "trigger twotower_blocks_wait of public.recommendation_blocks is not as the migration made it",
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

#[tokio::test]
async fn what_is_broken_is_named_and_mended_by_what_is_said() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    for &(broken, expected) in BROKEN {
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
    let found = audit(&store).await;
    assert_eq!(faults(&found), [] as [&_; 0]);
    assert!(found.policies.doubts.is_empty(), "{found:#?}");
    // The application may make likes public: a question, not a fault.
    let open = "create policy everybody on likes for select to public using (true)";
    database::execute(&url, open).await;
    let found = audit(&store).await;
    assert_eq!(faults(&found), [] as [&_; 0]);
    let [doubt] = &found.policies.doubts[..] else {
        panic!("{:#?}", found.policies.doubts);
    };
    assert_eq!(
        doubt.what,
        "policy \"everybody\" of public.likes is none of ours, for select to public using (true): is this wanted?"
    );
}

/// As in a database that began before PostgreSQL 15.
#[tokio::test]
async fn who_may_create_in_the_public_schema_is_asked_about() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    database::execute(&url, "revoke create on schema public from public").await;
    assert!(audit(&store).await.grants.doubts.is_empty());
    for role in ["public", "twotower_trainer"] {
        let grant = format!("grant create on schema public to {role}");
        database::execute(&url, &grant).await;
        let found = audit(&store).await.grants;
        let [doubt] = &found.doubts[..] else {
            panic!("{found:#?}");
        };
        let asked = format!("role {role} may create objects in schema public");
        assert!(doubt.what.starts_with(&asked), "{doubt:?}");
        assert!(found.faults.is_empty(), "{found:#?}");
        database::execute(&url, &doubt.fix).await;
        assert!(audit(&store).await.grants.doubts.is_empty());
    }
}

/// A blanket grant is reported table by table.
#[tokio::test]
async fn everything_that_strangers_were_granted_is_told() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let grant = "grant select on all tables in schema twotower to authenticated; grant execute on all functions in schema twotower to anon";
    database::execute(&url, grant).await;
    let found = audit(&store).await;
    let told = |audit: &Audit, words: &str| {
        let told = audit.faults.iter().any(|fault| fault.what == words);
        assert!(told, "{words}: {:#?}", audit.faults);
    };
    for table in ["tombstone_salt", "tombstones", "change_key", "user_towers"] {
        let words = format!("role authenticated may SELECT twotower.{table}, and should not");
        told(&found.grants, &words);
    }
    let words =
        "role anon has EXECUTE on function twotower.user_change_key(user_id uuid), and should not";
    told(&found.functions, words);
}

/// Policies of the application, and which of them raise a question.
#[tokio::test]
async fn policies_of_others_are_asked_about_where_they_let_more_through() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    database::execute(
        &url,
        "create policy \"own again\" on likes for select to authenticated using (auth.uid() = user_id);
         create policy fewer on likes as restrictive for select to authenticated using (true);
         create policy support on likes for select to authenticated
             using (auth.uid() = 'aaaaaaaa-0000-0000-0000-000000000000');
         create policy reports on user_embeddings for select to service_role using (true);
         create policy theirs on videos for select to anon using (true)",
    )
    .await;
    let found = audit(&store).await;
    assert_eq!(faults(&found), [] as [&_; 0]);
    let asked: Vec<&str> = found.policies.doubts.iter().map(|it| &*it.what).collect();
    let [support, reports] = asked[..] else {
        panic!("{asked:#?}");
    };
    for (said, words) in [
        (
            support,
            "policy \"support\" of public.likes is none of ours, for select to authenticated using (",
        ),
        (
            reports,
            "policy \"reports\" of public.user_embeddings is none of ours, for select to service_role using (true): is this wanted?",
        ),
    ] {
        assert!(said.starts_with(words), "{said}");
    }
    assert!(!support.contains("aaaaaaaa"), "{support}");
    assert_eq!(
        found.policies.doubts[0].fix,
        "drop policy \"support\" on public.likes;"
    );
}

/// Objects of pending migrations are not missing.
#[tokio::test]
async fn what_is_still_to_be_migrated_is_not_missing() {
    let url = empty_postgres_url().await;
    let store = connect(&url).await;
    assert_eq!(faults(&audit(&store).await), [] as [&_; 0]);
    store.migrate().await.unwrap();
    // As before the migration that creates one function, and changes the other's arguments.
    database::execute(
        &url,
        "delete from supabase_migrations.schema_migrations where version >= '20261203000200';
         drop function twotower.spells_uuid(text);
         drop function public.write_user_embedding(uuid, bigint, text, timestamptz);
         drop function twotower.best(text)",
    )
    .await;
    let found = audit(&store).await;
    let [fault] = faults(&found)[..] else {
        panic!("{:#?}", faults(&found))
    };
    let what =
        "function twotower.best(candidates text) is missing, though its migration is recorded";
    assert_eq!(fault.what, what);
    store.migrate().await.unwrap();
    mend(&url, &store, &fault.fix).await;
    assert_eq!(faults(&audit(&store).await), [] as [&_; 0]);
}

/// Monitoring asks how many of the latest likes are known, without reading all of them, even with
/// text ids.
#[tokio::test]
async fn the_latest_likes_are_found_by_an_index_over_their_times() {
    let url = postgres_url().await;
    database::execute(
        &url,
        "create table favourites (member text, film text, since timestamptz);
         create index on favourites (since);
         insert into favourites select gen_random_uuid()::text, gen_random_uuid()::text, now() - n * interval '1 hour'
             from generate_series(0, 20000) as n;
         insert into favourites values ('bob@example.com', gen_random_uuid()::text, now()), (gen_random_uuid()::text, 'film-1', now());
         analyze favourites",
    )
    .await;
    let source = Source {
        likes: "SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites;"
            .into(),
        ..Source::default()
    };
    let store = connect(&url).await;
    let coverage = store.like_coverage(&source, 1).await.unwrap();
    // Seven days, less the time since the rows were written.
    assert_eq!((coverage.likes, coverage.known), (168, 0));
    store.close().await;
    // Sessions write their statistics at their end, and nothing else reports that.
    let read = "do $$ begin
        for i in 1..200 loop
            exit when exists (select from pg_stat_user_tables where relname = 'favourites' and idx_scan > 0);
            perform pg_sleep(0.1);
            perform pg_stat_clear_snapshot();
        end loop;
        if not exists (select from pg_stat_user_tables where relname = 'favourites' and idx_scan > 0 and seq_tup_read = 0) then
            raise exception 'not by the index';
        end if;
    end $$";
    database::execute(&url, read).await;
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
    // The remedy depends on a record that the role may not read.
    database::execute(&url, "drop function twotower.spells_uuid(text)").await;
    let found = audit(&bystander).await;
    let [fault] = faults(&found)[..] else {
        panic!("{:#?}", faults(&found))
    };
    assert!(fault.what.contains("this role may not see"), "{fault:?}");
    assert!(!fault.fix.contains("--again"), "{fault:?}");
    bystander.close().await;
    database::execute(&url, &format!("drop role {name}")).await;
}
