#!/usr/bin/env bash
# Makes .venv with the pinned packages and the test tools, then runs the tests.
#
#     bash scripts/test.sh                     # the fast tests, on two processes
#     bash scripts/test.sh -m slow             # any arguments of pytest; paths are those from the repository's root
#
# The first start takes some minutes, later ones start Python at once. Settings: see scripts/env.sh.
set -euo pipefail
case ${BASH_SOURCE[0]} in */*) . "${BASH_SOURCE[0]%/*}/env.sh" ;; *) . ./env.sh ;; esac

poolbench_env test,dev

# The tests' matrices are small: threads beside pytest's own processes only get in each other's way.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

if [ $# -eq 0 ]; then set -- -q -n 2 -m 'not slow'; fi
exec .venv/bin/python -m pytest "$@"
