-- Blocks hold here as they hold in `twotower serve`: white space around names does not count, ids of tags and performers may be of any
-- type, and ids of videos may be spelled in the ways that UUIDs are.

do $$
begin
    -- Without SET, so that it is inlined: it is asked of every video. Its body is parsed here and looks nothing up any more. The
    -- characters are those of Unicode's property White_Space; an encoding that lacks them cannot hold them.
    execute format(
        'create or replace function twotower.tidy(name text) returns text
             language sql immutable parallel safe
             return nullif(pg_catalog.btrim(name, %s), '''')',
        case getdatabaseencoding()
            when 'UTF8' then
                'E''\t\n\u000B\f\r \u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000'''
            else 'E''\t\n\x0B\f\r '''
        end
    );
end
$$;

comment on function twotower.tidy(text) is 'a name without the white space around it; null if nothing is left';

revoke all on function twotower.tidy(text) from public;
grant execute on function twotower.tidy(text) to authenticated;

-- The caller's blocks: videos by id, and names, for $4 to $7 of `admitted`, which is the part of a statement (` and …`) that asks of a
-- video, `v` by name, whether the names let it pass.
create or replace function twotower.caller_blocks(
    out videos uuid[], out makers text[], out genres text[], out tags text[], out performers text[], out admitted text
)
    language plpgsql
    stable
    set search_path = public, pg_temp
as $$
begin
    select array_agg(case when digits ~ '^[0-9a-fA-F]{32}$' then digits::uuid end) filter (where kind = 'video'),
           array_agg(name) filter (where kind = 'maker'),
           array_agg(name) filter (where kind = 'genre'),
           array_agg(name) filter (where kind = 'tag'),
           array_agg(name) filter (where kind = 'performer')
    into videos, makers, genres, tags, performers
    from recommendation_blocks as own,
         lateral (
             select twotower.tidy(own.value) as name,
                    -- As Block::video of twotower reads an id.
                    translate(
                        case lower(left(own.value, 9)) when 'urn:uuid:' then substr(own.value, 10) else own.value end, '{}-', ''
                    ) as digits
         ) as told
    where user_id = auth.uid() and name is not null;
    -- By name, and not by ids looked up first: those may be of any type.
    admitted := concat(
        case when makers is not null then ' and (twotower.tidy(v.maker) = any ($4)) is not true' end,
        case when genres is not null then ' and (twotower.tidy(v.genre) = any ($5)) is not true' end,
        case when tags is not null then
            ' and not exists (
                  select from public.video_tags as t join public.tags as named on named.id = t.tag_id
                  where t.video_id = v.id and twotower.tidy(named.name) = any ($6))' end,
        case when performers is not null then
            ' and not exists (
                  select from public.video_performers as p join public.performers as named on named.id = p.performer_id
                  where p.video_id = v.id and twotower.tidy(named.name) = any ($7))' end
    );
end
$$;

revoke all on function twotower.caller_blocks() from public;
grant execute on function twotower.caller_blocks() to authenticated;

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
    blocks record;
    -- Ids that are never answered, and those that are answered last.
    never uuid[];
    skipped uuid[];
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
    select * into blocks from twotower.caller_blocks();
    never := array_remove(coalesce(blocks.videos, '{}') || itself, null);
    if exclude_liked is not false then
        never := never || array(select liked.video_id::uuid from likes as liked where user_id = caller);
    end if;
    skipped := array(
        select latest.video_id::uuid from skips as latest where user_id = caller order by created_at desc, latest.video_id desc limit 1000
    );

    if vector is null then
        every := format(
            'select v.id::uuid as video_id, coalesce(popular.share, 0)::real as score
             from public.videos as v left join twotower.popular_videos() as popular on v.id = popular.video_id
             where v.id::uuid <> all ($2) %s', blocks.admitted
        );
        -- Most of the time the first few hundred are enough.
        nearest := format(
            'select popular.video_id, popular.share as score
             from twotower.popular_videos(%s) as popular join public.videos as v on v.id = popular.video_id
             where popular.video_id <> all ($2) %s', 1000 + cardinality(never) + cardinality(skipped), blocks.admitted
        );
    else
        every := format(
            'select vectors.video_id, (-(vectors.embedding operator(%1$I.<#>) $1::%1$I.vector))::real as score
             from public.video_embeddings as vectors join public.videos as v on v.id = vectors.video_id
             where vectors.model_version = %2$s and vectors.video_id <> all ($2) %3$s', place, version, blocks.admitted
        );
        if to_regclass('public.video_embeddings_hnsw_' || version) is not null then
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
