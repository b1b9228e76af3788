#!/bin/sh
# The weekly retraining: train, evaluate, load, publish, promote, prune.
exec "$(dirname "$(readlink -f "$0")")/job.sh" retrain "$@"
