-- Vectors of all generations side by side; readers filter on the active version. No dimension is fixed: it belongs to the
-- version, and an index to the version too. No foreign keys: the videos may live in a table of another name.

do $$
declare
    -- pgvector may be in any schema, in the search_path or not.
    vector_schema text := (
        select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace where extname = 'vector'
    );
    own record;
begin
    for own in select * from (values ('video_embeddings', 'video_id'), ('user_embeddings', 'user_id')) as _ (name, id) loop
        -- The type refuses NaN and infinity; scores are inner products, which mean something between unit vectors only.
        execute format(
            'create table if not exists public.%1$I (
                 %2$I uuid not null,
                 model_version bigint not null check (model_version > 0),
                 embedding %3$I.vector not null check (%3$I.vector_norm(embedding) between 0.99 and 1.01),
                 fingerprint bigint not null,
                 updated_at timestamptz not null default now(),
                 primary key (%2$I, model_version)
             )',
            own.name, own.id, vector_schema
        );
    end loop;
end
$$;

alter table public.video_embeddings enable row level security;
alter table public.user_embeddings enable row level security;

drop policy if exists "twotower: signed-in users read vectors of videos" on public.video_embeddings;
create policy "twotower: signed-in users read vectors of videos" on public.video_embeddings
    for select to authenticated using (true);

drop policy if exists "twotower: users read their own vector" on public.user_embeddings;
create policy "twotower: users read their own vector" on public.user_embeddings
    for select to authenticated using (user_id = (select auth.uid()));

grant select on public.video_embeddings, public.user_embeddings to authenticated;
grant select, insert, update, delete on public.video_embeddings, public.user_embeddings to service_role;
