-- Who may do what: a line for each object, then one for each role that may do anything with it. Roles have what PUBLIC has, too.
with roles (place, role) as (
    select place, role from unnest(array[
        'public', 'anon', 'authenticated', 'service_role', 'twotower_trainer', 'twotower_updater', 'twotower_server'
    ]) with ordinality as named (role, place)
),
ours as (
    select oid, nspname from pg_namespace where nspname in ('public', 'twotower', 'supabase_migrations')
),
-- What belongs to an extension is the extension's.
extensions (oid) as (select objid from pg_depend where deptype = 'e'),
relations as (
    select c.oid, relkind, relrowsecurity, relforcerowsecurity, format('%s.%s', nspname, relname) as name
    from pg_class as c join ours on ours.oid = relnamespace
    where relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid not in (table extensions)
),
objects (kind, name, oid, note) as (
    select case relkind when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'view' else 'table' end, name, oid,
           case
               when relkind = 'S' then ''
               when relkind in ('v', 'm', 'f') then ' WITHOUT row security'
               when relforcerowsecurity then ' forced row security'
               when relrowsecurity then ''
               else ' WITHOUT row security'
           end
    from relations
    union all
    select 'schema', nspname, oid, '' from ours
    union all
    select 'function', format('%s.%s(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)), p.oid,
           case when prosecdef then ' as owner' else '' end
           || case when coalesce(proconfig::text, '') not like '%search_path=%' then ' WITHOUT search_path' else '' end
           || case when prosecdef and not proconfig @> array['search_path=""'] then ' WITH a search_path' else '' end
    from pg_proc as p join ours on ours.oid = pronamespace where p.oid not in (table extensions)
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
       coalesce((
           select string_agg('    ' || role || ': ' || may, E'\n' order by place) from (
               select role, place, string_agg(verb, ', ' order by verb_place) as may from granted
               where kind = o.kind and name = o.name and verb is not null group by role, place
           ) as lines
       ), '    nobody') as who
from objects as o order by array_position(array['schema', 'table', 'view', 'sequence', 'function'], o.kind), o.name collate "C"
