//! Missing or edited objects of ours are recreated by the reported remedy, and nothing else is
//! replaced.

use crate::database::{execute, few_connections, postgres_url};
use sqlx::{Connection, Executor, PgConnection, Row};
use twotower_store::inspection::Fault;
use twotower_store::{ErasePlan, SchemaObject, Source, Store, StoreError};
use uuid::Uuid;

async fn connect(url: &str) -> Store {
    Store::connect(url, few_connections()).await.unwrap()
}

async fn faults(store: &Store) -> Vec<Fault> {
    let found = store
        .audit_schema(&Source::default())
        .await
        .unwrap()
        .unwrap();
    let audits = [
        found.tables,
        found.row_security,
        found.policies,
        found.grants,
        found.functions,
        found.triggers,
        found.indexes,
        found.keys,
    ];
    audits.into_iter().flat_map(|audit| audit.faults).collect()
}

/// Performs a remedy: statements, and then `twotower migrate --again`.
pub(super) async fn mend(url: &str, store: &Store, fix: &str) {
    let (statements, rest) = fix.split_once("`twotower migrate --again ").unwrap();
    let (names, rest) = rest.split_once('`').unwrap();
    assert_eq!(
        rest,
        ", which replaces what is named there and nothing else;"
    );
    execute(url, statements.trim_end_matches("then ")).await;
    let objects: Vec<SchemaObject> = names.split(',').map(|it| it.parse().unwrap()).collect();
    store.make_again(&objects).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_table_that_was_dropped_comes_back_with_its_migration() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(
        &url,
        "drop table twotower.job_runs, public.recommendation_cache",
    )
    .await;
    let found = store
        .audit_schema(&Source::default())
        .await
        .unwrap()
        .unwrap();
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
    // A sequence that was dropped with its table is not reported.
    assert!(found.grants.faults.is_empty(), "{found:#?}");
    let fix = &found.tables.faults[0].fix;
    assert_eq!(
        fix,
        "`twotower migrate --again public.recommendation_cache,twotower.job_runs`, which replaces what is named there and nothing else;"
    );
    mend(&url, &store, fix).await;
    assert_eq!(faults(&store).await, []);
}

#[tokio::test]
async fn a_function_that_was_dropped_comes_back_with_its_migration() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(&url, "drop function twotower.spells_uuid(text)").await;
    let found = faults(&store).await;
    let [fault] = &found[..] else {
        panic!("{found:#?}")
    };
    assert!(
        fault
            .what
            .starts_with("function twotower.spells_uuid(spelled text) is missing"),
        "{}",
        fault.what
    );
    mend(&url, &store, &fault.fix).await;
    assert_eq!(faults(&store).await, []);
}

/// A loop over our functions, which may refer to one as `own.name`, with its arguments.
fn of_functions(condition: &str, work: &str) -> String {
    format!(
        "do $do$ declare own record; begin
            for own in
                select pg_proc.oid, pg_proc.oid::regprocedure as name, proconfig
                from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
                where nspname in ('public', 'twotower') and {condition}
                    and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
            loop {work} end loop;
        end $do$"
    )
}

#[tokio::test]
async fn every_function_comes_back_as_it_was() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let edit = "execute replace(pg_get_functiondef(own.oid), 'AS $function$', 'AS $function$ /* edited */');";
    execute(&url, &of_functions("prosqlbody is null", edit)).await;
    let edited = faults(&store).await;
    assert!(edited.len() > 35, "{edited:#?}");
    mend(&url, &store, &edited[0].fix).await;
    assert_eq!(faults(&store).await, []);
    // Except those that triggers and operators need.
    let drop = "begin execute format('drop function %s', own.name); exception when dependent_objects_still_exist then null; end;";
    execute(&url, &of_functions("true", drop)).await;
    let gone = faults(&store).await;
    assert!(gone.len() > 30, "{gone:#?}");
    mend(&url, &store, &gone[0].fix).await;
    assert_eq!(faults(&store).await, []);
}

/// Some find the application's tables and operators in `public`, and some have no `search_path` so
/// that they are inlined.
#[tokio::test]
async fn every_function_gets_its_own_search_path_back() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let change = "execute format('alter function %s %s search_path %s', own.name,
        case when own.proconfig is null then 'set' else 'reset' end, case when own.proconfig is null then 'to pg_temp' else '' end);";
    execute(&url, &of_functions("true", change)).await;
    let lost = faults(&store).await;
    assert!(lost.len() > 35, "{lost:#?}");
    let fix = |name: &str| {
        let begin = format!("alter function {name}(");
        let own = lost.iter().find(|fault| fault.fix.starts_with(&begin));
        let (_, change) = own.unwrap().fix.rsplit_once(") ").unwrap();
        change.to_owned()
    };
    let expected = [
        ("twotower.caller_is_erased", "set search_path = '';"),
        ("twotower.user_state", "set search_path = public, pg_temp;"),
        (
            "public.similar_videos",
            "set search_path = public, pg_temp;",
        ),
        ("twotower.tidy", "reset search_path;"),
    ];
    for (name, change) in expected {
        assert_eq!(fix(name), change, "{name}");
    }
    for fault in &lost {
        execute(&url, &fault.fix).await;
    }
    assert_eq!(faults(&store).await, []);
}

/// `create or replace` refuses to rename arguments, and calls by name fail: the function exists and
/// is not missing.
#[tokio::test]
async fn an_argument_that_was_renamed_is_told() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(
        &url,
        "drop function like_video(uuid, boolean);
         create function like_video(video uuid, liked boolean default true) returns boolean
             language sql set search_path = '' as 'select true'",
    )
    .await;
    let found = faults(&store).await;
    let [fault] = &found[..] else {
        panic!("{found:#?}")
    };
    let there = "public.like_video(video uuid, liked boolean)";
    assert_eq!(
        fault.what,
        format!(
            "function public.like_video(video_id uuid, liked boolean) is not as the migrations make it: it takes or gives the same by other \
             names, as {there}"
        )
    );
    let begin = format!("drop function {there}; then `twotower migrate --again public.like_video`");
    assert!(fault.fix.starts_with(&begin), "{}", fault.fix);
    mend(&url, &store, &fault.fix).await;
    assert_eq!(faults(&store).await, []);
    // One for other types is the application's own.
    execute(
        &url,
        "drop function twotower.best(text);
         create function twotower.best(candidates integer) returns integer language sql as 'select 1'",
    )
    .await;
    let found = faults(&store).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].what.contains("is missing"), "{found:#?}");
    mend(&url, &store, &found[0].fix).await;
    assert_eq!(faults(&store).await, []);
    execute(&url, "drop function twotower.best(integer)").await;
}

/// Recreating one function leaves the application's changes to another of the same migration alone.
#[tokio::test]
async fn what_the_application_has_replaced_stays_so() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let own = "create or replace function public.similar_videos(
            video_id uuid, \"limit\" integer default 10, exclude_liked boolean default true
        ) returns setof twotower.recommendation language sql set search_path = '' as 'select null::twotower.recommendation where false'";
    execute(
        &url,
        &format!(
            "{own};
             insert into supabase_migrations.schema_migrations (version, name, statements)
             values ('20270102000000', 'own', array[$own${own}$own$]);
             drop function twotower.caller()"
        ),
    )
    .await;
    let found = faults(&store).await;
    let [fault] = &found[..] else {
        panic!("{found:#?}")
    };
    let said = "function twotower.caller() is missing";
    assert!(fault.what.starts_with(said), "{fault:?}");
    mend(&url, &store, &fault.fix).await;
    let found = store
        .audit_schema(&Source::default())
        .await
        .unwrap()
        .unwrap()
        .functions;
    assert_eq!(found.faults, []);
    let [doubt] = &found.doubts[..] else {
        panic!("{found:#?}")
    };
    let said = "function public.similar_videos(";
    assert!(doubt.what.starts_with(said), "{doubt:?}");
}

/// Policies, triggers, privileges and rules of every table of these schemas, which an operator may
/// have changed.
const CATALOGUE: &str = "
    SELECT of || ' ' || what FROM (
        SELECT schemaname || '.' || tablename AS of, concat_ws(' ', policyname, permissive, roles, cmd, qual, with_check) AS what FROM pg_policies
        UNION ALL
        SELECT tgrelid::regclass::text, concat_ws(' ', tgenabled, pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0
        UNION ALL
        SELECT pg_class.oid::regclass::text, concat_ws(' ', relrowsecurity, grantee::regrole, privilege_type)
        FROM pg_class, aclexplode(relacl) WHERE relnamespace IN ('public'::regnamespace, 'twotower'::regnamespace)
        UNION ALL
        SELECT attrelid::regclass::text, concat_ws(' ', attname, grantee::regrole, privilege_type)
        FROM pg_attribute, aclexplode(attacl) WHERE attrelid::regclass::text ~ '^(public|twotower)[.]'
    ) AS known WHERE of ~ '^(public|twotower)[.]' ORDER BY 1";

/// Unchanged, with the schema in every name.
async fn catalogue(connection: &mut PgConnection) -> Vec<String> {
    connection.execute("SET search_path = ''").await.unwrap();
    let rows = connection.fetch_all(CATALOGUE).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What it does to other tables.
fn others(catalogue: &[String], table: &str) -> Vec<String> {
    let is_other = |line: &&String| line.split(' ').next() != Some(table);
    catalogue.iter().filter(is_other).cloned().collect()
}

/// Stricter policies, changed triggers and busy tables of the application are left alone; so are
/// tables of ours that a statement names together with the requested one.
#[tokio::test]
async fn what_was_not_asked_for_is_not_touched() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let mut own = PgConnection::connect(&url).await.unwrap();
    own.execute(
        "alter policy \"twotower: users like for themselves\" on likes with check (user_id = auth.uid() and video_id is not null);
         alter policy \"twotower: users skip for themselves\" on skips with check (false);
         drop policy \"twotower: the server records\" on likes;
         create or replace trigger twotower_user_changes_insert after insert on likes
             for each statement when (false) execute function twotower.notify_user_changes();
         drop trigger twotower_erasures_wait on likes;
         alter table skips disable trigger twotower_erased_stay_out",
    )
    .await
    .unwrap();
    // One table of ours at a time, with changes to its neighbours in the same statements.
    for (asked, change) in [
        (
            "public.recommendation_cache",
            "grant update on user_embeddings to authenticated",
        ),
        (
            "public.recommendation_blocks",
            "revoke insert on recommendation_cache from service_role",
        ),
        (
            "public.user_embeddings",
            "alter policy \"twotower: all rows for twotower_updater\" on video_embeddings using (false)",
        ),
        (
            "public.video_embeddings",
            "drop trigger twotower_user_changes_delete on recommendation_blocks",
        ),
        (
            "twotower.tombstones",
            "revoke select on twotower.tombstone_salt from service_role",
        ),
        ("twotower.models", "drop table twotower.experiments cascade"),
    ] {
        own.execute(change).await.unwrap();
        let before = others(&catalogue(&mut own).await, asked);
        // A request for a lock on these would time out.
        own.execute("set search_path = public; begin; lock table likes, skips, videos, tags in access exclusive mode")
            .await
            .unwrap();
        store
            .make_again(&[asked.parse().unwrap()])
            .await
            .unwrap()
            .unwrap();
        own.execute("rollback").await.unwrap();
        let after = others(&catalogue(&mut own).await, asked);
        assert_eq!(after, before, "{asked}");
        own.execute("reset search_path").await.unwrap();
    }
}

#[tokio::test]
async fn each_table_comes_back_with_its_rights() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let mut own = PgConnection::connect(&url).await.unwrap();
    let fresh = catalogue(&mut own).await;
    assert!(fresh.len() > 200, "{fresh:#?}");
    for table in [
        "public.user_embeddings",
        "public.recommendation_blocks",
        "public.video_embeddings",
        "public.recommendation_cache",
        "twotower.models",
        "twotower.active_model",
        "twotower.model_activations",
        "twotower.publisher",
        "twotower.tombstones",
        "twotower.tombstone_salt",
        "twotower.change_key",
        "twotower.experiments",
        "twotower.events",
        "twotower.vector_means",
        "twotower.user_towers",
    ] {
        execute(&url, &format!("drop table {table} cascade")).await;
        let found = faults(&store).await;
        assert_eq!(found.len(), 1, "{table}: {found:#?}");
        mend(&url, &store, &found[0].fix).await;
        assert_eq!(faults(&store).await, [], "{table}");
        assert_eq!(catalogue(&mut own).await, fresh, "{table}");
    }
}

/// A new salt would readmit erased users.
#[tokio::test]
async fn no_salt_is_made_for_tombstones_that_have_lost_theirs() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    let gone = Uuid::from_u128(7);
    let plan = ErasePlan {
        likes: true,
        skips: true,
        ..ErasePlan::default()
    };
    store.erase_user(gone, &plan).await.unwrap();
    execute(
        &url,
        "create table kept as select encode(salt, 'hex') as digits from twotower.tombstone_salt",
    )
    .await;
    let salt: SchemaObject = "twotower.tombstone_salt".parse().unwrap();
    // With its salt the table gets its privileges back.
    store.make_again(&[salt]).await.unwrap().unwrap();
    assert_eq!(store.erased_users(&[gone]).await.unwrap(), [gone]);
    let mut said = String::new();
    for loss in [
        "delete from twotower.tombstone_salt",
        "drop table twotower.tombstone_salt",
    ] {
        execute(&url, loss).await;
        let error = store.make_again(&[salt]).await.unwrap_err();
        assert!(matches!(error, StoreError::LostSalt(1)), "{error}");
        said = error.to_string();
    }
    execute(
        &url,
        "do $$ begin assert to_regclass('twotower.tombstone_salt') is null; end $$",
    )
    .await;
    // The reported statements restore the salt from a backup.
    let (_, put) = said.split_once('`').unwrap();
    let (_, put) = put.split_once("`create table").unwrap();
    let (put, _) = put.split_once('`').unwrap();
    let put = put.replace("'DIGITS'", "(select digits from kept)");
    execute(&url, &format!("create table{put}; drop table kept")).await;
    store.make_again(&[salt]).await.unwrap().unwrap();
    assert_eq!(store.erased_users(&[gone]).await.unwrap(), [gone]);
    assert_eq!(faults(&store).await, []);
    // Without a backup the tombstones are deleted explicitly.
    execute(
        &url,
        "drop table twotower.tombstone_salt; truncate twotower.tombstones;",
    )
    .await;
    store.make_again(&[salt]).await.unwrap().unwrap();
    assert!(store.erase_user(gone, &plan).await.unwrap().first_time);
    assert_eq!(store.erased_users(&[gone]).await.unwrap(), [gone]);
    assert_eq!(faults(&store).await, []);
}

/// Existing version numbers are not allocated again.
#[tokio::test]
async fn the_sequence_of_versions_goes_on_behind_them() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(
        &url,
        "insert into twotower.models (version, state, embedding_dim, snapshot_sha256, hyperparameters, metrics, manifest_sha256)
             values (7, 'retired', 8, '', '{}', '{}', '');
         drop sequence twotower.model_versions",
    )
    .await;
    let found = faults(&store).await;
    let [fault] = &found[..] else {
        panic!("{found:#?}")
    };
    mend(&url, &store, &fault.fix).await;
    assert_eq!(faults(&store).await, []);
    assert_eq!(store.next_model_version().await.unwrap(), 8);
    mend(&url, &store, &fault.fix).await;
    assert_eq!(store.next_model_version().await.unwrap(), 9);
}

#[tokio::test]
async fn all_that_is_ours_comes_back() {
    let url = postgres_url().await;
    let store = connect(&url).await;
    execute(&url, "drop schema twotower cascade").await;
    let found = faults(&store).await;
    mend(&url, &store, &found[0].fix).await;
    // Lost objects of the application's tables are reported statement by statement.
    for fault in faults(&store).await {
        execute(&url, &fault.fix).await;
    }
    assert_eq!(faults(&store).await, []);
    execute(
        &url,
        "do $$ begin assert (select count(*) from pg_operator where oprnamespace = 'twotower'::regnamespace) = 4; end $$",
    )
    .await;
}

#[test]
fn what_is_not_ours_cannot_be_asked_for() {
    for name in ["public.likes", "public", "twotower.nothing", "caller", ""] {
        assert!(name.parse::<SchemaObject>().is_err(), "{name}");
    }
    let caller: SchemaObject = "twotower.caller".parse().unwrap();
    assert_eq!(caller.to_string(), "function twotower.caller");
}
