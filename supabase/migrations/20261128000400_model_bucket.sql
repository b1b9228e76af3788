-- Where Supabase keeps files: a private bucket for models. Nobody has a policy on its objects, so that only the service key and
-- S3 access keys reach them.

do $$
begin
    if to_regclass('storage.buckets') is null then
        return;
    end if;
    insert into storage.buckets (id, name, public) values ('models', 'models', false) on conflict do nothing;
    if exists (select from storage.buckets where id = 'models' and public) then
        raise warning 'the bucket models is public: `twotower publish` refuses it until it is private';
    end if;
end
$$;
