-- Tables of the application's own may keep ids of videos as text that is spelled as a UUID, as they may those of users. Where ids are
-- uuid, a cast to it is nothing.

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
        || (select int8send(count(*)) || coalesce(string_agg(uuid_send(liked.video_id::uuid), '' order by created_at, liked.video_id), '')
            from likes as liked where user_id = caller)
        || (select int8send(count(*)) || coalesce(string_agg(uuid_send(latest.video_id::uuid), '' order by created_at, latest.video_id), '')
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
        never := never || array(select liked.video_id::uuid from likes as liked where user_id = caller);
    end if;
    skipped := array(
        select latest.video_id::uuid from skips as latest where user_id = caller order by created_at desc, latest.video_id desc limit 1000
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
            'select v.id::uuid as video_id, coalesce(popular.share, 0)::real as score
             from public.videos as v left join twotower.popular_videos() as popular on v.id = popular.video_id
             where v.id::uuid <> all ($2) %s', admitted
        );
        -- Most of the time the first few hundred are enough.
        nearest := format(
            'select popular.video_id, popular.share as score
             from twotower.popular_videos(%s) as popular join public.videos as v on v.id = popular.video_id
             where popular.video_id <> all ($2) %s', 1000 + cardinality(never) + cardinality(skipped), admitted
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
        execute twotower.best(every || ' and v.id::uuid = any ($8)') into more_ids, more_scores
        using vector, never, "limit" - cardinality(found_ids), makers, genres, tag_ids, performer_ids, skipped;
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

-- Whether a text is spelled as a UUID: one user's like of something else is not to end what counts everybody's.
create or replace function twotower.spells_uuid(spelled text) returns boolean
    language sql
    immutable
    set search_path = ''
as $$
    select spelled ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
$$;

revoke all on function twotower.spells_uuid(text) from public;

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
    where not exists (
        select from public.likes as liked
        where (pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text))
        and liked.video_id::uuid = counted.video_id
    );
    insert into twotower.video_popularity as counted (video_id, likes)
    select liked.video_id::uuid, count(*) from public.likes as liked
    where pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text)
    group by liked.video_id::uuid
    on conflict (video_id) do update set likes = excluded.likes where counted.likes <> excluded.likes;
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
            select liked.video_id::uuid, (count(*)::double precision / max(count(*)) over ())::real
            from public.likes as liked
            where pg_typeof(liked.video_id) = 'uuid'::regtype or twotower.spells_uuid(liked.video_id::text)
            group by liked.video_id::uuid order by count(*) desc, liked.video_id::uuid limit most;
    end if;
end
$$;

-- As twotower.ranked_videos: public.=(text, uuid) compares.
alter function public.similar_videos(uuid, integer, boolean) set search_path = public, pg_temp;
