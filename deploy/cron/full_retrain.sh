#!/bin/sh
# The weekly retraining: train, load, publish, promote, prune, evaluate.
exec "$(dirname "$(readlink -f "$0")")/job.sh" retrain "$@"
