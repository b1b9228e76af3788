-- Who was erased, as a hash that only this database can compute, and the function that erases. Nobody becomes a user again
-- by an old session, an old file or an update that was under way: what reads and writes users asks these tables first.

create table if not exists twotower.tombstone_salt (
    singleton boolean primary key default true check (singleton),
    salt bytea not null check (octet_length(salt) = 32)
);

-- Random bytes without pgcrypto: 244 of the 256 bits are random.
insert into twotower.tombstone_salt (salt)
values (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
on conflict (singleton) do nothing;

create table if not exists twotower.tombstones (
    -- sha256(salt || the 16 bytes of the id)
    user_hash bytea primary key check (octet_length(user_hash) = 32),
    erased_at timestamptz not null,
    -- Given under a lock that is held to the end of the transaction, so that who sees one number sees all lower ones. A model
    -- remembers the highest that its data knew of: no clock says whether it has learned from somebody who was erased later.
    number bigint generated always as identity unique
);

alter table twotower.tombstone_salt enable row level security;
alter table twotower.tombstones enable row level security;

-- A reader that saw no tombstones where there are some would bring people back. So whoever may read these tables at all sees
-- every row, and everybody else gets an error. Not FORCE: it would keep an owner without BYPASSRLS from making backups.
drop policy if exists "twotower: who may read sees all" on twotower.tombstone_salt;
create policy "twotower: who may read sees all" on twotower.tombstone_salt for select using (true);
drop policy if exists "twotower: who may read sees all" on twotower.tombstones;
create policy "twotower: who may read sees all" on twotower.tombstones for select using (true);

-- Written by the function alone.
grant select on twotower.tombstone_salt, twotower.tombstones to service_role;

alter table twotower.models add column if not exists erasures_seen bigint;
alter table twotower.models add column if not exists pruned_at timestamptz;

-- Deletes likes, skips and vectors of a user, whatever the version, and leaves a tombstone. Again, it keeps the first date and
-- deletes what has come since. `application_tables` false leaves public.likes and public.skips alone, for an application
-- whose own statements run in the same transaction instead.
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
    -- Writers of likes, skips and users' vectors hold it shared to the end of their transactions ("erasures" in ASCII).
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
    delete from public.user_embeddings as vectors where vectors.user_id = erase_user.user_id;
    get diagnostics vectors_deleted = row_count;
    return next;
end
$$;

revoke all on function twotower.erase_user(uuid, boolean) from public;
grant execute on function twotower.erase_user(uuid, boolean) to service_role;
