-- What a server that answers requests needs: what a user does not want to see, all that is known of a user in one call, which
-- vectors are new, word of every change to what is kept of a user, and what users did with what they were shown.

create table if not exists public.recommendation_blocks (
    user_id uuid not null,
    kind text not null check (kind in ('video', 'maker', 'performer', 'tag', 'genre')),
    -- A name, or the id of a video.
    value text not null check (char_length(value) between 1 and 200),
    created_at timestamptz not null default now(),
    primary key (user_id, kind, value)
);

alter table public.recommendation_blocks enable row level security;

drop policy if exists "twotower: users read own blocks" on public.recommendation_blocks;
create policy "twotower: users read own blocks" on public.recommendation_blocks
    for select to authenticated using (user_id = (select auth.uid()));

drop policy if exists "twotower: users block for themselves" on public.recommendation_blocks;
create policy "twotower: users block for themselves" on public.recommendation_blocks
    for insert to authenticated with check (user_id = (select auth.uid()));

drop policy if exists "twotower: users take back own blocks" on public.recommendation_blocks;
create policy "twotower: users take back own blocks" on public.recommendation_blocks
    for delete to authenticated using (user_id = (select auth.uid()));

grant select, delete, insert (user_id, kind, value) on public.recommendation_blocks to authenticated;
grant select, insert, update, delete on public.recommendation_blocks to service_role;

-- A server asks for what was written since it last asked.
create index if not exists video_embeddings_updated_at_idx on public.video_embeddings (model_version, updated_at);
create index if not exists user_embeddings_updated_at_idx on public.user_embeddings (model_version, updated_at);

-- All that answering a user needs. A function because its plans are kept for the session, under a pooler too: planning these
-- statements takes longer than running them. No search_path of its own: the application's ids may be text, which
-- public.=(text, uuid) compares, and it runs with the rights of its caller.
create or replace function twotower.user_state(
    asked uuid, skip_limit bigint, out erased boolean, out likes bytea, out skips bytea, out blocks text
)
    language plpgsql
    stable
as $$
begin
    perform from twotower.tombstones
    where user_hash = (select pg_catalog.sha256(salt || pg_catalog.uuid_send(asked)) from twotower.tombstone_salt);
    erased := found;
    if erased then
        return;
    end if;
    -- The 16 bytes of each id, oldest first.
    select string_agg(uuid_send(liked.video_id), '' order by liked.created_at, liked.video_id) into likes
    from public.likes as liked where liked.user_id = asked;
    select string_agg(uuid_send(latest.video_id), '' order by latest.created_at, latest.video_id) into skips
    from (
        select skipped.video_id, skipped.created_at from public.skips as skipped where skipped.user_id = asked
        order by skipped.created_at desc, skipped.video_id desc limit skip_limit
    ) as latest;
    -- [[kind, value], …]
    select json_agg(json_build_array(kind, value) order by kind collate "C", value collate "C") into blocks
    from public.recommendation_blocks where user_id = asked;
end
$$;

revoke all on function twotower.user_state(uuid, bigint) from public;
grant execute on function twotower.user_state(uuid, bigint) to service_role;

-- Servers keep answers for minutes and drop a user's when something of theirs changes. Who listens on a channel need not have
-- any right to a table, so that a notification names a user by a hash that nobody computes without this key.
create table if not exists twotower.change_key (
    singleton boolean primary key default true check (singleton),
    key bytea not null check (octet_length(key) = 32)
);

insert into twotower.change_key (key)
values (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
on conflict (singleton) do nothing;

alter table twotower.change_key enable row level security;
drop policy if exists "twotower: who may read sees all" on twotower.change_key;
create policy "twotower: who may read sees all" on twotower.change_key for select using (true);
grant select on twotower.change_key to service_role;

-- Half of sha256(key || the 16 bytes of the id), in hexadecimal digits.
create or replace function twotower.user_change_key(user_id uuid) returns text
    language sql stable
    security definer
    set search_path = ''
as $$
    select pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(key || pg_catalog.uuid_send(user_id)), 1, 16), 'hex')
    from twotower.change_key
$$;

revoke all on function twotower.user_change_key(uuid) from public;
grant execute on function twotower.user_change_key(uuid) to service_role;

-- Sends a key for each user of whom a statement changed something, and one word for all where they are many: imports.
create or replace function twotower.notify_user_changes() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    most constant integer := 64;
    users uuid[];
begin
    if tg_op = 'TRUNCATE' then
        perform pg_catalog.pg_notify('twotower_user_changes', 'all');
        return null;
    elsif tg_op = 'UPDATE' then
        users := array(select user_id from changed union select user_id from replaced limit most + 1);
    else
        users := array(select distinct user_id from changed limit most + 1);
    end if;
    if pg_catalog.cardinality(users) > most then
        perform pg_catalog.pg_notify('twotower_user_changes', 'all');
    else
        perform pg_catalog.pg_notify(
            'twotower_user_changes',
            pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(key || pg_catalog.uuid_send(id)), 1, 16), 'hex')
        )
        from pg_catalog.unnest(users) as id, twotower.change_key;
    end if;
    return null;
end
$$;

revoke all on function twotower.notify_user_changes() from public;

do $$
declare
    own text;
begin
    foreach own in array array['likes', 'skips', 'recommendation_blocks'] loop
        -- The application's own table may be anything. Where there can be no trigger, servers ask instead of listening.
        continue when not exists (
            select from pg_attribute
            where attrelid = to_regclass('public.' || own) and attname = 'user_id' and atttypid = 'uuid'::regtype and not attisdropped
        );
        begin
            execute format(
                'create or replace trigger twotower_user_changes_insert after insert on public.%1$I
                     referencing new table as changed for each statement execute function twotower.notify_user_changes();
                 create or replace trigger twotower_user_changes_update after update on public.%1$I
                     referencing old table as replaced new table as changed
                     for each statement execute function twotower.notify_user_changes();
                 create or replace trigger twotower_user_changes_delete after delete on public.%1$I
                     referencing old table as changed for each statement execute function twotower.notify_user_changes();
                 create or replace trigger twotower_user_changes_truncate after truncate on public.%1$I
                     for each statement execute function twotower.notify_user_changes()',
                own
            );
        exception
            when insufficient_privilege or wrong_object_type or feature_not_supported then
                raise notice 'no triggers on public.%: %', own, sqlerrm;
        end;
    end loop;
end
$$;

-- Two versions served side by side: each user belongs to one arm, which a hash of the salt and their id tells.
create table if not exists twotower.experiments (
    id bigint generated always as identity primary key,
    control_version bigint not null references twotower.models (version),
    challenger_version bigint not null references twotower.models (version) check (challenger_version <> control_version),
    -- Of the users, those who get the challenger.
    share double precision not null check (share > 0 and share < 1),
    salt bytea not null default uuid_send(gen_random_uuid()) check (octet_length(salt) = 16),
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    started_by text not null,
    reason text not null
);

create unique index if not exists experiments_one_running_idx on twotower.experiments ((true)) where ended_at is null;

-- What users did with what they were shown, as their applications report it. No foreign key to videos: what was shown was
-- shown, also if the video is gone.
create table if not exists twotower.events (
    user_id uuid not null,
    event_id uuid not null,
    kind text not null check (kind in ('impression', 'view', 'like', 'skip')),
    video_id uuid not null,
    model_version bigint,
    experiment_id bigint references twotower.experiments (id),
    arm text check (arm in ('control', 'challenger')),
    request_id text check (char_length(request_id) between 1 and 64),
    position smallint check (position between 1 and 100),
    watch_fraction real check (watch_fraction between 0 and 1),
    at timestamptz not null,
    primary key (user_id, event_id),
    check ((experiment_id is null) = (arm is null)),
    check (watch_fraction is null or kind = 'view')
);

-- For what is pruned by age, and what an experiment has seen.
create index if not exists events_at_idx on twotower.events (at);
create index if not exists events_experiment_id_idx on twotower.events (experiment_id) where experiment_id is not null;

alter table twotower.experiments enable row level security;
alter table twotower.events enable row level security;

grant select, insert, update, delete on twotower.experiments, twotower.events to service_role;

-- Deletes likes, skips, blocks, events and vectors of a user, whatever the version, and leaves a tombstone. Again, it keeps the first
-- date and deletes what has come since. `application_tables` false leaves public.likes and public.skips alone, for an
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
    delete from public.user_embeddings as vectors where vectors.user_id = erase_user.user_id;
    get diagnostics vectors_deleted = row_count;
    -- The tombstone alone changes what this user is answered, whether there were rows or not.
    perform pg_notify('twotower_user_changes', twotower.user_change_key(erase_user.user_id));
    return next;
end
$$;

revoke all on function twotower.erase_user(uuid, boolean) from public;
grant execute on function twotower.erase_user(uuid, boolean) to service_role;
