-- Projects of Supabase made before 2026: whatever the owner makes in `public` is everybody's, but for row level security.

alter default privileges for role stand_in_owner in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role stand_in_owner in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges for role stand_in_owner in schema public grant all on sequences to anon, authenticated, service_role;
