-- Recommendations in SQL, for applications that ask through PostgREST under their users' tokens: no server of ours is needed.
-- Functions in `public` are the API and run with the rights of their caller, so that row level security holds. What they need
-- beyond those rights, small functions in `twotower` tell, with the owner's rights: of the caller alone, or a sum over all. Older
-- projects of Supabase grant every new function of `public` to everybody by name; so each is taken away from all, by name.

-- The version that readers see, and the dimension of its vectors; NULL without one.
create or replace function twotower.active_version(out version bigint, out dim integer)
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
begin
    select model.version, model.embedding_dim into active_version.version, active_version.dim
    from twotower.active_model as active join twotower.models as model on model.version = active.version;
end
$$;

revoke all on function twotower.active_version() from public;
grant execute on function twotower.active_version() to authenticated, service_role;

create or replace function twotower.caller_is_erased() returns boolean
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
begin
    perform from twotower.tombstones
    where user_hash = (select pg_catalog.sha256(salt || pg_catalog.uuid_send((select auth.uid()))) from twotower.tombstone_salt);
    return found;
end
$$;

revoke all on function twotower.caller_is_erased() from public;
grant execute on function twotower.caller_is_erased() to authenticated;

-- The user whose token it is. PostgREST answers 401 and 403 to these codes.
create or replace function twotower.caller() returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    caller constant uuid := auth.uid();
begin
    if caller is null then
        raise exception 'the token names no user' using errcode = 'PT401';
    elsif twotower.caller_is_erased() then
        raise exception 'erased' using errcode = 'PT403';
    end if;
    return caller;
end
$$;

revoke all on function twotower.caller() from public;
grant execute on function twotower.caller() to authenticated;

-- Base64 of float32, the most significant byte first (vector_send writes them so), to numbers. Not finite, not of unit norm or
-- not `dim` of them: error 22023.
create or replace function twotower.vector_from_base64(text, dim integer) returns real[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    bytes constant bytea := decode($1, 'base64');
    numbers double precision[];
    norm double precision;
begin
    if octet_length(bytes) <> 4 * dim then
        raise exception 'a vector of the active version has % numbers of 4 bytes, not % bytes', dim, octet_length(bytes)
            using errcode = 'invalid_parameter_value';
    end if;
    -- Sign, 8 bits of exponent, 23 of fraction: each step is exact in double precision.
    select array_agg(
               (1 - 2 * (bits >> 31)) * case
                   when (bits >> 23) & 255 = 255 then double precision 'NaN'
                   when (bits >> 23) & 255 = 0 then (bits & 8388607) * 2::double precision ^ -149
                   else (8388608 + (bits & 8388607)) * 2::double precision ^ (((bits >> 23) & 255) - 150)
               end
               order by place
           )
    into numbers
    from generate_series(0, 4 * (dim - 1), 4) as place,
         lateral (
             select (get_byte(bytes, place)::bigint << 24) | (get_byte(bytes, place + 1) << 16)
                    | (get_byte(bytes, place + 2) << 8) | get_byte(bytes, place + 3) as bits
         ) as word;
    select sqrt(sum(x * x)) into norm from unnest(numbers) as x;
    -- NaN sorts above every number.
    if norm < 0.99 or norm > 1.01 then
        raise exception 'a vector has the norm 1 and finite numbers; this one has the norm %', norm
            using errcode = 'invalid_parameter_value';
    end if;
    return numbers::real[];
end
$$;

revoke all on function twotower.vector_from_base64(text, integer) from public;
grant execute on function twotower.vector_from_base64(text, integer) to authenticated, service_role;

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
                select video_id, created_at from likes where user_id = $1 order by created_at desc, video_id desc limit 1000
            ) as latest
            join video_embeddings as vectors on vectors.video_id = latest.video_id and vectors.model_version = %3$s
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

revoke all on function twotower.blended_vector(bigint, integer) from public;
grant execute on function twotower.blended_vector(bigint, integer) to authenticated;

-- The caller's vector: the one that was computed, if nothing was liked or skipped since, else a blended one. NULL for somebody
-- who has done nothing.
create or replace function twotower.caller_vector(version bigint, dim integer) returns real[]
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
declare
    caller constant uuid := auth.uid();
    latest timestamptz;
    stored real[];
begin
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

revoke all on function twotower.caller_vector(bigint, integer) from public;
grant execute on function twotower.caller_vector(bigint, integer) to authenticated;

-- The best videos for the caller by inner product with `vector`, by likes without one. Never what they block, `itself`, or,
-- while `exclude_liked` holds, what they like; what they skipped comes after all else.
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
    -- Ids that are never answered, and those that are answered last.
    never uuid[];
    skipped uuid[];
    makers text[];
    genres text[];
    tag_ids uuid[];
    performer_ids uuid[];
    -- What the blocks ask of a video, `v` by name.
    admitted text := '';
    -- Statements that give video_id and score, without order or end.
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
    select coalesce(array_agg(
               case when value ~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' then value::uuid end
           ) filter (where kind = 'video'), '{}'),
           array_agg(value) filter (where kind = 'maker'),
           array_agg(value) filter (where kind = 'genre'),
           (select array_agg(tags.id) from tags where name in (
               select value from recommendation_blocks where user_id = caller and kind = 'tag')),
           (select array_agg(performers.id) from performers where name in (
               select value from recommendation_blocks where user_id = caller and kind = 'performer'))
    into never, makers, genres, tag_ids, performer_ids
    from recommendation_blocks where user_id = caller;
    never := array_remove(never || itself, null);
    if exclude_liked is not false then
        never := never || array(select liked.video_id from likes as liked where user_id = caller);
    end if;
    skipped := array(
        select latest.video_id from skips as latest where user_id = caller order by created_at desc, latest.video_id desc limit 1000
    );
    admitted := concat(
        case when makers is not null then ' and (v.maker is null or v.maker <> all ($4))' end,
        case when genres is not null then ' and (v.genre is null or v.genre <> all ($5))' end,
        case when tag_ids is not null then
            ' and not exists (select from public.video_tags as t where t.video_id = v.id and t.tag_id = any ($6))' end,
        case when performer_ids is not null then
            ' and not exists (select from public.video_performers as p where p.video_id = v.id and p.performer_id = any ($7))' end
    );

    if vector is null then
        every := format(
            'select v.id as video_id, coalesce(popular.share, 0)::real as score
             from public.videos as v left join twotower.popular_videos() as popular on popular.video_id = v.id
             where v.id <> all ($2) %s', admitted
        );
        -- Most of the time the first few hundred are enough.
        nearest := format(
            'select v.id as video_id, popular.share as score
             from twotower.popular_videos(%s) as popular join public.videos as v on v.id = popular.video_id
             where v.id <> all ($2) %s', 1000 + cardinality(never) + cardinality(skipped), admitted
        );
    else
        every := format(
            'select vectors.video_id, (-(vectors.embedding operator(%1$I.<#>) $1::%1$I.vector))::real as score
             from public.video_embeddings as vectors join public.videos as v on v.id = vectors.video_id
             where vectors.model_version = %2$s and vectors.video_id <> all ($2) %3$s', place, version, admitted
        );
        if to_regclass('public.video_embeddings_hnsw_' || version) is not null then
            perform set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '400', true);
            nearest := twotower.nearest(version, dim, admitted);
        end if;
    end if;

    if nearest is not null then
        execute twotower.best(nearest) into found_ids, found_scores
        using vector, never || skipped, "limit", makers, genres, tag_ids, performer_ids;
    end if;
    -- Too few, or no index: everything is looked at.
    if cardinality(found_ids) < "limit" then
        execute twotower.best(every) into found_ids, found_scores
        using vector, never || skipped, "limit", makers, genres, tag_ids, performer_ids;
    end if;
    if min_score is not null then
        found_ids := found_ids[:(select count(*) from unnest(found_scores) as s where s >= min_score)];
    end if;
    if cardinality(found_ids) < "limit" and cardinality(skipped) > 0 then
        execute twotower.best(every || ' and v.id = any ($8)') into more_ids, more_scores
        using vector, never, "limit" - cardinality(found_ids), makers, genres, tag_ids, performer_ids, skipped;
    end if;

    return query
        select v.id, coalesce(v.title, '')::text, chosen.score, chosen.skipped_before
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

revoke all on function twotower.ranked_videos(bigint, integer, real[], integer, boolean, real, uuid) from public;
grant execute on function twotower.ranked_videos(bigint, integer, real[], integer, boolean, real, uuid) to authenticated;

-- The statement that finds the nearest $3 videos to the vector $1 by the index of a version, without those of the ids $2; for
-- EXPLAIN, too. What is left out is asked of each row as the index gives it, and the index goes on until there are enough. The
-- scalar subquery is a filter by intention: of a join the planner might make another order.
create or replace function twotower.nearest(version bigint, dim integer, admitted text) returns text
    language sql
    stable
    set search_path = ''
as $$
    select format(
        'select near.video_id, (-near.distance)::real as score from (
             select vectors.video_id, vectors.embedding::%1$I.vector(%2$s) operator(%1$I.<#>) $1::%1$I.vector(%2$s) as distance
             from public.video_embeddings as vectors
             where vectors.model_version = %3$s and vectors.video_id <> all ($2)
             and (select true from public.videos as v where v.id = vectors.video_id %4$s)
             order by vectors.embedding::%1$I.vector(%2$s) operator(%1$I.<#>) $1::%1$I.vector(%2$s) limit $3
         ) as near', twotower.vector_schema(), dim, version, admitted
    )
$$;

revoke all on function twotower.nearest(bigint, integer, text) from public;
grant execute on function twotower.nearest(bigint, integer, text) to authenticated;

-- The statement that gives ids and scores of the best $3 of what `candidates` gives, ties to the smaller id.
create or replace function twotower.best(candidates text) returns text
    language sql
    immutable
    set search_path = ''
as $$
    select format(
        'select coalesce(array_agg(video_id order by score desc, video_id), ''{}''),
                coalesce(array_agg(score order by score desc, video_id), ''{}'')
         from (select * from (%s) as candidates order by score desc, video_id limit $3) as best', candidates
    )
$$;

revoke all on function twotower.best(text) from public;
grant execute on function twotower.best(text) to authenticated;

-- A row of what the two functions below answer: a parameter and a column of RETURNS TABLE cannot have one name.
do $$
begin
    if to_regtype('twotower.recommendation') is null then
        create type twotower.recommendation as (
            video_id uuid, title text, score real, source text, skipped_before boolean, model_version bigint
        );
    end if;
end
$$;

-- Recommendations for the caller, best first, from one version of the model. `query` is the caller's vector for that version,
-- as base64 of float32 (twotower.vector_from_base64); without it the database takes the vector it has, or blends one.
-- `source` is 'two_tower', or 'popular' where nothing is known of the caller or there is no model.
create or replace function public.recommend_videos(
    "limit" integer default 10, exclude_liked boolean default true, min_score real default null, query text default null
) returns setof twotower.recommendation
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    active record;
    vector real[];
begin
    perform twotower.caller();
    select * into active from twotower.active_version();
    if query is not null then
        if active.version is null then
            raise exception 'no version is active that a vector could be of' using errcode = 'invalid_parameter_value';
        end if;
        vector := twotower.vector_from_base64(query, active.dim);
    elsif active.version is not null then
        vector := twotower.caller_vector(active.version, active.dim);
    end if;
    return query
        select ranked.video_id, ranked.title, ranked.score, case when vector is null then 'popular' else 'two_tower' end,
               ranked.skipped_before, active.version
        from twotower.ranked_videos(active.version, active.dim, vector, "limit", exclude_liked, min_score, null) as ranked;
end
$$;

revoke all on function public.recommend_videos(integer, boolean, real, text) from public, anon, authenticated, service_role;
grant execute on function public.recommend_videos(integer, boolean, real, text) to authenticated;

-- Videos like a given one, for the caller: the same rows.
create or replace function public.similar_videos(video_id uuid, "limit" integer default 10, exclude_liked boolean default true)
    returns setof twotower.recommendation
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    active record;
    vector real[];
begin
    perform twotower.caller();
    if not exists (select from public.videos where id = $1) then
        raise exception 'there is no video %', $1 using errcode = 'PT404';
    end if;
    select * into active from twotower.active_version();
    select vectors.embedding::real[] into vector from public.video_embeddings as vectors
    where vectors.video_id = $1 and vectors.model_version = active.version;
    return query
        select ranked.video_id, ranked.title, ranked.score, case when vector is null then 'popular' else 'two_tower' end,
               ranked.skipped_before, active.version
        from twotower.ranked_videos(active.version, active.dim, vector, "limit", exclude_liked, null, $1) as ranked;
end
$$;

revoke all on function public.similar_videos(uuid, integer, boolean) from public, anon, authenticated, service_role;
grant execute on function public.similar_videos(uuid, integer, boolean) to authenticated;

-- A path of its own, like all others: where the application's ids are text, public.=(text, uuid) compares them.
alter function twotower.user_state(uuid, bigint) set search_path = public, pg_temp;
