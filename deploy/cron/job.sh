#!/bin/sh
# job.sh JOB: `twotower run JOB` for cron, where twotower is at home and with the environment of its services. `job.sh watch` is `twotower alert check`,
# and `job.sh do COMMAND…` any command, as the jobs would run it: relative paths are of their folder, and `alert list` reads their state.
#
#   TWOTOWER_HOME  working directory, with twotower.toml and models/ (default: /var/lib/twotower)
#   TWOTOWER_ENV   NAME=value lines, among them DATABASE_URL, read as systemd reads them (default: /etc/twotower/env; empty: there is no such file)
#   TWOTOWER       the program (default: twotower); may stand in that file
#
# The program gets TWOTOWER_ENV too, whose rights its check secrets-readable looks at. What fails before the program begins is a line with ERROR, as
# its own lines are.
set -eu

# Cron's own PATH ends before the place where a program that was built here is installed.
PATH=${PATH:-/usr/bin:/bin}:/usr/local/bin

fail() {
    echo "ERROR job.sh: $2" >&2
    exit "$1"
}

environment=${TWOTOWER_ENV-/etc/twotower/env}
if [ -n "$environment" ]; then
    # Without it a job would work, in vain, on a database of its own.
    if ! [ -f "$environment" ] || ! [ -r "$environment" ]; then
        fail 2 "$environment, which holds DATABASE_URL, is missing or cannot be read by $(id -un): make it, name another in TWOTOWER_ENV, or set that to nothing"
    fi
    case $environment in
    /*) ;;
    *) environment=$PWD/$environment ;;
    esac
    # With the IFS as it is, blanks at both ends of a line do not count.
    while read -r line || [ -n "$line" ]; do
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
    export TWOTOWER_ENV="$environment"
fi
home=${TWOTOWER_HOME:-/var/lib/twotower}
cd "$home" || fail 2 "$home, where models/ and twotower.toml have to be, is missing or closed to $(id -un): make it, or name another in TWOTOWER_HOME"
# dash finds a path of a file that cannot be executed, too.
if ! program=$(command -v "${TWOTOWER:-twotower}") || ! [ -x "$program" ]; then
    fail 127 "${TWOTOWER:-twotower} is not there, or cannot be run by $(id -un): install it, or name it in TWOTOWER"
fi
case ${1-} in
watch) exec "${TWOTOWER:-twotower}" alert check ;;
do)
    shift
    exec "${TWOTOWER:-twotower}" "$@"
    ;;
esac
exec "${TWOTOWER:-twotower}" run "$@"
