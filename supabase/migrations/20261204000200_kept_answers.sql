-- An answer that was kept is given again only while the caller sees each of its videos: videos leave, are hidden by a policy, and get
-- tags that the caller blocks, of which the state says nothing.

-- Whether the caller sees all videos that an answer lists, and their blocks let each pass. What is no list of videos passes.
create or replace function twotower.holds(answer jsonb) returns boolean
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    listed jsonb[] := array(
        select distinct one from jsonb_path_query(answer, 'lax $.recommendations[*].video_id') as one
    );
    ids uuid[];
    blocks record;
    whole boolean;
begin
    -- Users write rows of their own, and may write anything.
    ids := array(
        select (one #>> '{}')::uuid from unnest(listed) as one
        where jsonb_typeof(one) = 'string' and one #>> '{}' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
    );
    if cardinality(ids) < cardinality(listed) then
        return false;
    elsif cardinality(listed) = 0 then
        return true;
    end if;
    select * into blocks from twotower.caller_blocks();
    -- The scalar subquery is one look-up a video by intention, as in twotower.nearest. Most people block no names, and for them the
    -- statement is planned once a session.
    if blocks.admitted = '' then
        select bool_and((select true from videos as v where v.id = kept.id) is true) into whole from unnest(ids) as kept (id);
    else
        execute format(
            'select bool_and((select true from public.videos as v where v.id = kept.id %s) is true) from unnest($1) as kept (id)',
            blocks.admitted
        ) into whole using ids, null, null, blocks.makers, blocks.genres, blocks.tags, blocks.performers;
    end if;
    return whole;
end
$$;

revoke all on function twotower.holds(jsonb) from public;
grant execute on function twotower.holds(jsonb) to authenticated;

-- All that decides what the caller is answered: the active version, a hash of everything else (`state`), a kept answer to
-- `cache_key` if it is of this state, younger than five minutes and still holds, and otherwise the vectors of the likes and skips that
-- twotower.user_vector takes, oldest first, as base64 of float32, the most significant byte first. Who names no `cache_key` and sends the
-- state that they know get no vectors either if it is still that one. `manifest_sha256` tells the active version's model from another of
-- the same number. `as_of` is the moment whose history the vectors are.
create or replace function public.recommendation_context(cache_key text default null, known_state text default null) returns jsonb
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    caller constant uuid := auth.uid();
    active record;
    present text;
    kept jsonb;
    likes bytea;
    skips bytea;
begin
    if caller is null then
        raise exception 'the token names no user' using errcode = 'PT401';
    end if;
    select * into active from twotower.active_version();
    if twotower.caller_is_erased() then
        return jsonb_build_object(
            'model_version', active.version, 'dim', active.dim, 'manifest_sha256', twotower.manifest_sha256(active.version),
            'erased', true, 'state', null, 'as_of', null, 'cached', null, 'likes', null, 'skips', null
        );
    end if;
    present := twotower.caller_state(active.version);
    select jsonb_build_object('answer', cached.answer, 'made_at', cached.made_at) into kept
    from recommendation_cache as cached
    where cached.user_id = caller and cached.cache_key = recommendation_context.cache_key
    and cached.state = present and cached.made_at > now() - interval '5 minutes';
    if kept is not null and not twotower.holds(kept -> 'answer') then
        kept := null;
    end if;
    if kept is null and (cache_key is not null or known_state is distinct from present) then
        likes := '';
        skips := '';
        if active.version is not null then
            execute format(
                'select coalesce(string_agg(substr(%1$I.vector_send(embedding), 5), '''' order by created_at, latest.video_id), '''')
                 from (
                     select stored.embedding, liked.created_at, liked.video_id
                     from (
                         select video_id, created_at from likes where user_id = $1 order by created_at desc, video_id desc
                     ) as liked
                     cross join lateral (
                         select embedding from video_embeddings as vectors
                         where vectors.video_id = liked.video_id::uuid and model_version = %2$s
                         offset 0
                     ) as stored
                     order by liked.created_at desc, liked.video_id desc limit least(10000, greatest(1000, 640000 / %3$s))
                 ) as latest',
                twotower.vector_schema(), active.version, active.dim
            ) into likes using caller;
            execute format(
                'select coalesce(string_agg(substr(%1$I.vector_send(embedding), 5), '''' order by created_at, latest.video_id), '''')
                 from (
                     select video_id, created_at from skips where user_id = $1 order by created_at desc, video_id desc limit 1000
                 ) as latest
                 join video_embeddings as vectors on vectors.video_id = latest.video_id::uuid and model_version = %2$s',
                twotower.vector_schema(), active.version
            ) into skips using caller;
        end if;
    end if;
    -- PostgreSQL breaks base64 into lines.
    return jsonb_build_object(
        'model_version', active.version, 'dim', active.dim, 'manifest_sha256', twotower.manifest_sha256(active.version),
        'erased', false, 'state', present, 'as_of', now(), 'cached', kept,
        'likes', translate(encode(likes, 'base64'), E'\n', ''), 'skips', translate(encode(skips, 'base64'), E'\n', '')
    );
end
$$;

-- The answer to the caller at this moment, and under which state: {"outcome", "state", "answer"}. `outcome` is
--   'made'        `answer` was made now
--   'kept'        `answer` was kept under `cache_key`, of this state, younger than five minutes, and holds
--   'unchanged'   the same, and the caller knows it: `known_state` is its state
--   'no_tower'    the active version's user tower is not in the database, which so could only blend a vector
--   'erased'      the caller was erased
-- and `answer` is NULL in the last three. After twotower.caller_state, `state` names the answer itself: two isolates that were given
-- answers of one state need not have the same one. One snapshot: a stable function sees the database of one moment.
create or replace function twotower.present_answer(
    "limit" integer, exclude_liked boolean, min_score real, cache_key text, known_state text
) returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    caller constant uuid := auth.uid();
    active record;
    computed record;
    present text;
    kept jsonb;
    list jsonb;
    number integer;
    shortfall text;
begin
    if caller is null then
        raise exception 'the token names no user' using errcode = 'PT401';
    elsif twotower.caller_is_erased() then
        return jsonb_build_object('outcome', 'erased', 'state', null, 'answer', null);
    end if;
    select * into active from twotower.active_version();
    present := twotower.caller_state(active.version);
    select cached.answer into kept from public.recommendation_cache as cached
    where cached.user_id = caller and cached.cache_key = present_answer.cache_key
    and cached.state = present and cached.made_at > now() - interval '5 minutes';
    if jsonb_typeof(kept) = 'object' and twotower.holds(kept) then
        present := concat_ws('-', present, md5((kept - 'generated_at')::text));
        if known_state = present then
            return jsonb_build_object('outcome', 'unchanged', 'state', present, 'answer', null);
        end if;
        return jsonb_build_object('outcome', 'kept', 'state', present, 'answer', kept);
    end if;
    select * into computed from twotower.user_vector(active.version);
    if active.version is not null and not computed.known then
        return jsonb_build_object('outcome', 'no_tower', 'state', present, 'answer', null);
    end if;
    select coalesce(jsonb_agg(
               jsonb_build_object('video_id', ranked.video_id, 'title', ranked.title, 'score', ranked.score)
               || case when ranked.skipped_before then '{"reason": "skipped_before"}'::jsonb else '{}' end
               order by ranked.place
           ), '[]'), count(*)
    into list, number
    from twotower.ranked_videos(active.version, active.dim, computed.vector, "limit", exclude_liked, min_score, null)
        with ordinality as ranked (video_id, title, score, skipped_before, place);
    -- Whether videos were left out for their score shows when they are not.
    if number < "limit" then
        shortfall := case when min_score is not null and number < (
            select count(*)
            from twotower.ranked_videos(active.version, active.dim, computed.vector, number + 1, exclude_liked, null, null)
        ) then 'min_score' else 'catalogue_exhausted' end;
    end if;
    kept := jsonb_build_object(
        'user_id', caller,
        'source', case when computed.vector is null then 'popular' else 'two_tower' end,
        'model_version', active.version,
        'recommendations', list,
        'partial', false,
        'cached', false,
        'generated_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    ) || case when shortfall is null then '{}' else jsonb_build_object('reason', shortfall) end;
    return jsonb_build_object('outcome', 'made', 'state', concat_ws('-', present, md5((kept - 'generated_at')::text)), 'answer', kept);
end
$$;

-- A whole answer for the caller in one call, for Edge Functions: what twotower.present_answer gives, and an answer that was made now
-- is kept for five minutes, as keep_recommendations keeps one.
create or replace function public.recommendation_answer(
    "limit" integer default 10, exclude_liked boolean default true, min_score real default null, known_state text default null
) returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    cache_key constant text := concat_ws(' ', 'answer', "limit", exclude_liked is not false, min_score);
    given jsonb;
begin
    given := twotower.present_answer("limit", exclude_liked, min_score, cache_key, known_state);
    -- Not while somebody is erased: no answer waits for that ("erasures" in ASCII).
    if given ->> 'outcome' = 'made' and octet_length((given -> 'answer')::text) <= 65536
    and current_setting('transaction_read_only') = 'off' and pg_try_advisory_xact_lock_shared(7310012293695300979) then
        -- An answer that a crash takes along is made again; what the caller's transaction has written before is not.
        if pg_current_xact_id_if_assigned() is null then
            perform set_config('synchronous_commit', 'off', true);
        end if;
        perform twotower.keep_answer(cache_key, split_part(given ->> 'state', '-', 1), given -> 'answer');
    end if;
    return given;
end
$$;
