-- The tables that twotower reads by default. A table that the application has already is left as it is, with its own
-- policies and grants. Row level security is on for each that is made here; nobody gets more than the verb they need.

do $$
begin
    if to_regclass('public.videos') is null then
        create table public.videos (
            id uuid primary key default gen_random_uuid(),
            title text not null default '',
            description text not null default '',
            genre text,
            maker text,
            price real check (price < 'infinity'::real),
            duration_seconds real check (duration_seconds < 'infinity'::real),
            thumbnail_url text,
            published_at timestamptz,
            created_at timestamptz not null default now()
        );
        alter table public.videos enable row level security;
        create policy "twotower: signed-in users read the catalogue" on public.videos
            for select to authenticated using (true);
        grant select on public.videos to authenticated;
        grant select, insert, update, delete on public.videos to service_role;
    end if;

    if to_regclass('public.tags') is null then
        create table public.tags (
            id uuid primary key default gen_random_uuid(),
            name text not null unique
        );
        alter table public.tags enable row level security;
        create policy "twotower: signed-in users read the catalogue" on public.tags
            for select to authenticated using (true);
        grant select on public.tags to authenticated;
        grant select, insert, update, delete on public.tags to service_role;
    end if;

    if to_regclass('public.video_tags') is null then
        create table public.video_tags (
            video_id uuid not null references public.videos (id) on delete cascade,
            tag_id uuid not null references public.tags (id) on delete cascade,
            primary key (video_id, tag_id)
        );
        create index video_tags_tag_id_idx on public.video_tags (tag_id);
        alter table public.video_tags enable row level security;
        create policy "twotower: signed-in users read the catalogue" on public.video_tags
            for select to authenticated using (true);
        grant select on public.video_tags to authenticated;
        grant select, insert, update, delete on public.video_tags to service_role;
    end if;

    if to_regclass('public.performers') is null then
        create table public.performers (
            id uuid primary key default gen_random_uuid(),
            name text not null unique
        );
        alter table public.performers enable row level security;
        create policy "twotower: signed-in users read the catalogue" on public.performers
            for select to authenticated using (true);
        grant select on public.performers to authenticated;
        grant select, insert, update, delete on public.performers to service_role;
    end if;

    if to_regclass('public.video_performers') is null then
        create table public.video_performers (
            video_id uuid not null references public.videos (id) on delete cascade,
            performer_id uuid not null references public.performers (id) on delete cascade,
            primary key (video_id, performer_id)
        );
        create index video_performers_performer_id_idx on public.video_performers (performer_id);
        alter table public.video_performers enable row level security;
        create policy "twotower: signed-in users read the catalogue" on public.video_performers
            for select to authenticated using (true);
        grant select on public.video_performers to authenticated;
        grant select, insert, update, delete on public.video_performers to service_role;
    end if;

    if to_regclass('public.likes') is null then
        create table public.likes (
            user_id uuid not null,
            video_id uuid not null references public.videos (id) on delete cascade,
            -- The model counts seconds since 1970 in 32 bits.
            created_at timestamptz not null default now()
                check (created_at >= '1970-01-01 00:00:00+00' and created_at < '2106-02-07 06:28:16+00'),
            primary key (user_id, video_id)
        );
        create index likes_video_id_idx on public.likes (video_id);
        alter table public.likes enable row level security;
        create policy "twotower: users read own likes" on public.likes
            for select to authenticated using (user_id = (select auth.uid()));
        create policy "twotower: users like for themselves" on public.likes
            for insert to authenticated with check (user_id = (select auth.uid()));
        create policy "twotower: users take back own likes" on public.likes
            for delete to authenticated using (user_id = (select auth.uid()));
        -- Not created_at: the time of a like is the database's to say.
        grant select, delete, insert (user_id, video_id) on public.likes to authenticated;
        grant select, insert, update, delete on public.likes to service_role;
    end if;

    if to_regclass('public.skips') is null then
        create table public.skips (
            user_id uuid not null,
            video_id uuid not null references public.videos (id) on delete cascade,
            created_at timestamptz not null default now()
                check (created_at >= '1970-01-01 00:00:00+00' and created_at < '2106-02-07 06:28:16+00'),
            primary key (user_id, video_id)
        );
        create index skips_video_id_idx on public.skips (video_id);
        alter table public.skips enable row level security;
        create policy "twotower: users read own skips" on public.skips
            for select to authenticated using (user_id = (select auth.uid()));
        create policy "twotower: users skip for themselves" on public.skips
            for insert to authenticated with check (user_id = (select auth.uid()));
        create policy "twotower: users take back own skips" on public.skips
            for delete to authenticated using (user_id = (select auth.uid()));
        grant select, delete, insert (user_id, video_id) on public.skips to authenticated;
        grant select, insert, update, delete on public.skips to service_role;
    end if;
end
$$;
