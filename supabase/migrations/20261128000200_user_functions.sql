-- What applications call for the user of a token beside recommendations, and what an Edge Function needs: everything that decides
-- an answer in one call, a cache of answers, a like, an erasure, and the vector that the user tower makes at the edge.

-- Answers of the last minutes. `state` names what they were made from: an answer of another state is never given, so that no
-- trigger has to delete it.
create table if not exists public.recommendation_cache (
    user_id uuid not null,
    cache_key text not null check (char_length(cache_key) between 1 and 200),
    state text not null check (char_length(state) between 1 and 200),
    answer jsonb not null check (octet_length(answer::text) <= 65536),
    made_at timestamptz not null default now(),
    primary key (user_id, cache_key)
);

alter table public.recommendation_cache enable row level security;

drop policy if exists "twotower: users read own answers" on public.recommendation_cache;
create policy "twotower: users read own answers" on public.recommendation_cache
    for select to authenticated using (user_id = (select auth.uid()));

drop policy if exists "twotower: users drop own answers" on public.recommendation_cache;
create policy "twotower: users drop own answers" on public.recommendation_cache
    for delete to authenticated using (user_id = (select auth.uid()));

-- Written by twotower.keep_answer alone, which bounds how many rows a user has.
grant select, delete on public.recommendation_cache to authenticated;
grant select, insert, update, delete on public.recommendation_cache to service_role;

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
    known record;
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
    -- Lengths first, so that a like cannot pass for a skip.
    present := encode(sha256(
        int8send(coalesce(active.version, 0))
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

revoke all on function public.recommendation_context(text, text) from public, anon, authenticated, service_role;
grant execute on function public.recommendation_context(text, text) to authenticated;

-- The part of keep_recommendations that users have no right to: it writes rows of the caller alone.
create or replace function twotower.keep_answer(cache_key text, state text, answer jsonb) returns void
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    most constant integer := 16;
    caller uuid;
begin
    -- Erasures wait until this transaction is over, and then delete what it wrote ("erasures" in ASCII).
    perform pg_advisory_xact_lock_shared(7310012293695300979);
    caller := twotower.caller();
    insert into public.recommendation_cache as kept (user_id, cache_key, state, answer, made_at)
    values (caller, keep_answer.cache_key, keep_answer.state, keep_answer.answer, clock_timestamp())
    on conflict on constraint recommendation_cache_pkey
    do update set state = excluded.state, answer = excluded.answer, made_at = excluded.made_at;
    delete from public.recommendation_cache as kept
    where kept.user_id = caller and kept.cache_key in (
        select old.cache_key from public.recommendation_cache as old
        where old.user_id = caller order by old.made_at desc, old.cache_key offset most
    );
end
$$;

revoke all on function twotower.keep_answer(text, text, jsonb) from public;
grant execute on function twotower.keep_answer(text, text, jsonb) to authenticated;

-- Keeps an answer for the caller, up to 16 of them; `state` is that of the context it was made from.
create or replace function public.keep_recommendations(cache_key text, state text, answer jsonb) returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if cache_key is null or char_length(cache_key) not between 1 and 200 then
        raise exception 'cache_key has 1 to 200 characters' using errcode = 'invalid_parameter_value';
    elsif state is null or char_length(state) not between 1 and 200 then
        raise exception 'state has 1 to 200 characters' using errcode = 'invalid_parameter_value';
    elsif answer is null or octet_length(answer::text) > 65536 then
        raise exception 'answer is JSON of 64 KiB at most' using errcode = 'invalid_parameter_value';
    end if;
    perform twotower.keep_answer(cache_key, state, answer);
end
$$;

revoke all on function public.keep_recommendations(text, text, jsonb) from public, anon, authenticated, service_role;
grant execute on function public.keep_recommendations(text, text, jsonb) to authenticated;

-- Likes a video for the caller, or takes the like back; returns whether that changed anything.
create or replace function public.like_video(video_id uuid, liked boolean default true) returns boolean
    language plpgsql
    set search_path = public, pg_temp
as $$
declare
    caller uuid;
begin
    if liked is null then
        raise exception 'liked is true or false' using errcode = 'invalid_parameter_value';
    end if;
    -- As in twotower.keep_answer.
    perform pg_advisory_xact_lock_shared(7310012293695300979);
    caller := twotower.caller();
    if liked then
        if not exists (select from videos where id = $1) then
            raise exception 'there is no video %', $1 using errcode = 'PT404';
        end if;
        insert into likes (user_id, video_id) values (caller, $1) on conflict do nothing;
    else
        delete from likes where user_id = caller and likes.video_id = $1;
    end if;
    return found;
end
$$;

revoke all on function public.like_video(uuid, boolean) from public, anon, authenticated, service_role;
grant execute on function public.like_video(uuid, boolean) to authenticated;

create or replace function twotower.erase_caller() returns jsonb
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    erased record;
begin
    if auth.uid() is null then
        raise exception 'the token names no user' using errcode = 'PT401';
    end if;
    select * into erased from twotower.erase_user(auth.uid());
    return jsonb_build_object(
        'erased_at', erased.erased_at, 'likes_deleted', erased.likes_deleted, 'skips_deleted', erased.skips_deleted,
        'vectors_deleted', erased.vectors_deleted
    );
end
$$;

revoke all on function twotower.erase_caller() from public;
grant execute on function twotower.erase_caller() to authenticated;

-- Erases the caller as twotower.erase_user does. An answer that got lost is had again by calling again.
create or replace function public.erase_me() returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return twotower.erase_caller();
end
$$;

revoke all on function public.erase_me() from public, anon, authenticated, service_role;
grant execute on function public.erase_me() to authenticated;

-- Keeps a vector that was computed elsewhere by the user tower of the active version; base64 as in twotower.vector_from_base64.
-- False, and nothing is written, for another version and for somebody who was erased. The next update computes it anew, since
-- no history has the fingerprint 0.
create or replace function public.write_user_embedding(user_id uuid, model_version bigint, embedding text) returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    active record;
    erased boolean;
begin
    -- As in twotower.keep_answer.
    perform pg_advisory_xact_lock_shared(7310012293695300979);
    select exists (
        select from twotower.tombstones where user_hash = (select sha256(salt || uuid_send($1)) from twotower.tombstone_salt)
    ) into strict erased;
    select * into active from twotower.active_version();
    if erased or active.version is distinct from $2 then
        return false;
    end if;
    insert into public.user_embeddings as kept (user_id, model_version, embedding, fingerprint, updated_at)
    values ($1, $2, twotower.vector_from_base64($3, active.dim), 0, now())
    on conflict on constraint user_embeddings_pkey
    do update set embedding = excluded.embedding, fingerprint = 0, updated_at = excluded.updated_at;
    return true;
end
$$;

revoke all on function public.write_user_embedding(uuid, bigint, text) from public, anon, authenticated, service_role;
grant execute on function public.write_user_embedding(uuid, bigint, text) to service_role;

-- Deletes likes, skips, blocks, events, kept answers and vectors of a user, whatever the version, and leaves a tombstone. Again, it
-- keeps the first date and deletes what has come since. `application_tables` false leaves public.likes and public.skips alone, for an
-- application whose own statements run in the same transaction instead.
create or replace function twotower.erase_user(user_id uuid, application_tables boolean default true)
    returns table (erased_at timestamptz, number bigint, first_time boolean, likes_deleted bigint, skips_deleted bigint, vectors_deleted bigint)
    language plpgsql
    security definer
    set search_path = ''
    -- An error, and not a deletion of nothing, where a policy would hide rows.
    set row_security = off
as $$
declare
    hash bytea;
    own text;
    statement text;
    deleted bigint;
begin
    if user_id is null then
        raise exception 'erase_user needs the id of a user' using errcode = 'null_value_not_allowed';
    end if;
    -- Each statement below must see what was committed while the lock was waited for.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'erase_user runs in transactions of isolation level read committed only'
            using errcode = 'invalid_transaction_state';
    end if;
    -- Writers of likes, skips, blocks and users' vectors hold it shared to the end of their transactions ("erasures" in ASCII).
    perform pg_advisory_xact_lock(7310012293695300979);
    select sha256(salt || uuid_send(erase_user.user_id)) into strict hash from twotower.tombstone_salt;
    insert into twotower.tombstones (user_hash, erased_at) values (hash, clock_timestamp()) on conflict do nothing;
    get diagnostics deleted = row_count;
    first_time := deleted = 1;
    select stones.erased_at, stones.number into strict erased_at, number from twotower.tombstones as stones where user_hash = hash;
    likes_deleted := 0;
    skips_deleted := 0;
    foreach own in array array['likes', 'skips'] loop
        continue when not application_tables;
        -- The application's own table may keep ids as text.
        select format('delete from public.%I where user_id = $1::%s', own, format_type(atttypid, atttypmod)) into statement
        from pg_attribute
        where attrelid = to_regclass('public.' || own) and attname = 'user_id' and not attisdropped;
        if statement is null then
            raise exception 'there is no column user_id in public.%: name the statements that delete a user''s rows in [erase]', own
                using errcode = 'undefined_column';
        end if;
        execute statement using erase_user.user_id;
        get diagnostics deleted = row_count;
        case own when 'likes' then likes_deleted := deleted; else skips_deleted := deleted; end case;
    end loop;
    delete from twotower.events as seen where seen.user_id = erase_user.user_id;
    delete from public.recommendation_blocks as blocked where blocked.user_id = erase_user.user_id;
    delete from public.recommendation_cache as kept where kept.user_id = erase_user.user_id;
    delete from public.user_embeddings as vectors where vectors.user_id = erase_user.user_id;
    get diagnostics vectors_deleted = row_count;
    -- The tombstone alone changes what this user is answered, whether there were rows or not.
    perform pg_notify('twotower_user_changes', twotower.user_change_key(erase_user.user_id));
    return next;
end
$$;

revoke all on function twotower.erase_user(uuid, boolean) from public;
grant execute on function twotower.erase_user(uuid, boolean) to service_role;
