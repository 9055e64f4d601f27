#!/usr/bin/env bash
# One retraining under OpenPBS or PBS Pro, submitted again until it is complete. Edit what stands above the line, then:
# qsub pbs_retrain.sh, or after a search: ./pbs_chain.sh
#PBS -N hpcnas-retrain
#PBS -l select=1:ncpus=64:ngpus=8:mpiprocs=8
#PBS -l walltime=12:00:00
#PBS -j oe

JOBS=$HOME/hpcnas/jobs           # the folder of common.sh
PYTHON=$HOME/hpcnas/.venv/bin/python  # of the environment that hpcnas is installed in
SEARCHED=$HOME/runs/cifar        # the search that has to be complete first; empty: none has to
GENOTYPE=$SEARCHED:best          # whose network is trained: also RUN:ID, a file, or paper
RUN=$HOME/runs/cifar-large       # where the retraining is kept, on a disk that all nodes share
DATA=cifar10:$HOME/data          # what the networks learn, likewise
SCRATCH=/tmp                     # a disk of each node's own, for a copy of DATA; empty: no copy
RETRAIN=(--preset cifar-large --runs 5)  # how it is trained: hpcnas retrain --help
RESTARTS=50                      # so many more jobs at the most

LAUNCH=(mpirun --bind-to none --machinefile "$PBS_NODEFILE")  # MPICH or Open MPI

# module load ...

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
on_every_node() { sort -u "$PBS_NODEFILE" | xargs -P 0 -I{} pbs_tmrsh {} "$@"; }
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$JOBS/common.sh" 2>/dev/null
declare -F remove_data >/dev/null || { echo "expected the folder of common.sh in JOBS, but cannot read $JOBS/common.sh"; exit 1; }
cd "$PBS_O_WORKDIR" || exit  # where the logs and the next job go

leave_unless_searched "$SEARCHED" || exit 1
copy_data "$SCRATCH/hpcnas-$PBS_JOBID"
ranks=$(wc -l <"$PBS_NODEFILE")
work "${LAUNCH[@]}" -n "$ranks" "$PYTHON" -m hpcnas.retrain "${RETRAIN[@]}" --genotype "$GENOTYPE" --data "$DATA" --run "$RUN"
remove_data "$SCRATCH/hpcnas-$PBS_JOBID"

leave_unless_more_to_do "${STARTED:-0}" "$RESTARTS" || exit 1
qsub -v STARTED=$((${STARTED:-0} + 1)) "$0"
