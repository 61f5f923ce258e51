#!/bin/sh
# What a container is asked to do: a verb of poolbench, the tests, or any other command.
set -eu

verb=${1:-help}
[ $# -eq 0 ] || shift
case $verb in
    train | prepare | reproduce | report) exec poolbench "$verb" "$@" ;;
    help) exec poolbench --help ;;
    test)
        cd /opt/poolbench
        export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
        [ $# -gt 0 ] || set -- -q -n 2 -m 'not slow'
        exec python -m pytest -p no:cacheprovider "$@"
        ;;
    *) exec "$verb" "$@" ;;
esac
