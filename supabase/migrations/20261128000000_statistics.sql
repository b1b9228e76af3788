-- What recommendations in SQL need to know of all users and videos together, as of the last refresh: a caller's own rights would
-- count the caller's likes only, and counting all of them takes seconds where there are millions.

grant usage on schema twotower to authenticated;

-- Where pgvector is: its operators have no name that holds everywhere.
create or replace function twotower.vector_schema() returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return (
        select nspname from pg_catalog.pg_extension join pg_catalog.pg_namespace on pg_namespace.oid = extnamespace
        where extname = 'vector'
    );
end
$$;

revoke all on function twotower.vector_schema() from public;
grant execute on function twotower.vector_schema() to authenticated, service_role;

-- Likes of each video.
create table if not exists twotower.video_popularity (
    video_id uuid primary key,
    likes bigint not null check (likes > 0)
);

create index if not exists video_popularity_likes_idx on twotower.video_popularity (likes desc, video_id);

-- The mean of a version's video vectors, which twotower.blended_vector measures tastes from.
create table if not exists twotower.vector_means (
    model_version bigint primary key,
    mean real[] not null
);

alter table twotower.video_popularity enable row level security;
alter table twotower.vector_means enable row level security;
drop policy if exists "twotower: who may read sees all" on twotower.video_popularity;
create policy "twotower: who may read sees all" on twotower.video_popularity for select using (true);
drop policy if exists "twotower: who may read sees all" on twotower.vector_means;
create policy "twotower: who may read sees all" on twotower.vector_means for select using (true);
grant select, insert, update, delete on twotower.video_popularity, twotower.vector_means to service_role;

-- Counts and averages afresh. `twotower update` calls it.
create or replace function twotower.refresh_statistics() returns void
    language plpgsql
    security definer
    set search_path = ''
    -- An error, and not a count of nothing, where a policy would hide rows.
    set row_security = off
as $$
begin
    lock table twotower.video_popularity in share row exclusive mode;
    delete from twotower.video_popularity as counted
    where not exists (select from public.likes as liked where liked.video_id = counted.video_id);
    insert into twotower.video_popularity as counted (video_id, likes)
    select liked.video_id, count(*) from public.likes as liked group by liked.video_id
    on conflict (video_id) do update set likes = excluded.likes where counted.likes <> excluded.likes;
    delete from twotower.vector_means;
    execute format(
        'insert into twotower.vector_means (model_version, mean)
         select model_version, %I.avg(embedding)::real[] from public.video_embeddings group by model_version',
        twotower.vector_schema()
    );
end
$$;

revoke all on function twotower.refresh_statistics() from public;
grant execute on function twotower.refresh_statistics() to service_role;

-- The most liked videos, best first, with their likes as a share of those of the first; all that anybody likes without a
-- `most`. Until they were counted once, they are counted now.
create or replace function twotower.popular_videos(most bigint default null) returns table (video_id uuid, share real)
    language plpgsql
    stable
    security definer
    set search_path = ''
    set row_security = off
as $$
begin
    return query
        select counted.video_id,
               (counted.likes::double precision / (select max(all_counted.likes) from twotower.video_popularity as all_counted))::real
        from twotower.video_popularity as counted order by counted.likes desc, counted.video_id limit most;
    if not found then
        return query
            select liked.video_id, (count(*)::double precision / max(count(*)) over ())::real
            from public.likes as liked group by liked.video_id order by count(*) desc, liked.video_id limit most;
    end if;
end
$$;

revoke all on function twotower.popular_videos(bigint) from public;
grant execute on function twotower.popular_videos(bigint) to authenticated;

-- Where the vectors of a version have their middle; NULL until it was computed.
create or replace function twotower.vector_mean(version bigint) returns real[]
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
begin
    return (select mean from twotower.vector_means where model_version = version);
end
$$;

revoke all on function twotower.vector_mean(bigint) from public;
grant execute on function twotower.vector_mean(bigint) to authenticated;
