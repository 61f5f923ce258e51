#!/usr/bin/env bash
# From a fresh clone to a trained model: makes .venv with the pinned packages, then trains.
#
#     bash scripts/demo.sh                                 # MinCut pooling on MUTAG
#     bash scripts/demo.sh pool=topk dataset=PROTEINS      # any overrides of train.py
#
# The first start takes some minutes, later ones start Python at once. Settings: see scripts/env.sh.
set -euo pipefail
case ${BASH_SOURCE[0]} in */*) . "${BASH_SOURCE[0]%/*}/env.sh" ;; *) . ./env.sh ;; esac

poolbench_env

# The one dataset that needs no data host is MUTAG, which grakel ships, and grakel has no wheel for Python 3.13.
DEMO_DATASET=MUTAG
if [ "$(python_version)" = 3.13 ]; then
    DEMO_DATASET=planted # made by a generator
fi

if [ $# -eq 0 ]; then set -- pool=mincut "dataset=$DEMO_DATASET"; fi
exec .venv/bin/python train.py "$@"
