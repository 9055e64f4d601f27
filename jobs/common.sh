# shellcheck shell=bash
# What the job scripts share. They set RUN, DATA and SCRATCH, define `on_every_node`, source this, and then go through
#
#     copy_data ─► work COMMAND ─► remove_data ─► leave_unless_more_to_do ─► their own way to start again
#
# Work is a search or a retraining. README.md beside it explains. Knows no batch system; decides on RUN/status, since
# launchers' exit codes are unreliable.

launcher=    # the process that the signals below are handed on to
not_again=   # yes: somebody wants the work to end, and not only this job

# SIGUSR1 asks it to save everything and leave, to be started again; SIGTERM, SIGINT and SIGHUP, not to be.
# All reach the ranks as SIGUSR1, the only signal that every launcher hands on and survives.
ask_to_leave() { [ -z "$launcher" ] || kill -USR1 "$launcher" 2>/dev/null; }
trap ask_to_leave USR1
trap 'not_again=yes; ask_to_leave' TERM INT HUP

# status FIELD: what RUN/status says; nothing where there is none.
status() { sed -nE "s/^($1)=//p" "$RUN/status" 2>/dev/null; }

# done_so_far: evaluations of a search, steps of a retraining.
done_so_far() { status 'evaluated|steps_done'; }

# work COMMAND...: runs it until it ends, whatever signals arrive.
work() {
    done_before=$(done_so_far)
    began=$(date +@%s.%N)
    rm -f "$RUN/status"  # what will stand there is the word of this job
    "$@" </dev/null &
    launcher=$!
    while kill -0 "$launcher" 2>/dev/null; do
        wait "$launcher"  # until it ends, or a signal arrives
    done
    launcher=
}

# made_progress: whether this job has brought it further: by an evaluation or the checkpoint of a longer one; by a step.
made_progress() {
    local done_now
    done_now=$(done_so_far)
    [ "${done_now:-0}" -gt "${done_before:-0}" ] ||
        [ -n "$(find "$RUN/inflight" -name '*.pt' -newermt "$began" 2>/dev/null)" ]
}

# leave_unless_searched FOLDER: ends the script with 1 unless the search in this folder, if any, is complete, or has been
# when the retraining began.
leave_unless_searched() {
    local state
    if [ -z "$1" ] || [ -e "$RUN/retrain.h5" ]; then return 0; fi
    state=$(RUN=$1 status state)
    [ "$state" = complete ] && return 0
    echo "$RUN is not begun: the search $1 is not complete (${state:-it has no status})"
    exit 1
}

# leave_unless_more_to_do STARTED MOST: ends the script if it is of no use to start the work again, which has been done
# STARTED times: with 0 if it is complete, else with 1.
leave_unless_more_to_do() {
    local state why
    state=$(status state)
    if [ "$state" = complete ]; then
        exit 0
    elif [ "$state" != more ]; then
        why=${state:-it did not even begin}
    elif [ -n "$not_again" ]; then
        why="this job was told to end"
    elif ! made_progress; then
        why="this job has not brought it any further"
    elif [ "$1" -ge "$2" ]; then
        why="it has been $1 times, the most that RESTARTS allows"
    else
        return 0
    fi
    echo "$RUN is not started again: $why"
    exit 1
}

# copy_data FOLDER: makes DATA a copy of itself in that folder of every node; where that fails, it is read where it is.
copy_data() {
    [ -n "$SCRATCH" ] || return 0
    if on_every_node cp -ru "${DATA#*:}/." "$1"; then
        DATA=${DATA%%:*}:$1
    else
        echo "$DATA could not be copied into $SCRATCH of every node: it is read where it is"
    fi
}

# remove_data FOLDER: removes the copies.
remove_data() { [ -z "$SCRATCH" ] || on_every_node rm -rf "$1"; }
