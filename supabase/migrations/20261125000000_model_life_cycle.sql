-- Which version was active when, by whom and why; and who may publish just now.

create table if not exists twotower.model_activations (
    -- Order of activations; times may jump.
    id bigint generated always as identity primary key,
    version bigint not null references twotower.models (version),
    activated_at timestamptz not null default now(),
    kind text not null check (kind in ('loaded', 'promotion', 'rollback')),
    activated_by text not null,
    reason text not null,
    previous_version bigint references twotower.models (version),
    forced boolean not null default false
);

-- What was activated before there was this table, as far as the registry remembers it.
insert into twotower.model_activations (version, activated_at, kind, activated_by, reason, previous_version)
select version, activated_at, 'loaded', coalesce(promoted_by, 'unknown'), coalesce(reason, ''), lag(version) over activations
from twotower.models
where activated_at is not null and not exists (select from twotower.model_activations)
window activations as (order by state = 'active', activated_at, version)
order by state = 'active', activated_at, version;

-- One row: the publisher, who alone writes vectors and switches readers. Taking it over raises `fence`, and every write of a
-- publisher asks for its own fence first. It is the key, so that a write's KEY SHARE lock lets heartbeats through (they
-- leave the key alone) and makes a takeover wait.
create table if not exists twotower.publisher (
    fence bigint primary key,
    host text not null default '',
    pid bigint not null default 0,
    since timestamptz not null default 'epoch',
    expires_at timestamptz not null default '-infinity',
    singleton boolean not null default true unique check (singleton)
);

insert into twotower.publisher (fence) values (0) on conflict (singleton) do nothing;

alter table twotower.model_activations enable row level security;
alter table twotower.publisher enable row level security;

grant select, insert, update, delete on twotower.model_activations, twotower.publisher to service_role;
