#!/bin/sh
# Run every test, one worker a core, with coverage. What fails there is run once more without neighbours and must pass
# then: real processes on a machine that is busy with the other tests may be late. Both outcomes are printed, and more
# than a few failures are no matter of load.
set -u
cd "$(dirname "$0")/.."

AGAIN_MAX=3

.venv/bin/python -m coverage erase
.venv/bin/python -m pytest -n logical --dist worksteal --cov --cov-report=term "$@"
status=$?
[ $status -eq 1 ] || exit $status # 1: the run is whole and some failed

failed=$(.venv/bin/python -c 'import json; print(len(json.load(open(".pytest_cache/v/cache/lastfailed"))))') || exit 1
if [ "$failed" -gt $AGAIN_MAX ]; then
    echo "$failed tests failed; up to $AGAIN_MAX would be run again" >&2
    exit 1
fi
echo "once more, without neighbours: the $failed that failed"
exec .venv/bin/python -m pytest --last-failed --last-failed-no-failures none "$@"
