//! A schema that differs from what the migrations create.

use super::{doctor, finding, served, told, wrong};
use crate::life_cycle::place::Place;
use crate::support::sql;
use serde_json::json;

#[test]
fn a_schema_that_drifted_is_named_object_by_object() {
    let place = Place::on_postgres();
    served(&place);
    for (broken, check, evidence, fix) in [
        (
            "revoke select on likes from twotower_trainer",
            "grants",
            "role twotower_trainer may not SELECT public.likes",
            "grant SELECT on public.likes to twotower_trainer;",
        ),
        // A server with this role needs these rights.
        (
            "revoke usage on schema twotower from twotower_server",
            "grants",
            "role twotower_server lacks USAGE on schema twotower",
            "grant USAGE on schema twotower to twotower_server;",
        ),
        (
            "grant select on all tables in schema twotower to authenticated",
            "grants",
            "role authenticated may SELECT twotower.tombstone_salt, and should not",
            "revoke SELECT on twotower.tombstone_salt from authenticated;",
        ),
        (
            "revoke execute on function twotower.user_state(uuid, bigint) from twotower_server",
            "functions",
            "role twotower_server lacks EXECUTE on function twotower.user_state(asked uuid, skip_limit bigint",
            "grant EXECUTE on function twotower.user_state(",
        ),
        (
            "create or replace function twotower.caller_is_erased() returns boolean language sql security definer
                 set search_path = '' as 'select false'",
            "functions",
            "function twotower.caller_is_erased() is not as the migrations make it: what it does, with its owner's rights, was changed",
            "`twotower migrate --again twotower.caller_is_erased`, which replaces what is named there and nothing else;",
        ),
        (
            "alter table likes disable trigger twotower_erased_stay_out",
            "triggers",
            "trigger twotower_erased_stay_out of public.likes is disabled",
            "alter table public.likes enable trigger twotower_erased_stay_out;",
        ),
        (
            "create policy everybody on likes for select to authenticated using (true)",
            "policies",
            "opens rows of all users",
            "drop policy \"everybody\" on public.likes;",
        ),
        (
            "alter table user_embeddings disable row level security",
            "row-security",
            "public.user_embeddings is off",
            "alter table public.user_embeddings enable row level security;",
        ),
        (
            "drop policy \"twotower: users read their own vector\" on user_embeddings",
            "policies",
            "users read their own vector",
            "create policy",
        ),
        (
            "drop index video_embeddings_updated_at_idx",
            "indexes",
            "video_embeddings_updated_at_idx",
            "create index concurrently",
        ),
        (
            "drop table twotower.job_runs",
            "migrations",
            "table twotower.job_runs is missing",
            "twotower migrate",
        ),
        (
            "delete from supabase_migrations.schema_migrations where version = '20261201000000'",
            "migrations",
            "20261201000000",
            "twotower migrate",
        ),
        // For the rights that were revoked above.
        (
            "select",
            "grants",
            "not applied yet: 1 migration, with which some of this may come; role twotower_server lacks",
            "`twotower migrate`, then look again; what is told then: grant USAGE",
        ),
        (
            "drop extension vector cascade",
            "pgvector",
            "not in this database",
            "create extension vector;",
        ),
    ] {
        sql(&place.url, broken);
        wrong(&place, check, None, evidence, fix);
    }
}

/// The command that the doctor suggests works.
#[test]
fn what_was_edited_is_made_again_by_the_command_that_is_said() {
    let place = Place::on_postgres();
    sql(
        &place.url,
        "create or replace function twotower.caller_is_erased() returns boolean language sql security definer
             set search_path = '' as 'select false';
         drop table twotower.job_runs",
    );
    let made = place.json("migrate --again twotower.caller_is_erased,twotower.job_runs");
    let expected = [
        "function twotower.caller_is_erased",
        "table twotower.job_runs",
    ];
    assert_eq!(made["again"], json!(expected));
    for check in ["functions", "migrations", "grants", "policies"] {
        let (_, value) = told(doctor(&place, &format!("--only {check}")));
        let (verdict, evidence, _) = finding(&value, check, None);
        assert_eq!(verdict, "passed", "{check}: {evidence}");
    }
    let said = place.refused("migrate --again public.likes", 2);
    assert!(said.contains("no table and no function of ours"), "{said}");
    // Objects of a pending migration are not recreated without it.
    sql(
        &place.url,
        "delete from supabase_migrations.schema_migrations where version = '20261201000000'",
    );
    let said = place.refused("migrate --again twotower.job_runs", 1);
    assert!(
        said.contains("20261201000000") && said.contains("run `twotower migrate`"),
        "{said}"
    );
    let said = Place::on_sqlite().refused("migrate --again twotower.models", 1);
    assert!(said.contains("PostgreSQL alone"), "{said}");
}

/// Where the recommender reads another table, a table with our name is the application's business.
#[test]
fn tables_that_the_source_replaces_are_passed_over() {
    let place = Place::on_postgres();
    sql(
        &place.url,
        "create table favourites as
             select md5(n::text)::uuid as member, md5(n::text)::uuid as film, now() as since from generate_series(1, 6000) as n;
         analyze favourites;
         do $$ declare policy text; begin
             for policy in select policyname from pg_policies where tablename = 'likes' loop
                 execute format('drop policy %I on likes', policy);
             end loop; end $$;
         alter table likes disable row level security;
         drop index likes_video_id_idx",
    );
    let off = "row level security of public.likes is off";
    wrong(&place, "row-security", None, off, "alter table");
    place.configure(
        "[source]\nlikes = \"SELECT member AS user_id, film AS video_id, since AS created_at FROM favourites\"",
    );
    let (code, value) = told(doctor(&place, "--only row-security,indexes,unique-likes"));
    assert_eq!(code, Some(0), "{value:#}");
    for check in ["row-security", "indexes", "unique-likes"] {
        let (verdict, evidence, _) = finding(&value, check, None);
        assert_eq!(verdict, "passed", "{check}: {evidence}");
        let over =
            "; passed over, as [source] replaces them, or computes ids of theirs: public.likes";
        assert!(evidence.ends_with(over), "{check}: {evidence}");
    }
    let (verdict, evidence, fix) = finding(&value, "indexes", Some("source"));
    assert_eq!(verdict, "warned", "{evidence}");
    assert!(
        evidence.starts_with("likes of [source]: each request reads all of public.favourites"),
        "{evidence}"
    );
    assert_eq!(
        fix,
        "create index concurrently on public.favourites (member);"
    );
    sql(&place.url, &fix);
    let (_, value) = told(doctor(&place, "--only indexes"));
    let (verdict, evidence, _) = finding(&value, "indexes", Some("source"));
    assert_eq!(verdict, "passed", "{evidence}");
    // A query that computes ids still reads the table, with what users like.
    place.configure(
        "[source]\nlikes = \"SELECT user_id::uuid AS user_id, video_id, created_at FROM public.likes\"",
    );
    sql(
        &place.url,
        "create policy \"all see all\" on likes for select using (true);
         create policy own on likes for select using (user_id = (select auth.uid()));
         create policy other on likes for select using (user_id::text = current_user)",
    );
    let (code, value) = told(doctor(&place, "--only row-security,policies"));
    assert_eq!(code, Some(0), "{value:#}");
    let (verdict, evidence, fix) = finding(&value, "row-security", None);
    assert_eq!(verdict, "warned", "{evidence}");
    let said = "row level security of public.likes, a table of the application's own that [source] reads, is off";
    assert!(evidence.starts_with(said), "{evidence}");
    assert!(!evidence.contains("passed over"), "{evidence}");
    let together =
        "in one transaction, enable row level security of public.likes and create policies";
    assert!(
        fix.contains(together) && !fix.contains("alter table"),
        "{fix}"
    );
    let (verdict, evidence, _) = finding(&value, "policies", None);
    assert_eq!(verdict, "warned", "{evidence}");
    assert_eq!(
        evidence,
        "policy \"all see all\" of public.likes is none of ours, for select to public using (true): is this wanted?"
    );
    sql(
        &place.url,
        "alter table likes enable row level security; drop policy \"all see all\" on likes",
    );
    let (code, value) = told(doctor(&place, "--only row-security,policies"));
    assert_eq!(code, Some(0), "{value:#}");
    for check in ["row-security", "policies"] {
        let (verdict, evidence, _) = finding(&value, check, None);
        assert_eq!(verdict, "passed", "{check}: {evidence}");
        assert!(!evidence.contains("passed over"), "{check}: {evidence}");
    }
}
