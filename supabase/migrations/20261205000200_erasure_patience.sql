-- An erasure of somebody whose rows others keep locked gives up after two minutes, as that of the operator's statements, and says so. It
-- took twelve, and the command tried five times.

-- Deletes likes, skips, blocks, events, kept answers and vectors of a user, whatever the version, and leaves a tombstone. Again, it
-- keeps the first date and deletes what has come since. `application_tables` false leaves public.likes and public.skips alone, for an
-- application whose own statements run in the same transaction instead. While others keep rows of this user locked it tries again for
-- two minutes, or for as long as the setting twotower.erasure_patience says.
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
    give_up_at constant timestamptz := clock_timestamp() + coalesce(
        nullif(current_setting('twotower.erasure_patience', true), ''), '2 minutes'
    )::interval;
    lock_timeout_before constant text := current_setting('lock_timeout');
    erased boolean := false;
begin
    if user_id is null then
        raise exception 'erase_user needs the id of a user' using errcode = 'null_value_not_allowed';
    end if;
    -- Each statement below must see what was committed while the lock was waited for.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'erase_user runs in transactions of isolation level read committed only'
            using errcode = 'invalid_transaction_state';
    end if;
    select sha256(salt || uuid_send(erase_user.user_id)) into strict hash from twotower.tombstone_salt;
    -- Writers of likes, skips, blocks and users' vectors hold the lock shared to the end of their transactions ("erasures" in ASCII), a
    -- restoration for as long as it writes users' vectors. Who waits for it, or holds it and waits for a row, keeps every later writer
    -- waiting, so that either is waited for a fifth of a second at a time. What was begun is undone in between, the lock let go with it.
    loop
        begin
            perform set_config('lock_timeout', '200ms', true);
            perform pg_advisory_xact_lock(7310012293695300979);
            insert into twotower.tombstones (user_hash, erased_at) values (hash, clock_timestamp()) on conflict do nothing;
            get diagnostics deleted = row_count;
            first_time := deleted = 1;
            select stones.erased_at, stones.number into strict erased_at, number
            from twotower.tombstones as stones where user_hash = hash;
            likes_deleted := 0;
            skips_deleted := 0;
            foreach own in array array['likes', 'skips'] loop
                continue when not application_tables;
                -- The application's own table may keep ids as text, in capital letters too.
                select format(
                           case typcategory
                               when 'S' then 'delete from public.%I where user_id in ($1::text, upper($1::text))'
                               else 'delete from public.%I where user_id = $1::%s'
                           end, own, format_type(atttypid, atttypmod)
                       ) into statement
                from pg_attribute join pg_type as types on types.oid = atttypid
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
            perform set_config('lock_timeout', lock_timeout_before, true);
            erased := true;
            exit;
        exception
            -- A server may look for deadlocks sooner than that.
            when lock_not_available or deadlock_detected then
                exit when clock_timestamp() >= give_up_at;
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
    perform pg_notify('twotower_user_changes', twotower.user_change_key(erase_user.user_id));
    return next;
end
$$;
