-- The rest of 20261209000000: the histories that vectors are made of.

-- What the user tower of `version` makes of the caller's history at this moment: a vector [d] of unit norm, within 1e-5 of the Rust
-- tower. NULL for somebody who has neither liked nor skipped anything that has a vector. `known` is false where there is no tower of
-- the version, or row level security would keep the owner of this function from the caller's likes.
--
-- As training and the server do, it takes all likes that have a vector, but for one caller to cost a bounded time no more than the
-- latest 10,000, and above 64 dimensions than make 640,000 numbers, but 1,000 at least; of the latest 1,000 skips those that have one. Means at all
-- scales are one running sum, a like a step, oldest first: sum = decays * sum + vector, with the vector once for each scale.
create or replace function twotower.user_vector(version bigint, out known boolean, out vector real[])
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
declare
    most_skips constant integer := 1000;
    most_likes integer;
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
    most_likes := least(10000, greatest(1000, 640000 / dim));
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
                select own.video_id, own.created_at from public.likes as own
                where own.user_id = liker and twotower.is_time(own.created_at)
                order by own.created_at desc, own.video_id desc
            ) as liked
            cross join lateral (
                select vectors.embedding from public.video_embeddings as vectors
                where vectors.video_id = liked.video_id::uuid and vectors.model_version = user_vector.version
                offset 0
            ) as stored
            order by liked.created_at desc, liked.video_id desc limit most_likes
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
            select own.video_id, own.created_at from public.skips as own
            where own.user_id = skipper and twotower.is_time(own.created_at)
            order by own.created_at desc, own.video_id desc limit most_skips
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
                'select coalesce(
                     string_agg(substr(%1$I.vector_send(embedding), 5), ''''::bytea order by created_at, latest.video_id), ''''::bytea
                 )
                 from (
                     select stored.embedding, liked.created_at, liked.video_id
                     from (
                         select video_id, created_at from likes
                         where user_id = $1 and twotower.is_time(created_at)
                         order by created_at desc, video_id desc
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
                'select coalesce(
                     string_agg(substr(%1$I.vector_send(embedding), 5), ''''::bytea order by created_at, latest.video_id), ''''::bytea
                 )
                 from (
                     select video_id, created_at from skips
                     where user_id = $1 and twotower.is_time(created_at)
                     order by created_at desc, video_id desc limit 1000
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
