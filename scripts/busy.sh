#!/bin/sh
# scripts/busy.sh ROUNDS COMMAND...: the command, so many times in a row, while two other processes take all they can.
set -eu
rounds=$1
shift
stress-ng --cpu 2 --quiet &
stress=$!
trap 'kill "$stress" 2>/dev/null || true; wait "$stress" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for round in $(seq "$rounds"); do
    echo "round $round of $rounds, on a busy machine"
    "$@"
    kill -0 "$stress" # it was busy to the end
done
