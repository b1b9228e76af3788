-- What is popular is counted as training and `twotower serve` count it: one like of a user and a video, however many rows of it a table of the
-- application's own has, and none of which an id is a text that is no UUID.

-- Hyphens may be left out, as everywhere else that reads these ids; regular expressions take no column's own idea of what is equal.
create or replace function twotower.spells_uuid(spelled text) returns boolean
    language sql
    immutable
    set search_path = ''
as $$
    select spelled collate "C" ~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$'
$$;

-- The likes of each video.
create or replace function twotower.like_counts() returns table (video_id uuid, likes bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- Most tables cannot have a pair twice, nor anything else than ids, and are counted as they are.
    if exists (
        select from pg_index
        where indrelid = 'public.likes'::regclass and indisvalid and indisunique and indimmediate and indpred is null and indnkeyatts = 2
        and 2 = (
            select count(*) from pg_attribute
            where attrelid = indrelid and attnum in (indkey[0], indkey[1]) and attname in ('user_id', 'video_id')
            and atttypid = 'uuid'::regtype and attnotnull
        )
    ) then
        return query select liked.video_id, count(*) from public.likes as liked group by liked.video_id;
    elsif 1 = (
        select count(*) from pg_attribute
        where attrelid = 'public.likes'::regclass and attname = 'user_id' and not attisdropped
        and (atttypid = 'uuid'::regtype or pg_catalog.format_type(atttypid, null) ~ '^(text|character varying|character|.*citext)$')
    ) then
        return query
            select pairs.liked_id, count(*) from (
                select distinct liked.user_id::uuid as liked_by, liked.video_id::uuid as liked_id from public.likes as liked
                where liked.user_id is not null and liked.video_id is not null
                and (pg_typeof(liked.user_id) = 'uuid'::regtype or twotower.spells_uuid(liked.user_id::text))
                and (pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text))
            ) as pairs
            group by pairs.liked_id;
    else
        -- Whose likes they are is not told by a column that could be read here.
        return query
            select liked.video_id::uuid, count(*) from public.likes as liked
            where pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text)
            group by liked.video_id::uuid;
    end if;
end
$$;

revoke all on function twotower.like_counts() from public;

-- What calls them keeps its owner, who may be another role than the one that migrates.
do $$
declare
    caller_owner constant text := (
        select rolname from pg_proc join pg_roles on pg_roles.oid = proowner where pg_proc.oid = 'twotower.refresh_statistics()'::regprocedure
    );
begin
    if caller_owner <> current_user then
        execute format('grant execute on function twotower.like_counts() to %I', caller_owner);
        execute format('grant execute on function twotower.spells_uuid(text) to %I', caller_owner);
    end if;
end
$$;

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
    with fresh as materialized (
        select counted.video_id, counted.likes from twotower.like_counts() as counted
    ), gone as (
        delete from twotower.video_popularity as known
        where not exists (select from fresh where fresh.video_id = known.video_id)
    )
    insert into twotower.video_popularity as known (video_id, likes)
    select fresh.video_id, fresh.likes from fresh
    on conflict (video_id) do update set likes = excluded.likes where known.likes <> excluded.likes;
    delete from twotower.vector_means;
    execute format(
        'insert into twotower.vector_means (model_version, mean)
         select model_version, %I.avg(embedding)::real[] from public.video_embeddings group by model_version',
        twotower.vector_schema()
    );
end
$$;

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
            select counted.video_id, (counted.likes::double precision / max(counted.likes) over ())::real
            from twotower.like_counts() as counted order by counted.likes desc, counted.video_id limit most;
    end if;
end
$$;
