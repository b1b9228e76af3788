#!/bin/sh
# job.sh JOB: `twotower run JOB` for cron, where twotower is at home and with the environment of its services. `job.sh watch` is `twotower alert check`.
#
#   TWOTOWER_HOME  working directory, with twotower.toml and models/ (default: /var/lib/twotower)
#   TWOTOWER_ENV   NAME=value lines, among them DATABASE_URL, read as systemd reads them (default: /etc/twotower/env)
#   TWOTOWER       the program (default: twotower)
set -eu

environment=${TWOTOWER_ENV-/etc/twotower/env}
if [ -r "$environment" ]; then
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        [A-Za-z_]*=*) ;;
        *) continue ;;
        esac
        value=${line#*=}
        # Not sourced: an address holds `&` and `?`, which mean something else to a shell.
        case $value in
        \"*\") value=${value#\"} value=${value%\"} ;;
        \'*\') value=${value#\'} value=${value%\'} ;;
        esac
        export "${line%%=*}=$value"
    done <"$environment"
fi
cd "${TWOTOWER_HOME:-/var/lib/twotower}"
if [ "${1-}" = watch ]; then
    exec "${TWOTOWER:-twotower}" alert check
fi
exec "${TWOTOWER:-twotower}" run "$@"
