-- A like or skip of the application's own table counts nowhere if its time is empty, infinite or outside the years 1970 to 2106, since
-- anybody who may write a row may be able to choose its time: training, `twotower serve` and functions in SQL all leave it out. And
-- empty strings that are joined with bytes say their type, so that no aggregate of another schema fits better than PostgreSQL's own.

-- Whether a like or skip of this time counts: the model counts seconds since 1970 in 32 bits. Without SET, so that it is inlined, and
-- without a time that is printed in the session's time zone, since `twotower doctor` compares the function as it is printed.
create or replace function twotower.is_time(made_at timestamptz) returns boolean
    language sql immutable parallel safe
    return made_at >= pg_catalog.to_timestamp(0) and made_at < pg_catalog.to_timestamp(4294967296);

-- A table of the application's own may keep its times in a type that is no time, such as seconds in bigint. Nothing is known of those, and
-- all count. For a timestamp, a date or a domain of one PostgreSQL takes the function above.
create or replace function twotower.is_time(made_at anyelement) returns boolean
    language sql immutable parallel safe
    as 'select true';

grant execute on function twotower.is_time(timestamptz), twotower.is_time(anyelement) to public;

-- The likes of each video.
create or replace function twotower.like_counts() returns table (video_id uuid, likes bigint)
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    -- A table of the application's own may keep its times in another column.
    timed constant text := case
        when exists (
            select from pg_attribute
            where attrelid = 'public.likes'::regclass and attname = 'created_at' and not attisdropped
        ) then 'twotower.is_time(liked.created_at)'
        else 'true'
    end;
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
        return query execute
            'select liked.video_id, count(*) from public.likes as liked where ' || timed || ' group by liked.video_id';
    elsif 1 = (
        select count(*) from pg_attribute
        where attrelid = 'public.likes'::regclass and attname = 'user_id' and not attisdropped
        and (atttypid = 'uuid'::regtype or pg_catalog.format_type(atttypid, null) ~ '^(text|character varying|character|.*citext)$')
    ) then
        return query execute format($statement$
            select pairs.liked_id, count(*) from (
                select distinct liked.user_id::uuid as liked_by, liked.video_id::uuid as liked_id from public.likes as liked
                where liked.user_id is not null and liked.video_id is not null
                and (pg_typeof(liked.user_id) = 'uuid'::regtype or twotower.spells_uuid(liked.user_id::text))
                and (pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text))
                and %s
            ) as pairs
            group by pairs.liked_id $statement$, timed);
    else
        -- Whose likes they are is not told by a column that could be read here.
        return query execute format($statement$
            select liked.video_id::uuid, count(*) from public.likes as liked
            where (pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text)) and %s
            group by liked.video_id::uuid $statement$, timed);
    end if;
end
$$;

-- All that answering a user needs: every like, the latest `skip_limit` skips or, without one, every skip, and every block. A function
-- because its plans are kept for the session, under a pooler too: planning these statements takes longer than running them. It runs
-- with the rights of its caller.
create or replace function twotower.user_state(
    asked uuid, skip_limit bigint, out erased boolean, out likes bytea, out skips bytea, out blocks text
)
    language plpgsql
    stable
    set search_path = public, pg_temp
    -- A hundred thousand rows are sorted without a file.
    set work_mem = '16MB'
as $$
begin
    perform from twotower.tombstones
    where user_hash = (select pg_catalog.sha256(salt || pg_catalog.uuid_send(asked)) from twotower.tombstone_salt);
    erased := found;
    if erased then
        return;
    end if;
    -- The 16 bytes of each id, oldest first.
    select string_agg(uuid_send(liked.video_id), ''::bytea order by liked.created_at, liked.video_id) into likes
    from public.likes as liked where liked.user_id = asked and twotower.is_time(liked.created_at);
    if skip_limit is null then
        -- Sorted once.
        select string_agg(uuid_send(skipped.video_id), ''::bytea order by skipped.created_at, skipped.video_id) into skips
        from public.skips as skipped where skipped.user_id = asked and twotower.is_time(skipped.created_at);
    else
        select string_agg(uuid_send(latest.video_id), ''::bytea order by latest.created_at, latest.video_id) into skips
        from (
            select skipped.video_id, skipped.created_at from public.skips as skipped
            where skipped.user_id = asked and twotower.is_time(skipped.created_at)
            order by skipped.created_at desc, skipped.video_id desc limit skip_limit
        ) as latest;
    end if;
    -- [[kind, value], …]
    select json_agg(json_build_array(kind, value) order by kind collate "C", value collate "C") into blocks
    from public.recommendation_blocks where user_id = asked;
end
$$;

-- What a user is answered depends on, as one hash: the active version, every like, every skip and every block. Lists put each video
-- that was skipped behind all others, so that taking back an old skip changes them, too.
create or replace function twotower.caller_state(version bigint) returns text
    language plpgsql
    stable
    set search_path = public, pg_temp
    -- A hundred thousand rows are sorted without a file.
    set work_mem = '16MB'
as $$
declare
    caller constant uuid := auth.uid();
begin
    -- Lengths first, so that a like cannot pass for a skip.
    return encode(sha256(
        int8send(coalesce(version, 0))
        || (select int8send(count(*))
                || coalesce(string_agg(uuid_send(liked.video_id::uuid), ''::bytea order by created_at, liked.video_id), ''::bytea)
            from likes as liked where user_id = caller and twotower.is_time(created_at))
        || (select int8send(count(*))
                || coalesce(string_agg(uuid_send(skipped.video_id::uuid), ''::bytea order by created_at, skipped.video_id), ''::bytea)
            from skips as skipped where user_id = caller and twotower.is_time(created_at))
        || (select coalesce(convert_to(
                json_agg(json_build_array(kind, value) order by kind collate "C", value collate "C")::text, 'UTF8'), ''::bytea)
            from recommendation_blocks where user_id = caller)
    ), 'hex');
end
$$;

-- The caller's vector: by the user tower where its weights are here. Else the one that was computed, if nothing was liked or skipped
-- since, else a blended one. NULL for somebody who has done nothing.
create or replace function twotower.caller_vector(version bigint, dim integer) returns real[]
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    caller constant uuid := auth.uid();
    computed record;
    latest timestamptz;
    stored real[];
begin
    select * into computed from twotower.user_vector(version);
    if computed.known then
        return computed.vector;
    end if;
    latest := greatest(
        (select max(created_at) from likes where user_id = caller and twotower.is_time(created_at)),
        (select max(created_at) from skips where user_id = caller and twotower.is_time(created_at))
    );
    if latest is null then
        return null;
    end if;
    select embedding::real[] into stored from user_embeddings
    where user_id = caller and model_version = caller_vector.version and updated_at >= latest;
    return coalesce(stored, twotower.blended_vector(version, dim));
end
$$;

-- A vector for the caller out of the vectors of what they liked, about what the user tower makes of its averages at several recency
-- scales, without its weights: the last like and the averages at decays .5, .8, .95 and 1 per like, seen from half way to the middle
-- of all videos. The factors come near a least-squares fit on two trained towers (docs/supabase.md says how close that is); skips
-- brought nothing. NULL where nothing they liked has a vector.
create or replace function twotower.blended_vector(version bigint, dim integer) returns real[]
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    blended real[];
begin
    execute format(
        $statement$
        with liked as (
            select vectors.embedding, count(*) over () as n,
                   (row_number() over (order by latest.created_at desc, latest.video_id desc) - 1)::double precision as age
            from (
                select video_id, created_at from likes where user_id = $1 and twotower.is_time(created_at)
                order by created_at desc, video_id desc limit 1000
            ) as latest
            join video_embeddings as vectors on vectors.video_id = latest.video_id::uuid and vectors.model_version = %3$s
        ),
        scales (decay, share) as (values (0.5::double precision, 0.15), (0.8, 0.45), (0.95, 0.15)),
        -- share / (sum of the weights decay ^ age)
        scaled as (
            select decay, share * (1 - decay) / (1 - decay ^ (select count(*) from liked)) as factor from scales
        ),
        weighted as (
            select embedding,
                   case age when 0 then 0.05 else 0 end + 0.2 / n + (select sum(factor * decay ^ age) from scaled) as weight
            from liked
            union all
            select twotower.vector_mean(%3$s)::%1$I.vector, -0.5
            where exists (select from liked) and twotower.vector_mean(%3$s) is not null
        )
        select %1$I.l2_normalize(
                   %1$I.sum(array_fill(weight::real, array[%2$s])::%1$I.vector operator(%1$I.*) embedding)
               )::real[]
        from weighted
        $statement$,
        twotower.vector_schema(), dim, version
    ) into blended using auth.uid();
    -- What cancels out has no direction.
    if 0 = all (blended) then
        return null;
    end if;
    return blended;
end
$$;

-- The best videos for the caller by inner product with `vector`, by likes without one. Never what they block, `itself`, or,
-- while `exclude_liked` holds, what they like; what they skipped, however long ago, comes after all else.
create or replace function twotower.ranked_videos(
    version bigint, dim integer, vector real[], "limit" integer, exclude_liked boolean, min_score real, itself uuid
) returns table (video_id uuid, title text, score real, skipped_before boolean)
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    caller constant uuid := twotower.caller();
    place constant text := twotower.vector_schema();
    blocks record;
    -- Ids that are never answered, and those that are answered last.
    never uuid[];
    skipped uuid[];
    -- Statements that give video_id and score, without order or end. What is left out all but the one by the index ask for as a join, which
    -- takes no longer for a hundred thousand ids.
    nearest text;
    every text;
    found_ids uuid[] := '{}';
    found_scores real[] := '{}';
    more_ids uuid[] := '{}';
    more_scores real[] := '{}';
begin
    if "limit" is null or "limit" not between 1 and 100 then
        raise exception '"limit" is between 1 and 100' using errcode = 'invalid_parameter_value';
    elsif min_score = 'NaN' then
        raise exception 'min_score is a number' using errcode = 'invalid_parameter_value';
    end if;
    select * into blocks from twotower.caller_blocks();
    never := array_remove(coalesce(blocks.videos, '{}') || itself, null);
    -- `counted` is looked at only where a table of the application's own has no such column.
    if exclude_liked is not false then
        never := never || array(
            select liked.video_id::uuid
            from (select 'epoch'::timestamptz as created_at) as counted,
                 lateral (select likes.video_id from likes where user_id = caller and twotower.is_time(created_at)) as liked
        );
    end if;
    skipped := array(
        select own.video_id::uuid
        from (select 'epoch'::timestamptz as created_at) as counted,
             lateral (select skips.video_id from skips where user_id = caller and twotower.is_time(created_at)) as own
    );

    if vector is null then
        every := format(
            'select v.id::uuid as video_id, coalesce(popular.share, 0)::real as score
             from public.videos as v left join twotower.popular_videos() as popular on v.id = popular.video_id
             where not exists (select from unnest($2) as gone (id) where gone.id = v.id::uuid) %s', blocks.admitted
        );
        -- Most of the time the first few hundred are enough.
        nearest := format(
            'select popular.video_id, popular.share as score
             from twotower.popular_videos(%s) as popular join public.videos as v on v.id = popular.video_id
             where not exists (select from unnest($2) as gone (id) where gone.id = popular.video_id) %s',
            1000 + cardinality(never) + cardinality(skipped), blocks.admitted
        );
    else
        every := format(
            'select vectors.video_id, (-(vectors.embedding operator(%1$I.<#>) $1::%1$I.vector))::real as score
             from public.video_embeddings as vectors join public.videos as v on v.id = vectors.video_id
             where vectors.model_version = %2$s
             and not exists (select from unnest($2) as gone (id) where gone.id = vectors.video_id) %3$s', place, version, blocks.admitted
        );
        -- PostgreSQL 14 holds each video of the index against each id that is left out.
        if to_regclass('public.video_embeddings_hnsw_' || version) is not null
            and (current_setting('server_version_num')::integer >= 150000 or cardinality(never) + cardinality(skipped) <= 2000) then
            perform set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '400', true);
            nearest := twotower.nearest(version, dim, blocks.admitted);
        end if;
    end if;

    if nearest is not null then
        execute twotower.best(nearest) into found_ids, found_scores
        using vector, never || skipped, "limit", blocks.makers, blocks.genres, blocks.tags, blocks.performers;
    end if;
    -- Too few, or no index: everything is looked at.
    if cardinality(found_ids) < "limit" then
        execute twotower.best(every) into found_ids, found_scores
        using vector, never || skipped, "limit", blocks.makers, blocks.genres, blocks.tags, blocks.performers;
    end if;
    if min_score is not null then
        found_ids := found_ids[:(select count(*) from unnest(found_scores) as s where s >= min_score)];
    end if;
    if cardinality(found_ids) < "limit" and cardinality(skipped) > 0 then
        execute twotower.best(every || ' and v.id::uuid = any ($8)') into more_ids, more_scores
        using vector, never, "limit" - cardinality(found_ids), blocks.makers, blocks.genres, blocks.tags, blocks.performers,
              skipped;
    end if;

    return query
        select v.id::uuid, coalesce(v.title, '')::text, chosen.score, chosen.skipped_before
        from (
            select *, false from unnest(found_ids, found_scores[:cardinality(found_ids)]) with ordinality
            union all
            select *, true from unnest(more_ids, more_scores) with ordinality
        ) as chosen (id, score, place, skipped_before)
        join public.videos as v on v.id = chosen.id
        where min_score is null or chosen.score >= min_score
        order by chosen.skipped_before, chosen.place;
end
$$;
