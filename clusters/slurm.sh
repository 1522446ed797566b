#!/bin/bash
# A sweep as a Slurm job, on one node or on several (docs/cluster.md, "Slurm"). Submit it from the folder in which you
# would run the command, with Python's environment active; the folder must be on a disk that all nodes share:
#
#     sbatch --nodes=4 --cpus-per-task=16 --gpus-per-node=4 --mem=64G --time=8:00:00 clusters/slurm.sh \
#         python sweeps/mnist_l2.py --trials 256 --gpus-per-trial 1 --pack auto
#
# On several nodes one srun starts Ray, its head on the first node, beside the driver. 120 s before the time limit Slurm
# sends SIGUSR1: the driver stops in order and the job is queued again, in which the same command resumes.
#
#SBATCH --job-name=rungwise
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: sbatch [OPTION...] clusters/slurm.sh COMMAND [ARGUMENT...]" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || { echo "clusters/slurm.sh runs in a job: sbatch clusters/slurm.sh ..." >&2; exit 2; }

stop='' driver='' ray=''
# A preempted job gets SIGTERM; Slurm itself queues it again.
trap 'heard=yes stop=USR1; [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null || true' USR1
trap 'heard=yes stop=TERM; [ -z "$driver" ] || kill -TERM "$driver" 2>/dev/null || true' TERM

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    head=$(hostname)
    port=$((20000 + SLURM_JOB_ID % 10000)) # jobs may share a node
    token=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n') # without it any user of these nodes could run code as you
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$token RUNGWISE_ADDRESS=$head:$port
    export RAY_USAGE_STATS_ENABLED=0 RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # Serve, which is not used, would have 30 s
    # A lost node is noticed after 10 s without an answer.
    export RAY_health_check_initial_delay_ms=5000 RAY_health_check_period_ms=2000
    export RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=3
    srun --ntasks-per-node=1 bash -c '
        mib=${SLURM_MEM_PER_NODE:-$((${SLURM_MEM_PER_CPU:-0} * SLURM_CPUS_ON_NODE))} node=$SLURM_NODEID
        options=(--block --disable-usage-stats --num-cpus="$SLURM_CPUS_ON_NODE")
        if [ "$mib" -gt 0 ]; then # Ray counts the memory of the machine, not of the job
            room=$(df --output=avail -B1 /dev/shm | tail -1) third=$((mib * 1048576 / 3))
            options+=(--memory=$((third * 2)) --object-store-memory=$((third < room ? third : room)))
        fi
        folder=$(mktemp -d /tmp/rungwise-XXXXXX) # short, for Ray puts sockets there
        trap "rm -rf $folder" EXIT
        trap "kill \$!; wait" TERM
        unset "${!SLURM_@}" # Lightning and others would take each trial for one of several tasks
        if [ "$node" = 0 ]; then
            options+=(--head --port="${0##*:}" --include-dashboard=false)
        else
            until (: >"/dev/tcp/${0%:*}/${0##*:}") 2>/dev/null; do sleep 0.5; done
            options+=(--address="$0")
        fi
        ray start "${options[@]}" --temp-dir="$folder" >/dev/null &
        wait' "$head:$port" &
    ray=$!
    until (: >"/dev/tcp/$head/$port") 2>/dev/null; do
        kill -0 "$ray" # its messages say why it ended
        sleep 0.5
    done
fi

"$@" &
driver=$!
[ -z "$stop" ] || kill -TERM "$driver" || true # the signal came before the driver
code=0
heard=yes
while [ -n "$heard" ]; do # a signal ends `wait`, not the command
    heard=''
    wait "$driver" && code=0 || code=$?
done
if [ -n "$ray" ]; then
    scancel --signal=TERM "$SLURM_JOB_ID.0" || true # a signal to srun kills its tasks, which leave their folders
    wait "$ray" || true
fi
if [ "$stop" = USR1 ] && [ "$code" -eq 143 ]; then # not when it has finished or failed in these 120 s
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
