-- Who may do what: a line for each object, then one for each role that may do anything with it, for each function one with hashes of its
-- definition, and for each trigger one that makes it. Roles have what PUBLIC has, too. Of the objects that $1 names (`kind name`), or of all.
-- With an empty search_path, so that whatever is printed has its schema.
with roles (place, role) as materialized (
    select place, role from unnest(array[
        'public', 'anon', 'authenticated', 'service_role', 'twotower_trainer', 'twotower_updater', 'twotower_server'
    ]) with ordinality as named (role, place)
    where role = 'public' or exists (select from pg_roles where rolname = role)
),
ours as (
    select oid, nspname, nspowner from pg_namespace where nspname in ('public', 'twotower', 'supabase_migrations')
),
-- What belongs to an extension is the extension's.
extensions (oid) as (select objid from pg_depend where deptype = 'e'),
relations as (
    select c.oid, relkind, relrowsecurity, relforcerowsecurity, format('%s.%s', nspname, relname) as name
    from pg_class as c join ours on ours.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid not in (table extensions)
),
-- What a function takes and gives, which `create or replace` cannot change, and what it does: its text as it was written, without the
-- carriage returns that a checkout may have added, or as it is printed where it was parsed. Of its settings those that migrations set: others,
-- such as a statement_timeout, are the operator's, as costs are. An encoding other than UTF8 makes no difference.
definitions (oid, definition) as (
    select p.oid, format(
        'definition %s-%s',
        left(encode(sha256(convert_to(pg_get_function_arguments(p.oid) || ' returns ' || coalesce(pg_get_function_result(p.oid), ''), 'UTF8')), 'hex'), 8),
        left(encode(sha256(convert_to(
            concat_ws(
                E'\n',
                lanname, prokind, provolatile, proparallel, proisstrict, proleakproof,
                (
                    select string_agg(setting, ', ' order by setting) from unnest(proconfig) as setting
                    where split_part(setting, '=', 1) in ('search_path', 'row_security')
                ),
                probin, replace(coalesce(pg_get_function_sqlbody(p.oid), prosrc), E'\r', '')
            ),
            'UTF8'
        )), 'hex'), 16)
    )
    from pg_proc as p join ours on ours.oid = pronamespace join pg_language as languages on languages.oid = prolang
    where p.oid not in (table extensions) and prokind in ('f', 'p')
),
everything (kind, name, oid, note, made_by) as (
    select case relkind when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'view' else 'table' end, name, oid,
           case
               when relkind = 'S' then ''
               when relkind in ('v', 'm', 'f') then ' WITHOUT row security'
               when relforcerowsecurity then ' forced row security'
               when relrowsecurity then ''
               else ' WITHOUT row security'
           end,
           null
    from relations
    union all
    select 'schema', nspname, oid, '', null from ours
    union all
    select 'function', format('%s.%s(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)), p.oid,
           case when prosecdef then ' as owner' else '' end
           || case when coalesce(proconfig::text, '') not like '%search_path=%' then ' WITHOUT search_path' else '' end
           || case when prosecdef and not proconfig @> array['search_path=""'] then ' WITH a search_path' else '' end
           || case when prosecdef and proowner <> nspowner and not rolsuper then format(' NOT owned by %I', pg_get_userbyid(nspowner)) else '' end,
           null
    from pg_proc as p join ours on ours.oid = pronamespace join pg_roles as owners on owners.oid = proowner
    where p.oid not in (table extensions)
    union all
    -- Of a trigger for replicas alone, and of one that is disabled, nobody notices anything.
    select 'trigger', format('%s on %s', tgname, name), t.oid, case when tgenabled in ('O', 'A') then '' else ' DISABLED' end,
           pg_get_triggerdef(t.oid)
    from pg_trigger as t join relations on relations.oid = tgrelid where not tgisinternal
),
objects as (
    select * from everything where $1::text[] is null or kind || ' ' || name = any ($1)
),
verbs (kind, verb, place) as (
    values ('table', 'select', 1), ('table', 'insert', 2), ('table', 'update', 3), ('table', 'delete', 4), ('table', 'truncate', 5),
           ('table', 'references', 6), ('table', 'trigger', 7), ('sequence', 'usage', 1), ('sequence', 'select', 2),
           ('sequence', 'update', 3), ('function', 'execute', 1), ('schema', 'usage', 1), ('schema', 'create', 2)
),
granted as (
    select o.kind, o.name, r.place, r.role, v.place as verb_place,
           case
               when o.kind = 'schema' then case when has_schema_privilege(r.role, o.oid, v.verb) then v.verb end
               when o.kind = 'function' then case when has_function_privilege(r.role, o.oid, v.verb) then v.verb end
               when o.kind = 'sequence' then case when has_sequence_privilege(r.role, o.oid, v.verb) then v.verb end
               when has_table_privilege(r.role, o.oid, v.verb) then v.verb
               when v.verb in ('select', 'insert', 'update', 'references') then (
                   select v.verb || ' (' || string_agg(attname, ', ' order by attnum) || ')' from pg_attribute
                   where attrelid = o.oid and attnum > 0 and not attisdropped and has_column_privilege(r.role, o.oid, attnum, v.verb)
               )
           end as verb
    from objects as o
    join verbs as v on v.kind = replace(o.kind, 'view', 'table')
    cross join roles as r
)
select o.kind || ' ' || o.name || o.note as object,
       coalesce('    ' || o.made_by, (
           select string_agg('    ' || role || ': ' || may, E'\n' order by place) from (
               select role, place, string_agg(verb, ', ' order by verb_place) as may from granted
               where kind = o.kind and name = o.name and verb is not null group by role, place
           ) as lines
       ), '    nobody') || coalesce(E'\n    ' || d.definition, '') as who
from objects as o left join definitions as d on o.kind = 'function' and d.oid = o.oid
order by array_position(array['schema', 'table', 'view', 'sequence', 'function', 'trigger'], o.kind), o.name collate "C"
