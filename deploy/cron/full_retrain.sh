#!/bin/sh
# The weekly retraining: train, evaluate, load, publish, promote, prune.
exec "$(dirname "$0")/job.sh" retrain "$@"
