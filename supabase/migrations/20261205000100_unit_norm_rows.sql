-- Rows with a norm of 0.99 to 1.01 get the norm 1. Their direction stays, and the time and the fingerprint with it: nothing has to be
-- computed again, and nobody counts as active for it. All rows are looked at, twice; meanwhile others read and write.

do $$
declare
    vector_schema constant text := (
        select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace where extname = 'vector'
    );
    own text;
    bound text;
begin
    foreach own in array array['video_embeddings', 'user_embeddings'] loop
        bound := own || '_norm_is_0_999_to_1_001';
        continue when not exists (
            select from pg_constraint
            where conrelid = format('public.%I', own)::regclass and conname = bound and not convalidated
        );
        -- No function of pgvector does that in every version.
        execute format(
            'update public.%1$I as kept set embedding = (
                 select array_agg((x / %2$I.vector_norm(kept.embedding))::real order by place)
                 from unnest(kept.embedding::real[]) with ordinality as _ (x, place)
             )
             where abs(%2$I.vector_norm(embedding) - 1) > 0.001 and %2$I.vector_norm(embedding) > 0',
            own, vector_schema
        );
        execute format('alter table public.%I validate constraint %I', own, bound);
    end loop;
end
$$;
