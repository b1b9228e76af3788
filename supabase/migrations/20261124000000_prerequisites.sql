-- What Supabase brings along and plain PostgreSQL (14 and later) does not: three roles, auth.uid() and pgvector. Each is
-- made only where it is missing, and nothing that is there is changed. Safe to run again.

do $$
declare
    missing text;
begin
    foreach missing in array array['anon', 'authenticated', 'service_role'] loop
        if to_regrole(missing) is null then
            begin
                execute format(
                    'create role %I nologin noinherit %s',
                    missing,
                    case missing when 'service_role' then 'bypassrls' else '' end
                );
            exception
                -- Roles belong to the whole cluster: a migration of another database may be faster.
                when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
end
$$;

do $$
begin
    if to_regnamespace('auth') is null then
        create schema auth;
        grant usage on schema auth to anon, authenticated, service_role;
    end if;
    if to_regprocedure('auth.uid()') is null then
        create function auth.uid() returns uuid
            language sql stable
            set search_path = ''
            return nullif(
                coalesce(
                    nullif(current_setting('request.jwt.claim.sub', true), ''),
                    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
                ),
                ''
            )::uuid;
    end if;
end
$$;

-- Supabase keeps extensions in a schema of their own, which is in every role's search_path there.
do $$
begin
    if not exists (select from pg_extension where extname = 'vector') then
        if 'extensions' = any (current_schemas(false)) then
            create extension vector with schema extensions;
        else
            create extension vector with schema public;
        end if;
    end if;
end
$$;

-- Ids of users are uuid here, and policies of older guides compare `auth.uid()::text` with them.
create or replace function public.text_equals_uuid(text, uuid) returns boolean
    language sql immutable strict parallel safe
    set search_path = ''
    return $1 = $2::text;

revoke all on function public.text_equals_uuid(text, uuid) from public;
grant execute on function public.text_equals_uuid(text, uuid) to anon, authenticated, service_role;

do $$
begin
    if to_regoperator('public.=(text,uuid)') is null then
        create operator public.= (leftarg = text, rightarg = uuid, function = public.text_equals_uuid);
    end if;
end
$$;
