# shellcheck shell=bash
# What the job scripts share. They set RUN, DATA and SCRATCH, define `on_every_node`, source this, and then go through
#
#     copy_data ─► work COMMAND ─► remove_data ─► leave_unless_more_to_do ─► their own way to start again
#
# Work is a search or a retraining. README.md beside it explains. Knows no batch system; decides on RUN/status, since
# launchers' exit codes are unreliable. The scripts start nothing without the last function below, and nothing again
# unless `leave_unless_more_to_do` lets them: where this file is missing, or is not whole, they end.

launcher=    # the process that the signals below are handed on to
asked=       # yes: this job has been told to end
not_again=   # yes: somebody wants the work to end, and not only this job
only_asked=  # yes: the command only says what it would do
before=      # RUN/status as it stood before the start

# SIGUSR1 and SIGXCPU ask it to save everything and leave, to be started again; SIGTERM, SIGINT and SIGHUP, not to be.
# All reach the ranks as SIGUSR1, the only signal that every launcher hands on and survives.
ask_to_leave() {
    asked=yes
    [ -z "$launcher" ] || kill -USR1 "$launcher" 2>/dev/null
}
trap ask_to_leave USR1 XCPU
trap 'not_again=yes; ask_to_leave' TERM INT HUP

# status FIELD: what RUN/status says; nothing where there is none.
status() { [ -f "$RUN/status" ] && head -c 4096 "$RUN/status" 2>/dev/null | sed -nE "s/^($1)=//p"; }

# seen: which RUN/status is there, by its file's number, time and content. It is opened first: only then do file systems
# of a network look whether it is another one by now.
seen() { [ -f "$RUN/status" ] && { stat -c '%i %y' - && head -c 4096 | cksum; } 2>/dev/null <"$RUN/status"; }

# heard: whether RUN/status is the word of what this job has started last: not what stood there before, nor that of another
# job's controller. Some launchers hand no variables on: where it does not say whose it is, nobody else may be at work.
# Nobody removes it: a start may be refused, or a dry run.
heard() {
    local whose
    [ "$(seen)" != "$before" ] || return
    whose=$(status start)
    [ "$whose" = "$HPCNAS_START" ] || { [ -z "$whose" ] && ! lock_is_held; }
}

# lock_is_held: whether somebody is at work in RUN, as far as `flock` can tell.
lock_is_held() {
    [ -f "$RUN/lock" ] && command -v flock >/dev/null || return
    flock -s -n 0 <"$RUN/lock" 2>/dev/null
    [ $? = 1 ]
}

# done_so_far: evaluations of a search, those that it stopped early and new trainings of its best, or steps of a
# retraining.
done_so_far() {
    local each total=0
    for each in $(status 'evaluated|stopped|confirmations|steps_done'); do
        case $each in *[!0-9]*) ;; *) total=$((total + 10#$each)) ;; esac
    done
    echo "$total"
}

# work COMMAND...: runs it until it ends, whatever signals arrive. Where it does not begin since another job's controller
# is still in RUN, longer than the command itself waits, it is tried a few times.
work() {
    local word tries was_held
    for word in "$@"; do
        case $word in --dry-run | --help | --help-all | --version) only_asked=yes ;; esac
    done
    for tries in 1 2 3 4 5; do
        [ -z "$not_again" ] || return 0  # it came before this start
        was_held=
        if lock_is_held; then was_held=yes; fi
        start "$@"
        if heard || [ -n "$only_asked$asked" ] || { [ -z "$was_held" ] && ! lock_is_held; }; then return; fi
        echo "$RUN: another job is at work in it, which $tries of 5 starts have seen"
        sleep 5
    done
}

# start COMMAND...: runs it once.
start() {
    done_before=$(done_so_far)
    began=$(date +@%s.%N)
    before=$(seen)
    export HPCNAS_START=$HOSTNAME-$$-$began  # RUN/status repeats it
    "$@" </dev/null &
    launcher=$!
    [ -z "$not_again" ] || ask_to_leave  # it came before that line
    until wait "$launcher"; ended=$?; ! kill -0 "$launcher" 2>/dev/null; do :; done  # a signal ends a wait
    launcher=
}

# made_progress: whether this job has brought it further: by an evaluation or the checkpoint of a longer one; by a step.
made_progress() {
    local done_now
    done_now=$(done_so_far)
    [ "${done_now:-0}" -gt "${done_before:-0}" ] ||
        [ -n "$(find -H "$RUN/inflight" -name '*.pt' -newermt "$began" 2>/dev/null)" ]
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
# STARTED times: with 0 if it is complete, or was only asked what it would do, else with 1.
leave_unless_more_to_do() {
    local state='' why
    if [ -n "$only_asked" ]; then
        [ "$ended" != 0 ] || exit 0
        echo "$RUN: what was asked for could not be said"
        exit 1
    fi
    if heard; then state=$(status state); fi
    if [ "$state" = complete ]; then
        exit 0
    elif [ "$state" != more ]; then
        why=${state:-it did not even begin}
        if [ -z "$state" ] && lock_is_held; then why="another job is at work in it"; fi
    elif [ -n "$not_again" ]; then
        why="this job was told to end"
    elif ! made_progress; then
        why="this job has not brought it any further"
    elif [ "$1" -lt "$2" ]; then
        asked=$not_again
        return 0
    else
        why="it has been $1 times, the most that RESTARTS allows"
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

# remove_data FOLDER: removes the copies. It stays the last: scripts know by it that the file is whole.
remove_data() { [ -z "$SCRATCH" ] || on_every_node rm -rf "$1"; }
