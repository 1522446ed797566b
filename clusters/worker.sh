#!/bin/sh
# Starts Ray on a machine that you have and joins it to the head: worker_start_ray_commands of clusters/onprem.yaml.
#
#     sh ~/rungwise/clusters/worker.sh HEAD:PORT
#
# `ray down` stops the head only, and what Ray leaves on a worker then ends a minute later (its agents) or never (its log
# monitor). So a worker that has not heard of its head for 10 s ends, and a watcher takes the rest along. It is the same
# when the machine was cut off: the head has given it up by then, and its trials run elsewhere.
set -eu

watcher=~/.ray/watcher.pid
[ ! -f "$watcher" ] || kill -- "-$(cat "$watcher")" 2>/dev/null || true    # of an earlier start: it would end this one
ray stop
# `ray start` gives up after 30 s (ray 2.60, _private/node.py), which a machine that is busy, or only just up, may exceed.
tries=1
until RAY_gcs_rpc_server_reconnect_timeout_s=10 ray start --address="$1"; do
    [ "$tries" -lt 3 ] || exit 1
    tries=$((tries + 1))
    ray stop
done
setsid sh -c '
    echo $$ >"$1"
    while pgrep -u "$(id -u)" -x raylet >/dev/null; do sleep 1; done
    ray stop --force
' watcher "$watcher" </dev/null >/dev/null 2>&1 &
