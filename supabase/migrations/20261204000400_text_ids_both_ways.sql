-- Statements that compare an id of ours with one of the application's that is text run in either order: the guide's clean-up asks for users
-- of user_embeddings that are not in likes.

-- As public.text_equals_uuid: without SET, so that it is inlined, and indexes and hashes are used; its body looks nothing up any more.
create or replace function public.uuid_equals_text(uuid, text) returns boolean
    language sql immutable strict parallel safe
    return $1::text operator(pg_catalog.=) $2;

revoke all on function public.uuid_equals_text(uuid, text) from public, anon, authenticated, service_role;
grant execute on function public.uuid_equals_text(uuid, text)
    to authenticated, service_role, twotower_trainer, twotower_updater, twotower_server;

do $$
begin
    -- Where the application's own implicit cast makes the comparison, it stays as it is.
    if to_regoperator('public.=(uuid,text)') is null and not exists (
        select from pg_cast
        where castcontext = 'i' and (castsource, casttarget) in (('text'::regtype, 'uuid'::regtype), ('uuid'::regtype, 'text'::regtype))
    ) then
        create operator public.= (leftarg = uuid, rightarg = text, function = public.uuid_equals_text);
    end if;
end
$$;
