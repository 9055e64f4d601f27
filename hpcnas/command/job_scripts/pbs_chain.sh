#!/usr/bin/env bash
# A search under OpenPBS or PBS Pro, then the retraining of the best cell that it finds. Edit the two scripts, then, where
# jobs are submitted: ./pbs_chain.sh

JOBS=$(cd "$(dirname "$0")" && pwd)
SEARCH=$JOBS/pbs.sh
RETRAIN=$JOBS/pbs_retrain.sh     # its SEARCHED has to be the RUN of the search

# ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
for script in "$SEARCH" "$RETRAIN"; do
    [ -r "$script" ] || { echo "expected a job script, but cannot read $script: nothing is submitted"; exit 1; }
done
# The retraining comes first, held: every job of the search then knows whom to put behind its successor.
then=$(qsub -h "$RETRAIN") || exit
if first=$(qsub -v THEN="$then" "$SEARCH") && qalter -W depend=afterok:"$first" "$then" && qrls "$then"; then
    echo "$first is the search, $then the retraining after it"
else
    qdel "$then"
    exit 1
fi
