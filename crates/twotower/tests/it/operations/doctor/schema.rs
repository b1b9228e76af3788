//! A schema that is not as the migrations made it.

use super::{served, wrong};
use crate::life_cycle::place::Place;
use crate::support::sql;

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
        // What a server that runs with this role asks for.
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
            "delete from supabase_migrations.schema_migrations where version in ('",
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
        // Of the rights that were taken away above.
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
