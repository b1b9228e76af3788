-- A small catalogue for `supabase start` and `supabase db reset`: 400 videos and 200 people who like about forty of them each, most of one
-- genre, so that a model has something to learn. Does nothing where there are videos already.

do $$
declare
    genres constant text[] := array['Travel', 'Cooking', 'Music', 'Science', 'Animals', '手仕事'];
    subjects constant text[] := array['Harbour', 'Mountain', 'Kitchen', 'Night train', 'Workshop', 'Garden', '朝の市場', '海辺の町'];
    manners constant text[] := array['slowly', 'from above', 'in the rain', 'for beginners', 'by hand', 'at dusk', '第一話', '冬編'];
begin
    if exists (select from public.videos) then
        raise notice 'there are videos already: nothing is sown';
        return;
    end if;

    -- Numbers that look random and are the same each time: the first digits of an MD5.
    create function pg_temp.draw(what text, below integer) returns integer
        language sql immutable
        return (('x' || substr(md5(what), 1, 8))::bit(32)::bigint % below)::integer;

    insert into public.videos (id, title, description, genre, maker, price, duration_seconds, published_at)
    select ('0a000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
           format('%s, %s', subjects[1 + pg_temp.draw('subject' || n, 8)], manners[1 + pg_temp.draw('manner' || n, 8)]),
           format('Number %s of the collection.', n),
           genres[1 + n % 6],
           'Studio ' || chr(65 + pg_temp.draw('maker' || n, 12)),
           (pg_temp.draw('price' || n, 20) * 49)::real,
           (60 + pg_temp.draw('length' || n, 3600))::real,
           now() - make_interval(days => pg_temp.draw('age' || n, 300))
    from generate_series(1, 400) as n;

    insert into public.tags (name)
    select unnest(array['calm', 'family', 'long', 'short', 'new', 'classic', '字幕', '音楽']) on conflict (name) do nothing;
    insert into public.video_tags (video_id, tag_id)
    select videos.id, tags.id from public.videos, public.tags where pg_temp.draw(videos.id::text || tags.name, 5) = 0;

    insert into public.performers (name) select 'Performer ' || n from generate_series(1, 40) as n on conflict (name) do nothing;
    insert into public.video_performers (video_id, performer_id)
    select videos.id, performers.id from public.videos, public.performers where pg_temp.draw(videos.id::text || performers.name, 25) = 0;

    -- Person p likes genre p % 6: each video of it with a chance of 2 in 5, others with 1 in 25.
    insert into public.likes (user_id, video_id, created_at)
    select ('0b000000-0000-4000-8000-' || lpad(p::text, 12, '0'))::uuid, videos.id,
           now() - make_interval(mins => 10 + pg_temp.draw(format('when %s %s', p, videos.id), 100000))
    from generate_series(1, 200) as p, public.videos
    where pg_temp.draw(format('%s likes %s', p, videos.id), 100) < case when genre = genres[1 + p % 6] then 40 else 4 end;

    insert into public.skips (user_id, video_id, created_at)
    select ('0b000000-0000-4000-8000-' || lpad(p::text, 12, '0'))::uuid, videos.id,
           now() - make_interval(mins => 10 + pg_temp.draw(format('when %s %s', p, videos.id), 100000))
    from generate_series(1, 200) as p, public.videos
    where genre <> genres[1 + p % 6] and pg_temp.draw(format('%s skips %s', p, videos.id), 100) < 3
    and not exists (
        select from public.likes
        where user_id = ('0b000000-0000-4000-8000-' || lpad(p::text, 12, '0'))::uuid and likes.video_id = videos.id
    );
end
$$;
