-- Vectors have a norm of 0.999 to 1.001, as everything takes them that reads them: one of 1.005, which was taken here, kept a server from
-- loading, and a rollback from being made. New rows are refused from now on; the next migration sees to those that are there, since this
-- one's locks keep readers waiting and are held for a moment only.

-- Base64 of float32, the most significant byte first (vector_send writes them so), to numbers. Not finite, of a norm further than 0.001
-- from 1, or not `dim` of them: error 22023.
create or replace function twotower.vector_from_base64(text, dim integer) returns real[]
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    bytes constant bytea := decode($1, 'base64');
    numbers double precision[];
    norm double precision;
begin
    if octet_length(bytes) <> 4 * dim then
        raise exception 'a vector of the active version has % numbers of 4 bytes, not % bytes', dim, octet_length(bytes)
            using errcode = 'invalid_parameter_value';
    end if;
    -- Sign, 8 bits of exponent, 23 of fraction: each step is exact in double precision.
    select array_agg(
               (1 - 2 * (bits >> 31)) * case
                   when (bits >> 23) & 255 = 255 then double precision 'NaN'
                   when (bits >> 23) & 255 = 0 then (bits & 8388607) * 2::double precision ^ -149
                   else (8388608 + (bits & 8388607)) * 2::double precision ^ (((bits >> 23) & 255) - 150)
               end
               order by place
           )
    into numbers
    from generate_series(0, 4 * (dim - 1), 4) as place,
         lateral (
             select (get_byte(bytes, place)::bigint << 24) | (get_byte(bytes, place + 1) << 16)
                    | (get_byte(bytes, place + 2) << 8) | get_byte(bytes, place + 3) as bits
         ) as word;
    select sqrt(sum(x * x)) into norm from unnest(numbers) as x;
    -- NaN sorts above every number.
    if abs(norm - 1) > 0.001 then
        raise exception 'a vector has finite numbers and a norm of 0.999 to 1.001; this one has the norm %', norm
            using errcode = 'invalid_parameter_value';
    end if;
    return numbers::real[];
end
$$;

do $$
declare
    vector_schema constant text := (
        select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace where extname = 'vector'
    );
    own text;
    bound text;
    wider text;
begin
    foreach own in array array['video_embeddings', 'user_embeddings'] loop
        -- Who is refused reads the name.
        bound := own || '_norm_is_0_999_to_1_001';
        continue when exists (
            select from pg_constraint where conrelid = format('public.%I', own)::regclass and conname = bound
        );
        execute format(
            'alter table public.%I add constraint %I check (abs(%I.vector_norm(embedding) - 1) <= 0.001) not valid',
            own, bound, vector_schema
        );
        for wider in
            select conname from pg_constraint
            where conrelid = format('public.%I', own)::regclass and contype = 'c'
            and pg_get_constraintdef(oid) like '%vector_norm(embedding)%0.99)%1.01)%'
        loop
            execute format('alter table public.%I drop constraint %I', own, wider);
        end loop;
    end loop;
end
$$;
