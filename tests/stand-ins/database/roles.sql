-- Roles belong to the whole cluster. Whoever runs this holds a lock that others who run it wait for.

do $$
declare
    role record;
begin
    for role in select * from (values
        ('anon', 'nologin noinherit'),
        ('authenticated', 'nologin noinherit'),
        ('service_role', 'nologin noinherit bypassrls'),
        ('authenticator', 'login noinherit'),
        ('stand_in_owner', 'login createrole createdb bypassrls'),
        ('stand_in_auth_admin', 'nologin'),
        ('stand_in_storage_admin', 'nologin')
    ) as _ (name, attributes) loop
        if to_regrole(role.name) is null then
            execute format('create role %I %s', role.name, role.attributes);
        end if;
    end loop;
    if not pg_has_role('authenticator', 'authenticated', 'member') then
        grant anon, authenticated, service_role to authenticator;
        grant anon, authenticated, service_role to stand_in_owner with admin option;
    end if;
end
$$;
