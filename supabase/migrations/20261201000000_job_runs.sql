-- What ran when and how it ended: for the scheduler, which catches up on what was missed, and for those who watch.

create table if not exists twotower.job_runs (
    id bigint generated always as identity primary key,
    job text not null check (job ~ '^[a-z][a-z-]{0,31}$'),
    state text not null default 'running' check (state in ('running', 'succeeded', 'failed', 'refused', 'skipped')),
    -- The moment of the schedule that it is the run of; none of a run that somebody asked for.
    due_at timestamptz,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    host text not null,
    pid bigint not null,
    attempts integer not null default 1 check (attempts >= 1),
    exit_code integer,
    model_version bigint,
    -- The last error, for people.
    message text check (char_length(message) <= 2000),
    check ((state = 'running') = (finished_at is null))
);

create index if not exists job_runs_job_started_at_idx on twotower.job_runs (job, started_at);

alter table twotower.job_runs enable row level security;
grant select, insert, update, delete on twotower.job_runs to service_role;

do $$
declare
    own text;
begin
    foreach own in array array['twotower_trainer', 'twotower_updater'] loop
        execute format('grant select, insert, update on twotower.job_runs to %I', own);
        execute format('drop policy if exists %I on twotower.job_runs', 'twotower: all rows for ' || own);
        execute format(
            'create policy %I on twotower.job_runs to %I using (true) with check (true)', 'twotower: all rows for ' || own, own
        );
    end loop;
    -- For its metrics.
    grant select on twotower.job_runs to twotower_server;
    drop policy if exists "twotower: the server reads" on twotower.job_runs;
    create policy "twotower: the server reads" on twotower.job_runs for select to twotower_server using (true);
end
$$;
