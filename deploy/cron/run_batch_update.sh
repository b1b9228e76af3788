#!/bin/sh
# The nightly update: the vectors of what has changed, and a new model if there is one.
exec "$(dirname "$(readlink -f "$0")")/job.sh" update "$@"
