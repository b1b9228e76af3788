-- In an empty database, as a superuser.

do $$
begin
    execute format('alter database %I owner to stand_in_owner', current_database());
    execute format('alter database %I set search_path = "$user", public, extensions', current_database());
end
$$;

revoke create on schema public from public;
grant usage on schema public to anon, authenticated, service_role;
grant all on schema public to stand_in_owner;

create schema extensions;
create extension vector with schema extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant all on schema extensions to stand_in_owner with grant option;

create schema auth authorization stand_in_auth_admin;
grant usage on schema auth to anon, authenticated, service_role, stand_in_owner;

create table auth.users (id uuid primary key, email text);
alter table auth.users owner to stand_in_auth_admin;
alter table auth.users enable row level security;

create function auth.uid() returns uuid
    language sql stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
    )::uuid
$$;
alter function auth.uid() owner to stand_in_auth_admin;

create schema storage authorization stand_in_storage_admin;
grant usage on schema storage to anon, authenticated, service_role, stand_in_owner;

create table storage.buckets (
    id text primary key,
    name text not null unique,
    public boolean default false,
    created_at timestamptz default now()
);
create table storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner_id text,
    unique (bucket_id, name)
);
alter table storage.buckets owner to stand_in_storage_admin;
alter table storage.objects owner to stand_in_storage_admin;
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
-- Storage decides by policies, not by grants.
grant select, insert, update, delete on storage.buckets, storage.objects to anon, authenticated, service_role, stand_in_owner;
