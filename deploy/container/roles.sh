#!/usr/bin/env bash
# Makes the database, its owner and the server's role, by the image's own start when the volume is empty. The passwords are those of the
# files in SECRETS (default: /run/secrets), which compose.yaml gives to the containers as well.
set -euo pipefail

password() {
    local encoded
    encoded=$(sed -n 's|^DATABASE_URL=postgresql://[^:]*:\([^@]*\)@.*|\1|p' "${SECRETS:-/run/secrets}/$1.env")
    # As clients decode it: %40 is @.
    encoded=${encoded//\\/\\\\}
    printf '%b' "${encoded//%/\\x}"
}
OWNER_PASSWORD=$(password twotower)
SERVE_PASSWORD=$(password twotower_serve)
export OWNER_PASSWORD SERVE_PASSWORD
if [[ -z $OWNER_PASSWORD || -z $SERVE_PASSWORD ]]; then
    echo "roles.sh: twotower.env or twotower_serve.env has no password" >&2
    exit 1
fi

# Not on the command line, which others can read.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv owner_password OWNER_PASSWORD
\getenv serve_password SERVE_PASSWORD
-- The migrations make roles.
create role twotower login createrole password :'owner_password';
create database twotower owner twotower;
\connect twotower
-- The owner of a database may not make this extension.
create extension vector;
-- From PostgreSQL 16 on, only a role that itself passes row level security makes one that does. The migrations keep this one.
create role service_role nologin noinherit bypassrls;
set role twotower;
create role twotower_server nologin;
create role twotower_serve login password :'serve_password' in role twotower_server;
SQL
