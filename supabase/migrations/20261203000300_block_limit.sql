-- All of a user's blocks are read for each of their lists, so that with a token there is an end to them.

-- Refuses what would leave the caller with more than 10,000 blocks. What comes without a user's token is the application's own affair, and so
-- is a restoration.
create or replace function twotower.limit_own_blocks() returns trigger
    language plpgsql
    security definer
    set search_path = ''
    -- An error, and not a count of nothing, where a policy would hide rows.
    set row_security = off
as $$
declare
    most constant integer := 10000;
    caller constant uuid := auth.uid();
begin
    if caller is null then
        return null;
    end if;
    if tg_when = 'BEFORE' then
        -- One transaction of a caller's after the other: many at once would each count what they see themselves ("blok" in ASCII).
        perform pg_advisory_xact_lock(1651273579, hashtext(caller::text));
        return null;
    end if;
    -- What is there already, `on conflict do nothing` writes no second time.
    if not exists (select from changed where changed.user_id = caller) then
        return null;
    end if;
    if (
        select count(*) from (
            select from public.recommendation_blocks as own where own.user_id = caller limit most + 1
        ) as counted
    ) > most then
        raise exception 'a user has at most % blocks', most
            using errcode = 'check_violation', hint = 'Take some back before adding others.';
    end if;
    return null;
end
$$;

revoke all on function twotower.limit_own_blocks() from public;

do $$
begin
    -- The application's own table may keep other ids of users.
    if exists (
        select from pg_attribute
        where attrelid = to_regclass('public.recommendation_blocks') and attname = 'user_id' and atttypid = 'uuid'::regtype
            and not attisdropped
    ) then
        create or replace trigger twotower_blocks_wait before insert on public.recommendation_blocks
            for each statement execute function twotower.limit_own_blocks();
        create or replace trigger twotower_blocks_have_an_end after insert on public.recommendation_blocks
            referencing new table as changed for each statement execute function twotower.limit_own_blocks();
    end if;
end
$$;
