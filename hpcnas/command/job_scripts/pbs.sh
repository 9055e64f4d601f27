#!/usr/bin/env bash
# One search under OpenPBS or PBS Pro, submitted again until it is complete. Edit what stands above the line, then:
# qsub pbs.sh
#PBS -N hpcnas
#PBS -l select=4:ncpus=64:ngpus=8:mpiprocs=8
#PBS -l walltime=12:00:00
#PBS -j oe

JOBS=$HOME/hpcnas/jobs           # the folder of common.sh
PYTHON=$HOME/hpcnas/.venv/bin/python  # of the environment that hpcnas is installed in
RUN=$HOME/runs/cifar             # where the run is kept, on a disk that all nodes share
DATA=cifar10:$HOME/data          # what the networks learn, likewise
SCRATCH=/tmp                     # a disk of each node's own, for a copy of DATA; empty: no copy
SEARCH=(--preset paper)          # what is searched: hpcnas search --help
RESTARTS=50                      # so many more jobs at the most

LAUNCH=(mpirun --bind-to none --machinefile "$PBS_NODEFILE")                           # MPICH
#LAUNCH=(mpirun --bind-to none --machinefile "$PBS_NODEFILE" --map-by :OVERSUBSCRIBE)  # Open MPI

# module load ...

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
on_every_node() { sort -u "$PBS_NODEFILE" | xargs -P 0 -I{} pbs_tmrsh {} "$@"; }
# shellcheck source=common.sh source-path=SCRIPTDIR
. "$JOBS/common.sh" 2>/dev/null
declare -F remove_data >/dev/null || { echo "expected the folder of common.sh in JOBS, but cannot read $JOBS/common.sh"; exit 1; }
cd "$PBS_O_WORKDIR" || exit  # where the logs and the next job go

copy_data "$SCRATCH/hpcnas-$PBS_JOBID"
workers=$(wc -l <"$PBS_NODEFILE")
work "${LAUNCH[@]}" -n $((workers + 1)) "$PYTHON" -m hpcnas "${SEARCH[@]}" --data "$DATA" --run "$RUN"
remove_data "$SCRATCH/hpcnas-$PBS_JOBID"

leave_unless_more_to_do "${STARTED:-0}" "$RESTARTS" || exit 1
next=$(qsub -v STARTED=$((${STARTED:-0} + 1))"${THEN:+,THEN=$THEN}" "$0") || exit
echo "$next"
[ -z "$THEN" ] || qalter -W depend=afterok:"$next" "$THEN"  # pbs_chain.sh's
