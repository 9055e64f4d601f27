#!/usr/bin/env bash
# One search under SLURM, requeued until it is complete. Edit what stands above the line, then: sbatch slurm.sh
#SBATCH --job-name=hpcnas
#SBATCH --nodes=4
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

JOBS=$HOME/hpcnas/jobs           # the folder of common.sh
PYTHON=$HOME/hpcnas/.venv/bin/python  # of the environment that hpcnas is installed in
RUN=$HOME/runs/cifar             # where the run is kept, on a disk that all nodes share
DATA=cifar10:$HOME/data          # what the networks learn, likewise
SCRATCH=/tmp                     # a disk of each node's own, for a copy of DATA; empty: no copy
SEARCH=(--preset paper)          # what is searched: hpcnas search --help
RESTARTS=50                      # so many more jobs at the most

LAUNCH=(mpirun --bind-to none)                           # MPICH
#LAUNCH=(mpirun --bind-to none --map-by :OVERSUBSCRIBE)  # Open MPI
#LAUNCH=(srun --mpi=pmi2 --overcommit --cpu-bind=none)   # MPICH, without mpirun
#LAUNCH=(srun --mpi=pmix --overcommit --cpu-bind=none)   # Open MPI, without mpirun

# module load ...

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
unset SLURM_CPUS_PER_TASK SLURM_NTASKS_PER_NODE  # srun, mpirun's own too, would take them for what it should use
on_every_node() { srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 "$@"; }
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$JOBS/common.sh" 2>/dev/null
declare -F remove_data >/dev/null || { echo "expected the folder of common.sh in JOBS, but cannot read $JOBS/common.sh"; exit 1; }

may_requeue=$(scontrol show job "$SLURM_JOB_ID" | grep -o Requeue=1)  # asked now: later, SLURM may be ending this job
copy_data "$SCRATCH/hpcnas-$SLURM_JOB_ID"
work "${LAUNCH[@]}" -n $((SLURM_NTASKS + 1)) "$PYTHON" -m hpcnas "${SEARCH[@]}" --data "$DATA" --run "$RUN"
remove_data "$SCRATCH/hpcnas-$SLURM_JOB_ID"

started=$((${STARTED:-0} + ${SLURM_RESTART_COUNT:-0}))
leave_unless_more_to_do "$started" "$RESTARTS" || exit 1
if [ -n "$may_requeue" ]; then
    scontrol requeue "$SLURM_JOB_ID"
else
    next=$(env -u SLURM_RESTART_COUNT STARTED=$((started + 1)) sbatch --parsable --export=ALL "$0") || exit
    echo "Submitted batch job $next"
    [ -z "$THEN" ] || scontrol update JobId="$THEN" Dependency=afterok:"${next%;*}"  # slurm_chain.sh's
fi
