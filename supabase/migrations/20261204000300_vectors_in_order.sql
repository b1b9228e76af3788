-- Of two vectors of a user that are computed elsewhere at once, the one of the later history stays, whichever is written last.

-- Another signature: PostgREST could not tell the two apart.
drop function if exists public.write_user_embedding(uuid, bigint, text);

-- Keeps a vector that was computed elsewhere by the user tower of the active version; base64 as in twotower.vector_from_base64. `as_of`
-- is the moment whose history it is of, as recommendation_context gives it; without one it is this moment. One of a later moment that
-- is here already stays. False, and nothing is written, for another version and for somebody who was erased. The next update computes
-- it anew, since no history has the fingerprint 0.
create or replace function public.write_user_embedding(
    user_id uuid, model_version bigint, embedding text, as_of timestamptz default null
) returns boolean
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
    values ($1, $2, twotower.vector_from_base64($3, active.dim), 0, least(as_of, now()))
    on conflict on constraint user_embeddings_pkey
    do update set embedding = excluded.embedding, fingerprint = 0, updated_at = excluded.updated_at
    -- An update's rows have the time of writing, long after that of their history.
    where kept.fingerprint <> 0 or kept.updated_at <= excluded.updated_at;
    return true;
end
$$;

revoke all on function public.write_user_embedding(uuid, bigint, text, timestamptz)
    from public, anon, authenticated, service_role;
grant execute on function public.write_user_embedding(uuid, bigint, text, timestamptz) to service_role;
