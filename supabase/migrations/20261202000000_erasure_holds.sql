-- What is written straight into our own tables is held to erasures as well, an erasure keeps nobody waiting for long, and ids that
-- are text are found by an index.

-- Without SET, so that it is inlined: whoever compares a column of text with an id uses the index on that column. Its body was
-- parsed here and looks nothing up any more.
create or replace function public.text_equals_uuid(text, uuid) returns boolean
    language sql immutable strict parallel safe
    return $1 operator(pg_catalog.=) $2::text;

-- Erasures wait until this transaction is over, and then delete what it wrote ("erasures" in ASCII).
create or replace function twotower.hold_back_erasures() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock_shared(7310012293695300979);
    return null;
end
$$;

revoke all on function twotower.hold_back_erasures() from public;

-- Takes out again what a statement wrote of users who were erased. A statement that waited for an erasure does not see its
-- tombstone, so that no policy can tell; this looks afterwards. In transactions of a higher isolation level than read committed it
-- sees the tombstones that were there when they began.
create or replace function twotower.keep_erased_out() returns trigger
    language plpgsql
    security definer
    set search_path = ''
    -- An error, and not a deletion of nothing, where a policy would hide rows.
    set row_security = off
as $$
declare
    erased uuid[];
    deleted bigint;
begin
    if not exists (select from twotower.tombstones) then
        return null;
    end if;
    erased := array(
        select writers.user_id from (select distinct user_id from changed) as writers, twotower.tombstone_salt as salts
        where exists (select from twotower.tombstones where user_hash = sha256(salts.salt || uuid_send(writers.user_id)))
    );
    if cardinality(erased) > 0 then
        execute format('delete from %I.%I where user_id = any ($1)', tg_table_schema, tg_table_name) using erased;
        get diagnostics deleted = row_count;
        raise warning '% rows of users who were erased are not kept in %.%', deleted, tg_table_schema, tg_table_name;
    end if;
    return null;
end
$$;

revoke all on function twotower.keep_erased_out() from public;

do $$
declare
    own record;
begin
    for own in
        select * from (values
            ('likes', 'twotower: users like for themselves'),
            ('skips', 'twotower: users skip for themselves'),
            ('recommendation_blocks', 'twotower: users block for themselves')
        ) as _ (name, policy)
    loop
        -- A table of the application's own is left as it is.
        continue when not exists (
            select from pg_policies where schemaname = 'public' and tablename = own.name and policyname = own.policy
        );
        execute format(
            'alter policy %1$I on public.%2$I
                 with check (user_id = (select auth.uid()) and not (select twotower.caller_is_erased()));
             create or replace trigger twotower_erasures_wait before insert on public.%2$I
                 for each statement execute function twotower.hold_back_erasures();
             create or replace trigger twotower_erased_stay_out after insert on public.%2$I
                 referencing new table as changed for each statement execute function twotower.keep_erased_out()',
            own.policy, own.name
        );
    end loop;
end
$$;

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
    lock_timeout_before constant text := current_setting('lock_timeout');
    locked boolean := false;
begin
    if user_id is null then
        raise exception 'erase_user needs the id of a user' using errcode = 'null_value_not_allowed';
    end if;
    -- Each statement below must see what was committed while the lock was waited for.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'erase_user runs in transactions of isolation level read committed only'
            using errcode = 'invalid_transaction_state';
    end if;
    -- Writers of likes, skips, blocks and users' vectors hold it shared to the end of their transactions ("erasures" in ASCII), a
    -- restoration for as long as it writes users' vectors. Who waits for it keeps every later writer waiting, so that it is asked for a fifth of a
    -- second at a time.
    for attempt in 1..600 loop
        begin
            perform set_config('lock_timeout', '200ms', true);
            perform pg_advisory_xact_lock(7310012293695300979);
            perform set_config('lock_timeout', lock_timeout_before, true);
            locked := true;
            exit;
        exception
            when lock_not_available then
                perform pg_sleep(0.5 + random());
        end;
    end loop;
    if not locked then
        raise exception 'users are being written by a transaction that does not end'
            using errcode = 'lock_not_available',
            hint = 'Nothing was erased. See who holds an advisory lock in pg_locks, and erase again.';
    end if;
    select sha256(salt || uuid_send(erase_user.user_id)) into strict hash from twotower.tombstone_salt;
    insert into twotower.tombstones (user_hash, erased_at) values (hash, clock_timestamp()) on conflict do nothing;
    get diagnostics deleted = row_count;
    first_time := deleted = 1;
    select stones.erased_at, stones.number into strict erased_at, number from twotower.tombstones as stones where user_hash = hash;
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
    -- The tombstone alone changes what this user is answered, whether there were rows or not.
    perform pg_notify('twotower_user_changes', twotower.user_change_key(erase_user.user_id));
    return next;
end
$$;
