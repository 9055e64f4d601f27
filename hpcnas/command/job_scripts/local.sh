#!/usr/bin/env bash
# One search on this machine, without a batch system, started again if it should break down. Edit what stands above the
# line, then: ./local.sh
# Ctrl-C saves everything and ends it; the same command goes on from there.

JOBS=$(cd "$(dirname "$0")" && pwd)  # the folder of common.sh
PYTHON=${JOBS%/*}/.venv/bin/python   # of the environment that hpcnas is installed in
RUN=${JOBS%/*}/runs/cifar            # where the run is kept
DATA=cifar10:${JOBS%/*}/data         # what the networks learn
WORKERS=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU')  # one a GPU
SEARCH=(--preset paper --download)
RESTARTS=50                      # so many times at the most

LAUNCH=(mpirun --bind-to none)                           # MPICH
#LAUNCH=(mpirun --bind-to none --map-by :OVERSUBSCRIBE)  # Open MPI

# module load ...

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
set -m  # the search in a process group of its own: Ctrl-C reaches this script alone
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$JOBS/common.sh" 2>/dev/null
declare -F remove_data >/dev/null || { echo "expected the folder of common.sh in JOBS, but cannot read $JOBS/common.sh"; exit 1; }

for ((started = 0; ; started++)); do
    work "${LAUNCH[@]}" -n $((WORKERS + 1)) "$PYTHON" -m hpcnas "${SEARCH[@]}" --data "$DATA" --run "$RUN"
    leave_unless_more_to_do "$started" "$RESTARTS" || exit 1
done
