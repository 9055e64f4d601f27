#!/usr/bin/env bash
# One retraining under SLURM, requeued until it is complete. Edit what stands above the line, then:
# sbatch slurm_retrain.sh, or after a search: ./slurm_chain.sh
#SBATCH --job-name=hpcnas-retrain
#SBATCH --nodes=1
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
SEARCHED=$HOME/runs/cifar        # the search that has to be complete first; empty: none has to
GENOTYPE=$SEARCHED:best          # whose network is trained: also RUN:ID, a file, or paper
RUN=$HOME/runs/cifar-large       # where the retraining is kept, on a disk that all nodes share
DATA=cifar10:$HOME/data          # what the networks learn, likewise
SCRATCH=/tmp                     # a disk of each node's own, for a copy of DATA; empty: no copy
RETRAIN=(--preset cifar-large --runs 5)  # how it is trained: hpcnas retrain --help
RESTARTS=50                      # so many more jobs at the most

LAUNCH=(mpirun --bind-to none)               # MPICH or Open MPI
#LAUNCH=(srun --mpi=pmi2 --cpu-bind=none)    # MPICH, without mpirun
#LAUNCH=(srun --mpi=pmix --cpu-bind=none)    # Open MPI, without mpirun

# module load ...

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
unset SLURM_CPUS_PER_TASK SLURM_NTASKS_PER_NODE  # srun, mpirun's own too, would take them for what it should use
on_every_node() { srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 "$@"; }
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$JOBS/common.sh" 2>/dev/null
declare -F remove_data >/dev/null || { echo "expected the folder of common.sh in JOBS, but cannot read $JOBS/common.sh"; exit 1; }

may_requeue=$(scontrol show job "$SLURM_JOB_ID" | grep -o Requeue=1)  # asked now: later, SLURM may be ending this job
leave_unless_searched "$SEARCHED" || exit 1
copy_data "$SCRATCH/hpcnas-$SLURM_JOB_ID"
work "${LAUNCH[@]}" -n "$SLURM_NTASKS" "$PYTHON" -m hpcnas.retrain "${RETRAIN[@]}" --genotype "$GENOTYPE" --data "$DATA" --run "$RUN"
remove_data "$SCRATCH/hpcnas-$SLURM_JOB_ID"

started=$((${STARTED:-0} + ${SLURM_RESTART_COUNT:-0}))
leave_unless_more_to_do "$started" "$RESTARTS" || exit 1
if [ -n "$may_requeue" ]; then
    scontrol requeue "$SLURM_JOB_ID"
else
    env -u SLURM_RESTART_COUNT STARTED=$((started + 1)) sbatch --export=ALL "$0"
fi
