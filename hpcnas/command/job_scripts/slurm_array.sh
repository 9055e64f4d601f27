#!/usr/bin/env bash
# The same search with several seeds under SLURM, one job each. Edit what stands above the line, then:
# sbatch slurm_array.sh
#SBATCH --job-name=hpcnas
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log

SEED=$SLURM_ARRAY_TASK_ID        # the numbers of --array
JOBS=$HOME/hpcnas/jobs           # the folder of common.sh
PYTHON=$HOME/hpcnas/.venv/bin/python  # of the environment that hpcnas is installed in
RUN=$HOME/runs/cifar-seed$SEED   # where the run is kept, on a disk that all nodes share
DATA=cifar10:$HOME/data          # what the networks learn, likewise
SCRATCH=/tmp                     # a disk of each node's own, for a copy of DATA; empty: no copy
SEARCH=(--preset paper)          # what is searched: hpcnas search --help
RESTARTS=50                      # so many more jobs a seed at the most

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

may_requeue=$(scontrol show job "${SLURM_ARRAY_JOB_ID}_$SEED" | grep -o Requeue=1)  # asked now: later, SLURM may be ending this job
copy_data "$SCRATCH/hpcnas-$SLURM_JOB_ID"
work "${LAUNCH[@]}" -n $((SLURM_NTASKS + 1)) "$PYTHON" -m hpcnas "${SEARCH[@]}" --seed "$SEED" --data "$DATA" --run "$RUN"
remove_data "$SCRATCH/hpcnas-$SLURM_JOB_ID"

started=$((${STARTED:-0} + ${SLURM_RESTART_COUNT:-0}))
leave_unless_more_to_do "$started" "$RESTARTS" || exit 1
if [ -n "$may_requeue" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SEED"
else
    env -u SLURM_RESTART_COUNT STARTED=$((started + 1)) sbatch --export=ALL --array="$SEED" "$0"
fi
