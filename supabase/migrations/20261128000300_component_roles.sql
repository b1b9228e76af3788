-- A role for each component, so that one that is broken into cannot do what the others can: `train` and `evaluate` read,
-- `update` writes vectors and the registry, `serve` records what users do. Nobody can log in as one: grant it to a login role.
-- What an administrator does (migrate, import, erase, prune, experiments) stays the owner's and service_role's.
--
-- No table has FORCE ROW LEVEL SECURITY. An owner who is a superuser or has BYPASSRLS, as on Supabase, is past it anyway; for any
-- other it would end backups (pg_dump refuses to leave rows out), erasure and the jobs that run as the owner. What it is meant
-- to stop, a view or a function with the owner's rights, is held by the list of such functions that the tests compare.

do $$
declare
    missing text;
begin
    foreach missing in array array['twotower_trainer', 'twotower_updater', 'twotower_server'] loop
        if to_regrole(missing) is null then
            begin
                execute format('create role %I nologin', missing);
            exception
                -- Roles belong to the whole cluster: a migration of another database may be faster.
                when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
end
$$;

-- Older projects of Supabase grant all on every new table of `public` to everybody, TRUNCATE too, which no policy stops.
do $$
declare
    own record;
begin
    for own in
        select * from (values
            ('videos', 'select', null), ('tags', 'select', null), ('video_tags', 'select', null), ('performers', 'select', null),
            ('video_performers', 'select', null),
            ('likes', 'select, delete, insert (user_id, video_id)', 'insert'),
            ('skips', 'select, delete, insert (user_id, video_id)', 'insert')
        ) as _ (name, users, server)
    loop
        -- A table of the application's own has its own policies: docs/supabase.md has the statements to run there.
        continue when not exists (
            select from pg_policies where schemaname = 'public' and tablename = own.name and policyname like 'twotower: %'
        );
        if not exists (
            select from pg_policies where schemaname = 'public' and tablename = own.name and policyname not like 'twotower: %'
        ) then
            execute format('revoke all on public.%I from public, anon, authenticated, service_role', own.name);
            execute format('grant %s on public.%I to authenticated', own.users, own.name);
            execute format('grant select, insert, update, delete on public.%I to service_role', own.name);
        end if;
        execute format('grant select on public.%I to twotower_trainer, twotower_updater, twotower_server', own.name);
        execute format('drop policy if exists "twotower: the jobs and the server read" on public.%I', own.name);
        execute format(
            'create policy "twotower: the jobs and the server read" on public.%I
                 for select to twotower_trainer, twotower_updater, twotower_server using (true)', own.name
        );
        if own.server is not null then
            execute format('grant %s on public.%I to twotower_server', own.server, own.name);
            execute format('drop policy if exists "twotower: the server records" on public.%I', own.name);
            execute format(
                'create policy "twotower: the server records" on public.%I for insert to twotower_server with check (true)', own.name
            );
        end if;
    end loop;
end
$$;

revoke all on public.video_embeddings, public.user_embeddings, public.recommendation_blocks, public.recommendation_cache
    from public, anon, authenticated, service_role;
grant select on public.video_embeddings, public.user_embeddings to authenticated;
grant select, delete, insert (user_id, kind, value) on public.recommendation_blocks to authenticated;
grant select, delete on public.recommendation_cache to authenticated;
grant select, insert, update, delete
    on public.video_embeddings, public.user_embeddings, public.recommendation_blocks, public.recommendation_cache to service_role;
revoke all on function public.text_equals_uuid(text, uuid) from public, anon, authenticated, service_role;
grant execute on function public.text_equals_uuid(text, uuid)
    to authenticated, service_role, twotower_trainer, twotower_updater, twotower_server;

-- What each component needs of our own tables: (schema, table, role, verbs).
do $$
declare
    own record;
    policy text;
begin
    for own in
        select * from (values
            ('twotower', 'tombstones', 'twotower_trainer', 'select'),
            ('twotower', 'tombstones', 'twotower_updater', 'select'),
            ('twotower', 'tombstones', 'twotower_server', 'select'),
            ('twotower', 'tombstone_salt', 'twotower_trainer', 'select'),
            ('twotower', 'tombstone_salt', 'twotower_updater', 'select'),
            ('twotower', 'tombstone_salt', 'twotower_server', 'select'),
            ('twotower', 'models', 'twotower_trainer', 'select'),
            ('twotower', 'models', 'twotower_updater', 'select, insert, update'),
            ('twotower', 'models', 'twotower_server', 'select'),
            ('twotower', 'active_model', 'twotower_trainer', 'select'),
            ('twotower', 'active_model', 'twotower_updater', 'select, insert, update'),
            ('twotower', 'active_model', 'twotower_server', 'select'),
            ('twotower', 'model_activations', 'twotower_updater', 'select, insert'),
            ('twotower', 'publisher', 'twotower_updater', 'select, update'),
            ('public', 'video_embeddings', 'twotower_updater', 'select, insert, update, delete'),
            ('public', 'video_embeddings', 'twotower_server', 'select'),
            ('public', 'user_embeddings', 'twotower_updater', 'select, insert, update, delete'),
            ('public', 'recommendation_blocks', 'twotower_server', 'select, insert, delete'),
            ('twotower', 'experiments', 'twotower_updater', 'select'),
            ('twotower', 'experiments', 'twotower_server', 'select'),
            -- The ids that an insert tells it took.
            ('twotower', 'events', 'twotower_server', 'insert, select (event_id)'),
            ('twotower', 'change_key', 'twotower_server', 'select')
        ) as _ (schema, name, role, verbs)
    loop
        execute format('grant %s on %I.%I to %I', own.verbs, own.schema, own.name, own.role);
        -- Whoever may read one of these at all sees all of it, by an older policy.
        continue when own.name in ('tombstones', 'tombstone_salt', 'change_key');
        -- The verbs say what, the policy which rows: all.
        policy := 'twotower: all rows for ' || own.role;
        execute format('drop policy if exists %I on %I.%I', policy, own.schema, own.name);
        execute format('create policy %I on %I.%I to %I using (true) with check (true)', policy, own.schema, own.name, own.role);
    end loop;
end
$$;

grant usage on schema public, twotower to twotower_trainer, twotower_updater, twotower_server;
-- A version has its number before it has anything else.
grant usage on sequence twotower.model_versions to twotower_trainer, twotower_updater;
grant execute on function twotower.refresh_statistics() to twotower_updater;
grant execute on function twotower.user_state(uuid, bigint) to twotower_server;

-- Only a table's owner makes indexes on it. This one is made without CONCURRENTLY, which functions cannot: until it is complete,
-- other vectors of videos wait to be written, which one publisher writes at a time anyway. False if there is one already.
create or replace function twotower.build_vector_index(version bigint) returns boolean
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    name constant text := 'video_embeddings_hnsw_' || version;
    valid boolean;
    dim integer;
begin
    select embedding_dim into dim from twotower.models as model where model.version = build_vector_index.version;
    if dim is null then
        raise exception 'version % is not in the registry', version using errcode = 'invalid_parameter_value';
    end if;
    select indisvalid into valid from pg_catalog.pg_index where indexrelid = to_regclass('public.' || name);
    if valid then
        return false;
    end if;
    execute format('drop index if exists public.%I', name);
    execute format(
        'create index %1$I on public.video_embeddings using hnsw ((embedding::%2$I.vector(%3$s)) %2$I.vector_ip_ops)
         where model_version = %4$s', name, twotower.vector_schema(), dim, version
    );
    return true;
end
$$;

revoke all on function twotower.build_vector_index(bigint) from public;
grant execute on function twotower.build_vector_index(bigint) to twotower_updater, service_role;

-- pgvector's functions by name, wherever they are.
do $$
begin
    execute format('grant usage on schema %I to authenticated, service_role, twotower_updater', twotower.vector_schema());
exception
    when insufficient_privilege then
        raise notice 'the owner of pgvector''s schema has to grant USAGE on it: %', sqlerrm;
end
$$;

-- The record of migrations, which every command looks at.
do $$
begin
    if to_regclass('supabase_migrations.schema_migrations') is not null then
        grant usage on schema supabase_migrations to twotower_trainer, twotower_updater, twotower_server;
        grant select on supabase_migrations.schema_migrations to twotower_trainer, twotower_updater, twotower_server;
    end if;
exception
    when insufficient_privilege then
        raise notice 'the owner of the record of migrations has to grant it: %', sqlerrm;
end
$$;
