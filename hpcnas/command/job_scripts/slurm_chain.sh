#!/usr/bin/env bash
# A search under SLURM, then the retraining of the best cell that it finds. Edit the two scripts, then, where jobs are
# submitted: ./slurm_chain.sh

JOBS=$(cd "$(dirname "$0")" && pwd)
SEARCH=$JOBS/slurm.sh
RETRAIN=$JOBS/slurm_retrain.sh   # its SEARCHED has to be the RUN of the search

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
for script in "$SEARCH" "$RETRAIN"; do
    [ -r "$script" ] || { echo "expected a job script, but cannot read $script: nothing is submitted"; exit 1; }
done
# The retraining comes first, held: a search that has to submit itself again then knows whom to put behind its successor.
then=$(sbatch --parsable --hold --kill-on-invalid-dep=yes "$RETRAIN") || exit
then=${then%;*}
if first=$(THEN=$then sbatch --parsable --export=ALL "$SEARCH") &&
    scontrol update JobId="$then" Dependency=afterok:"${first%;*}" && scontrol release "$then"; then
    echo "Submitted batch job ${first%;*}, a search, and $then, a retraining after it"
else
    scancel "$then"
    exit 1
fi
