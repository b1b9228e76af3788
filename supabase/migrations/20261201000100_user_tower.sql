-- The user tower in SQL: a user's vector out of what they like at this moment, as every other way computes it, and a whole answer in
-- one call. The weights are those of a model's files; `twotower update` writes them before a version becomes active. Nobody who
-- comes with a token reads them.

do $$
declare
    place constant text := twotower.vector_schema();
    own record;
begin
    -- A row is one output of a layer: its weight for each input.
    --   decays   [k + 1]              one row, of unit 0: decay per like of each mean, then decay per skip; each in 0..1
    --   hidden   [(k + 1) d + 3]      h rows; inputs are the means, two counts, and 1, whose weight is the bias
    --   output   [(k + 1) d + 3 + h]  d rows; the same inputs, and then the hidden units
    execute format(
        'create table if not exists twotower.user_towers (
             version bigint not null,
             layer text not null check (layer in (''decays'', ''hidden'', ''output'')),
             unit integer not null check (unit >= 0),
             weights %I.vector not null,
             primary key (version, layer, unit)
         )', place
    );
    -- pgvector's functions under names that hold wherever it is, and wherever it is moved later, so that statements can be written
    -- down, and planned once a session.
    for own in
        select * from (values
            ('+', 'vector_add'), ('*', 'vector_mul'), ('||', 'vector_concat'), ('<#>', 'vector_negative_inner_product')
        ) as _ (name, function)
    loop
        continue when exists (
            select from pg_catalog.pg_operator where oprnamespace = 'twotower'::regnamespace and oprname = own.name
        );
        execute format(
            'create operator twotower.%1$s (leftarg = %2$I.vector, rightarg = %2$I.vector, function = %2$I.%3$I)',
            own.name, place, own.function
        );
    end loop;
end
$$;

-- In the row, where it fits a page: each call reads all of them.
alter table twotower.user_towers alter column weights set storage main;
alter table twotower.user_towers enable row level security;

grant select, insert, update, delete on twotower.user_towers to service_role;
grant select, insert, update on twotower.user_towers to twotower_updater;
drop policy if exists "twotower: all rows for twotower_updater" on twotower.user_towers;
create policy "twotower: all rows for twotower_updater" on twotower.user_towers
    to twotower_updater using (true) with check (true);

-- What the user tower of `version` makes of the caller's history at this moment: a vector [d] of unit norm, within 1e-5 of the Rust
-- tower. NULL for somebody who has neither liked nor skipped anything that has a vector. `known` is false where there is no tower of
-- the version, or row level security would keep the owner of this function from the caller's likes.
--
-- As the server does, it takes the latest 1,000 likes that have a vector, and of the latest 1,000 skips those that have one. Means at
-- all scales are one running sum, a like a step, oldest first: sum = decays * sum + vector, with the vector once for each scale.
create or replace function twotower.user_vector(version bigint, out known boolean, out vector real[])
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
declare
    most constant integer := 1000;
    -- The application's own ids may be text.
    liker constant public.likes.user_id%type := auth.uid();
    skipper constant public.skips.user_id%type := auth.uid();
    dim integer;
    decays real[];
    scales integer;
    likes integer := 0;
    skips integer := 0;
    one record;
    -- pgvector refuses products of numbers above 0 that are none: decaying sums stay above them. Far below what float32 tells apart.
    tiny public.video_embeddings.embedding%type;
    step public.video_embeddings.embedding%type;
    tile public.video_embeddings.embedding%type;
    like_decays public.video_embeddings.embedding%type;
    skip_decays public.video_embeddings.embedding%type;
    like_sums public.video_embeddings.embedding%type;
    skip_sums public.video_embeddings.embedding%type;
    shares public.video_embeddings.embedding%type;
    number integer;
    factors real[] := '{}';
    inputs real[];
    x public.video_embeddings.embedding%type;
    hidden real[];
    output double precision[];
    norm double precision;
begin
    known := false;
    if row_security_active('public.likes'::regclass) or row_security_active('public.skips'::regclass) then
        return;
    end if;
    select tower.weights::real[], model.embedding_dim into decays, dim
    from twotower.user_towers as tower join twotower.models as model on model.version = tower.version
    where tower.version = user_vector.version and tower.layer = 'decays';
    if decays is null then
        return;
    end if;
    known := true;
    if liker is null or twotower.caller_is_erased() then
        return;
    end if;
    -- A decay of next to nothing forgets everything, and its products would be no numbers either.
    decays := array(
        select case when decay < 1e-12 then 0 else decay end from unnest(decays) with ordinality as _ (decay, place) order by place
    );
    scales := cardinality(decays) - 1;
    tiny := array_fill(1e-20::real, array[dim]);

    for scale in 1 .. scales loop
        factors := factors || array_fill(decays[scale], array[dim]);
    end loop;
    like_decays := factors;
    factors := '{}';
    for one in
        select latest.embedding
        from (
            select stored.embedding, liked.created_at, liked.video_id
            from (
                select own.video_id, own.created_at from public.likes as own where own.user_id = liker
                order by own.created_at desc, own.video_id desc
            ) as liked
            cross join lateral (
                select vectors.embedding from public.video_embeddings as vectors
                where vectors.video_id = liked.video_id::uuid and vectors.model_version = user_vector.version
                offset 0
            ) as stored
            order by liked.created_at desc, liked.video_id desc limit most
        ) as latest
        order by latest.created_at, latest.video_id
    loop
        step := one.embedding operator(twotower.+) tiny;
        tile := step;
        for scale in 2 .. scales loop
            tile := tile operator(twotower.||) step;
        end loop;
        like_sums := case when likes = 0 then tile else like_decays operator(twotower.*) like_sums operator(twotower.+) tile end;
        likes := likes + 1;
    end loop;

    skip_decays := array_fill(decays[scales + 1], array[dim]);
    for one in
        select stored.embedding
        from (
            select own.video_id, own.created_at from public.skips as own where own.user_id = skipper
            order by own.created_at desc, own.video_id desc limit most
        ) as skipped
        cross join lateral (
            select vectors.embedding from public.video_embeddings as vectors
            where vectors.video_id = skipped.video_id::uuid and vectors.model_version = user_vector.version
            offset 0
        ) as stored
        order by skipped.created_at, skipped.video_id
    loop
        step := one.embedding operator(twotower.+) tiny;
        skip_sums := case when skips = 0 then step else skip_decays operator(twotower.*) skip_sums operator(twotower.+) step end;
        skips := skips + 1;
    end loop;
    if likes + skips = 0 then
        return;
    end if;

    -- Sums over the sums of their weights decay ^ age, to means; a mean over nothing is 0. A power that is no number any more would be
    -- an error.
    for scale in 1 .. scales + 1 loop
        number := case when scale <= scales then likes else skips end;
        factors := factors || array_fill((case
            when number = 0 or decays[scale] = 0 then 1
            when decays[scale] = 1 then 1.0 / number
            else (1 - decays[scale]) / (1 - exp(greatest(number * ln(decays[scale]), -700)))
        end)::real, array[dim]);
    end loop;
    inputs := coalesce(like_sums::real[], array_fill(0::real, array[scales * dim]))
        || coalesce(skip_sums::real[], array_fill(0::real, array[dim]));
    x := inputs;
    shares := factors;
    x := x operator(twotower.*) shares;
    inputs := x::real[] || array[0.2 * ln(1 + likes), 0.2 * ln(1 + skips), 1]::real[];
    x := inputs;
    -- GELU by its sigmoid approximation, x / (1 + exp(-1.702 x)).
    select array_agg((layer.x / (1 + exp(greatest(least(-1.702 * layer.x, 80), -80))))::real order by layer.unit) into hidden
    from (
        select tower.unit, -(tower.weights operator(twotower.<#>) x) as x from twotower.user_towers as tower
        where tower.version = user_vector.version and tower.layer = 'hidden'
    ) as layer;
    x := inputs || hidden;
    select array_agg(-(tower.weights operator(twotower.<#>) x) order by tower.unit) into output
    from twotower.user_towers as tower
    where tower.version = user_vector.version and tower.layer = 'output';
    select greatest(sqrt(sum(z * z)), 1e-6) into norm from unnest(output) as z;
    select array_agg((z / norm)::real order by place) into vector from unnest(output) with ordinality as _ (z, place);
end
$$;

revoke all on function twotower.user_vector(bigint) from public;
grant execute on function twotower.user_vector(bigint) to authenticated;

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
        (select max(created_at) from likes where user_id = caller),
        (select max(created_at) from skips where user_id = caller)
    );
    if latest is null then
        return null;
    end if;
    select embedding::real[] into stored from user_embeddings
    where user_id = caller and model_version = caller_vector.version and updated_at >= latest;
    return coalesce(stored, twotower.blended_vector(version, dim));
end
$$;

-- Names all that decides what the caller is answered: a hash of the version, all likes, the latest 1,000 skips, and the blocks.
create or replace function twotower.caller_state(version bigint) returns text
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    caller constant uuid := auth.uid();
begin
    -- Lengths first, so that a like cannot pass for a skip.
    return encode(sha256(
        int8send(coalesce(version, 0))
        || (select int8send(count(*)) || coalesce(string_agg(uuid_send(liked.video_id), '' order by created_at, liked.video_id), '')
            from likes as liked where user_id = caller)
        || (select int8send(count(*)) || coalesce(string_agg(uuid_send(latest.video_id), '' order by created_at, latest.video_id), '')
            from (
                select skipped.video_id, created_at from skips as skipped where user_id = caller
                order by created_at desc, skipped.video_id desc limit 1000
            ) as latest)
        || (select coalesce(convert_to(
                json_agg(json_build_array(kind, value) order by kind collate "C", value collate "C")::text, 'UTF8'), '')
            from recommendation_blocks where user_id = caller)
    ), 'hex');
end
$$;

revoke all on function twotower.caller_state(bigint) from public;
grant execute on function twotower.caller_state(bigint) to authenticated;

-- All that decides what the caller is answered: the active version, a hash of everything else (`state`), a kept answer to
-- `cache_key` if it is of this state and younger than five minutes, and otherwise the vectors of the latest 1,000 likes and the
-- latest 1,000 skips, oldest first, as base64 of float32, the most significant byte first. Who sends the state that they know
-- get no vectors either if it is still that one.
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
            'model_version', active.version, 'dim', active.dim, 'erased', true, 'state', null, 'cached', null, 'likes', null,
            'skips', null
        );
    end if;
    present := twotower.caller_state(active.version);
    select jsonb_build_object('answer', cached.answer, 'made_at', cached.made_at) into kept
    from recommendation_cache as cached
    where cached.user_id = caller and cached.cache_key = recommendation_context.cache_key
    and cached.state = present and cached.made_at > now() - interval '5 minutes';
    if kept is null and known_state is distinct from present then
        likes := '';
        skips := '';
        if active.version is not null then
            execute format(
                'select coalesce(string_agg(substr(%1$I.vector_send(embedding), 5), '''' order by created_at, latest.video_id), '''')
                 from (
                     select video_id, created_at from likes where user_id = $1 order by created_at desc, video_id desc limit 1000
                 ) as latest
                 join video_embeddings as vectors on vectors.video_id = latest.video_id and model_version = %2$s',
                twotower.vector_schema(), active.version
            ) into likes using caller;
            execute format(
                'select coalesce(string_agg(substr(%1$I.vector_send(embedding), 5), '''' order by created_at, latest.video_id), '''')
                 from (
                     select video_id, created_at from skips where user_id = $1 order by created_at desc, video_id desc limit 1000
                 ) as latest
                 join video_embeddings as vectors on vectors.video_id = latest.video_id and model_version = %2$s',
                twotower.vector_schema(), active.version
            ) into skips using caller;
        end if;
    end if;
    -- PostgreSQL breaks base64 into lines.
    return jsonb_build_object(
        'model_version', active.version, 'dim', active.dim, 'erased', false, 'state', present, 'cached', kept,
        'likes', translate(encode(likes, 'base64'), E'\n', ''), 'skips', translate(encode(skips, 'base64'), E'\n', '')
    );
end
$$;

-- The answer to the caller at this moment, and under which state: {"outcome", "state", "answer"}. `outcome` is
--   'made'        `answer` was made now
--   'kept'        `answer` was kept under `cache_key`, of this state and younger than five minutes
--   'unchanged'   the state is still the `known_state` that the caller has an answer of
--   'no_tower'    the active version's user tower is not in the database, which so could only blend a vector
--   'erased'      the caller was erased
-- and `answer` is NULL in the last three. One snapshot: a stable function sees the database of one moment.
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
    if known_state = present then
        return jsonb_build_object('outcome', 'unchanged', 'state', present, 'answer', null);
    end if;
    select cached.answer into kept from public.recommendation_cache as cached
    where cached.user_id = caller and cached.cache_key = present_answer.cache_key
    and cached.state = present and cached.made_at > now() - interval '5 minutes';
    if kept is not null then
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
    return jsonb_build_object('outcome', 'made', 'state', present, 'answer', jsonb_build_object(
        'user_id', caller,
        'source', case when computed.vector is null then 'popular' else 'two_tower' end,
        'model_version', active.version,
        'recommendations', list,
        'partial', false,
        'cached', false,
        'generated_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
    ) || case when shortfall is null then '{}' else jsonb_build_object('reason', shortfall) end);
end
$$;

revoke all on function twotower.present_answer(integer, boolean, real, text, text) from public;
grant execute on function twotower.present_answer(integer, boolean, real, text, text) to authenticated;

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
        -- An answer that a crash takes along is made again.
        perform set_config('synchronous_commit', 'off', true);
        perform twotower.keep_answer(cache_key, given ->> 'state', given -> 'answer');
    end if;
    return given;
end
$$;

revoke all on function public.recommendation_answer(integer, boolean, real, text)
    from public, anon, authenticated, service_role;
grant execute on function public.recommendation_answer(integer, boolean, real, text) to authenticated;
