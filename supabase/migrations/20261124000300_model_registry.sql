-- twotower's own books, in a schema that no API exposes.

create schema if not exists twotower;
grant usage on schema twotower to service_role;

-- Versions come from here and never from a clock.
create sequence if not exists twotower.model_versions as bigint;

create table if not exists twotower.models (
    version bigint primary key check (version > 0),
    state text not null check (state in ('loading', 'candidate', 'active', 'retired', 'failed')),
    embedding_dim integer not null check (embedding_dim > 0),
    created_at timestamptz not null default now(),
    activated_at timestamptz,
    retired_at timestamptz,
    cut_off timestamptz,
    snapshot_sha256 text not null,
    hyperparameters jsonb not null,
    metrics jsonb not null,
    manifest_sha256 text not null,
    promoted_by text,
    reason text
);

create unique index if not exists models_one_active_idx on twotower.models (state) where state = 'active';

-- The one row that says what readers see. Making a version active, and rolling back, is setting it.
create table if not exists twotower.active_model (
    singleton boolean primary key default true check (singleton),
    version bigint not null references twotower.models (version)
);

alter table twotower.models enable row level security;
alter table twotower.active_model enable row level security;

grant usage on sequence twotower.model_versions to service_role;
grant select, insert, update, delete on twotower.models, twotower.active_model to service_role;
