-- A video that was skipped stays behind all others however many were skipped since: lists knew the latest 1,000 skips and no more. The
-- user's vector goes by those, as before.

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
    select string_agg(uuid_send(liked.video_id), '' order by liked.created_at, liked.video_id) into likes
    from public.likes as liked where liked.user_id = asked;
    if skip_limit is null then
        -- Sorted once.
        select string_agg(uuid_send(skipped.video_id), '' order by skipped.created_at, skipped.video_id) into skips
        from public.skips as skipped where skipped.user_id = asked;
    else
        select string_agg(uuid_send(latest.video_id), '' order by latest.created_at, latest.video_id) into skips
        from (
            select skipped.video_id, skipped.created_at from public.skips as skipped where skipped.user_id = asked
            order by skipped.created_at desc, skipped.video_id desc limit skip_limit
        ) as latest;
    end if;
    -- [[kind, value], …]
    select json_agg(json_build_array(kind, value) order by kind collate "C", value collate "C") into blocks
    from public.recommendation_blocks where user_id = asked;
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
    if exclude_liked is not false then
        never := never || array(select liked.video_id::uuid from likes as liked where user_id = caller);
    end if;
    skipped := array(select own.video_id::uuid from skips as own where user_id = caller);

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
