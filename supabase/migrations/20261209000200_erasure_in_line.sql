-- An erasure deletes the bulk of a user's rows before it takes the lock that all writers wait for, in every other try, and lines up for the
-- lock in the end, so that neither many rows of one user nor many writers in a row keep others from writing, or from being erased.

-- Erases a user as twotower.erase_user does. `tables` names those of public.likes and public.skips whose rows are deleted; for the others the
-- application's own statements run in the same transaction. Where user_id is text, the usual spellings of a UUID are deleted, which an index
-- finds: with hyphens or without, in small letters or in capitals, in braces or not. With `every_spelling` the table is read for others as
-- well, such as letters of both cases, before any lock is taken: one that is committed after that and before the lock stays.
create or replace function twotower.erase_user_from(user_id uuid, tables text[], every_spelling boolean)
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
    kind oid;
    is_text boolean;
    compared text;
    equals text;
    found_texts text[];
    texts text[];
    -- The statement for each of `tables`, and the spellings that it is given.
    deletions text[] := '{}';
    spelled jsonb := '[]';
    deleted bigint;
    patience interval;
    give_up_at timestamptz;
    tries integer := 0;
    is_last boolean;
    is_locked boolean;
    -- In milliseconds.
    last_wait integer;
    wait integer;
    lock_timeout_before constant text := current_setting('lock_timeout');
    erased boolean := false;
begin
    if user_id is null then
        raise exception 'erase_user needs the id of a user' using errcode = 'null_value_not_allowed';
    elsif tables is null or not tables <@ array['likes', 'skips'] then
        raise exception 'tables are likes and skips' using errcode = 'invalid_parameter_value';
    end if;
    -- Each statement below must see what was committed while the lock was waited for.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'erase_user runs in transactions of isolation level read committed only'
            using errcode = 'invalid_transaction_state';
    end if;
    select sha256(salt || uuid_send(erase_user_from.user_id)) into strict hash from twotower.tombstone_salt;
    foreach own in array tables loop
        select atttypid into kind from pg_catalog.pg_attribute
        where attrelid = to_regclass('public.' || own) and attname = 'user_id' and not attisdropped;
        if kind is null then
            raise exception 'there is no column user_id in public.%: name the statements that delete a user''s rows in [erase]', own
                using errcode = 'undefined_column';
        end if;
        -- A domain is what it is made of: its constraints are none of a comparison's business.
        while exists (select from pg_catalog.pg_type where oid = kind and typtype = 'd') loop
            select typbasetype into kind from pg_catalog.pg_type where oid = kind;
        end loop;
        select typcategory = 'S' into is_text from pg_catalog.pg_type where oid = kind;
        texts := '{}';
        if is_text then
            select array_agg(brace.opening || letters.id || brace.closing) into texts
            from (values (user_id::text), (replace(user_id::text, '-', ''))) as hyphens (id),
                 lateral (values (hyphens.id), (upper(hyphens.id))) as letters (id),
                 (values ('', ''), ('{', '}')) as brace (opening, closing);
            if every_spelling then
                execute format(
                    'select array_agg(distinct user_id::text) from public.%I
                     where translate(lower(user_id::text collate "C"), ''{}-'', '''') = $1', own
                ) into found_texts using replace(user_id::text, '-', '');
                texts := texts || coalesce(found_texts, '{}');
            end if;
        end if;
        spelled := spelled || jsonb_build_array(to_jsonb(texts));
        -- In the type of the column, and by its own operator where it has one, as citext has: an index over the column is for these. An
        -- operator of anybody else's would run with the owner's rights: it is PostgreSQL's, of the extension that made the type, or of the
        -- type's owner beside the type.
        select format('operator(%I.=)', nspname) into equals
        from pg_catalog.pg_operator as operator
            join pg_catalog.pg_namespace as space on space.oid = oprnamespace
            join pg_catalog.pg_type as compared_type on compared_type.oid = kind
        where oprname = '=' and oprleft = kind and oprright = kind and (
            nspname = 'pg_catalog'
            or oprnamespace = typnamespace and oprowner = typowner
            or exists (
                select from pg_catalog.pg_depend as of_operator join pg_catalog.pg_depend as of_type using (refclassid, refobjid, deptype)
                where deptype = 'e'
                    and of_operator.classid = 'pg_catalog.pg_operator'::regclass and of_operator.objid = operator.oid
                    and of_type.classid = 'pg_catalog.pg_type'::regclass and of_type.objid = kind
            )
        )
        order by nspname <> 'pg_catalog' limit 1;
        compared := 'user_id';
        -- A type of PostgreSQL's without an operator of its own, as varchar, has one through a coercion. Others are compared as text.
        if is_text and equals is null and not exists (
            select from pg_catalog.pg_type where oid = kind and typnamespace = 'pg_catalog'::regnamespace
        ) then
            compared := 'user_id::text';
            kind := 'text'::regtype;
        end if;
        deletions := deletions || format(
            case when is_text then 'delete from public.%1$I where %2$s %3$s any ($2::%4$s[])'
                 else 'delete from public.%1$I where %2$s %3$s $1::%4$s' end,
            own, compared, coalesce(equals, 'operator(pg_catalog.=)'), format_type(kind, -1)
        );
    end loop;
    patience := coalesce(nullif(current_setting('twotower.erasure_patience', true), ''), '2 minutes')::interval;
    give_up_at := clock_timestamp() + patience;
    last_wait := greatest(200, least(10000, extract(epoch from patience) * 1000)::integer);
    -- Writers of likes, skips, blocks and users' vectors hold the lock shared to the end of their transactions ("erasures" in ASCII), a
    -- restoration for as long as it writes users' vectors. While an erasure waits for the lock, or holds it, every later writer waits. So it
    -- deletes what may be much before it takes the lock, and under the lock no more than what came meanwhile, and it waits a fifth of a
    -- second at a time: between two tries everything is undone and the lock released. That undoes a deadlock as well, with a writer that
    -- holds the lock and waits for a row that is deleted here. Every other try takes the lock first: a trigger of the application may
    -- write rows with each deletion, such as counts, that writers of other users wait for while they hold the lock.
    --
    -- Writers who come one after the other, each before the one before it is done, could keep such tries out for ever. So the last one lines
    -- up for longer than a statement with a user's token lasts (8 s in a Supabase project), and takes the lock first. Statements that come
    -- later wait behind it, and may fail by that limit. A transaction that is older by then does not end soon: for it nobody lines up.
    loop
        tries := tries + 1;
        is_last := clock_timestamp() >= give_up_at;
        wait := case when is_last and not exists (
            select from pg_catalog.pg_locks as held left join pg_catalog.pg_stat_activity as holder using (pid)
            where locktype = 'advisory' and granted and objsubid = 1 and (classid::bigint << 32 | objid::bigint) = 7310012293695300979
            and held.database = (select oid from pg_catalog.pg_database where datname = current_database())
            -- A prepared transaction has no process.
            and (pid is null or xact_start < clock_timestamp() - last_wait * interval '1 millisecond')
        ) then last_wait else 200 end;
        begin
            perform set_config('lock_timeout', wait::text, true);
            likes_deleted := 0;
            skips_deleted := 0;
            foreach is_locked in array case when is_last or tries % 2 = 0 then array[true] else array[false, true] end loop
                if is_locked then
                    perform pg_advisory_xact_lock(7310012293695300979);
                    perform set_config('lock_timeout', '200ms', true);
                    insert into twotower.tombstones (user_hash, erased_at) values (hash, clock_timestamp()) on conflict do nothing;
                    get diagnostics deleted = row_count;
                    first_time := deleted = 1;
                    select stones.erased_at, stones.number into strict erased_at, number
                    from twotower.tombstones as stones where user_hash = hash;
                end if;
                for place in 1..cardinality(tables) loop
                    texts := array(select jsonb_array_elements_text(spelled -> (place - 1)));
                    execute deletions[place] using erase_user_from.user_id, texts;
                    get diagnostics deleted = row_count;
                    case tables[place]
                        when 'likes' then likes_deleted := likes_deleted + deleted;
                        else skips_deleted := skips_deleted + deleted;
                    end case;
                end loop;
                delete from twotower.events as seen where seen.user_id = erase_user_from.user_id;
            end loop;
            delete from public.recommendation_blocks as blocked where blocked.user_id = erase_user_from.user_id;
            delete from public.recommendation_cache as kept where kept.user_id = erase_user_from.user_id;
            delete from public.user_embeddings as vectors where vectors.user_id = erase_user_from.user_id;
            get diagnostics vectors_deleted = row_count;
            perform set_config('lock_timeout', lock_timeout_before, true);
            erased := true;
            exit;
        exception
            -- A server may look for deadlocks sooner than that.
            when lock_not_available or deadlock_detected then
                exit when is_last;
                perform pg_sleep(0.5 + random());
        end;
    end loop;
    if not erased then
        raise exception 'rows of this user, or users as a whole, are being written by a transaction that does not end'
            using errcode = 'lock_not_available',
            hint = 'Nothing was erased. While an erasure waits, SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity '
                   'WHERE wait_event_type = ''Lock'' tells who is waited for. Erase again when they are done.';
    end if;
    -- The tombstone alone changes what this user is answered, whether there were rows or not.
    perform pg_notify('twotower_user_changes', twotower.user_change_key(erase_user_from.user_id));
    return next;
end
$$;
