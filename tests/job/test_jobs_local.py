"""`jobs/local.sh`, and with it what all job scripts share: when a search is started again, and what signals do."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import jobscripts
import live_run
import mpi as launcher
import pytest
from jobscripts import COMPLETE, MORE, Play, assert_complete, evaluations, launch_line, places, read, status
from patience import GUARD


def test_a_search_is_started_until_it_is_complete(tmp_path: Path) -> None:
    scenes = [MORE.format(3), MORE.format(4), COMPLETE]
    assert Play(tmp_path, scenes).whole() == (0, 3, "")


@pytest.mark.parametrize("state", ["wrong-use", "broken"])
def test_what_cannot_succeed_is_not_tried_again(tmp_path: Path, state: str) -> None:
    play = Play(tmp_path, [f"echo state={state} >status; exit 1"])
    assert play.whole() == (1, 1, f"{play.run} is not started again: {state}\n")


def test_without_progress_it_ends(tmp_path: Path) -> None:
    play = Play(tmp_path, [MORE.format(3), MORE.format(3)])
    assert play.whole() == (1, 2, f"{play.run} is not started again: this job has not brought it any further\n")


def test_new_trainings_of_the_best_are_progress_and_what_is_no_number_is_not(tmp_path: Path) -> None:
    scenes = [f"printf 'state=more\\nevaluated=9\\nconfirmations={count}\\n' >status; exit 75" for count in (1, 2, 2)]
    play = Play(tmp_path, scenes)
    assert play.whole() == (1, 3, f"{play.run} is not started again: this job has not brought it any further\n")
    (tmp_path / "early").mkdir()
    scenes = [f"printf 'state=more\\nevaluated=9\\nstopped={count}\\n' >status; exit 75" for count in (1, 2, 2)]
    early = Play(tmp_path / "early", scenes)
    assert early.whole()[:2] == (1, 3), "what was stopped early is progress too"
    scenes = ["printf 'state=more\\nevaluated=a[$(touch hit)]\\n' >status; exit 75"]
    (tmp_path / "other").mkdir()
    other = Play(tmp_path / "other", scenes)
    assert other.whole()[:2] == (1, 1) and not list(tmp_path.rglob("hit"))


def test_a_checkpoint_of_this_job_is_progress_and_an_older_one_is_not(tmp_path: Path) -> None:
    scenes = ["sleep 1; touch inflight/7.pt; " + MORE.format(0), "sleep 1; " + MORE.format(0)]
    play = Play(tmp_path, scenes)
    assert play.whole() == (1, 2, f"{play.run} is not started again: this job has not brought it any further\n")


def test_starts_are_counted(tmp_path: Path) -> None:
    play = Play(tmp_path, [MORE.format(count) for count in range(1, 9)], restarts="2")
    reason = "it has been 2 times, the most that RESTARTS allows"
    assert play.whole() == (1, 3, f"{play.run} is not started again: {reason}\n")


def test_a_launcher_that_dies_of_a_signal_is_a_search_that_ended(tmp_path: Path) -> None:
    scenes = [MORE.format(3).replace("exit 75", "kill -KILL $$"), COMPLETE]
    exit_code, starts, _ = Play(tmp_path, scenes).whole()
    assert (exit_code, starts) == (0, 2)


WAIT = "trap 'asked=yes; echo asked >>signals' USR1; touch ready; until [ \"$asked\" ]; do sleep 0.05; done; "


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_whoever_ends_the_script_ends_the_search_in_order(tmp_path: Path, number: signal.Signals) -> None:
    play = Play(tmp_path, [WAIT + MORE.format(3)])
    with play.start() as process:
        live_run.await_that((play.run / "ready").exists, "the search")
        process.send_signal(number)
        printed, _ = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    assert printed == f"{play.run} is not started again: this job was told to end\n"
    assert read(play.run / "signals") == "asked\n"


def test_sigusr1_lets_the_search_save_and_starts_it_again(tmp_path: Path) -> None:
    play = Play(tmp_path, [WAIT + MORE.format(3), COMPLETE])
    with play.start() as process:
        live_run.await_that((play.run / "ready").exists, "the search")
        process.send_signal(signal.SIGUSR1)
        process.communicate(timeout=GUARD)
    assert process.returncode == 0
    assert read(play.run / "signals") == "asked\n" and len(read(play.run / "starts").splitlines()) == 2


# Real searches

# Runs a command in a terminal of its own; SIGUSR2 presses Ctrl-C there.
TERMINAL = """
import os, pty, signal, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGUSR2, lambda *_: os.write(terminal, b"\\x03"))
try:
    while printed := os.read(terminal, 65536):
        os.write(1, printed)
except OSError:  # nobody is at the terminal any more
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture(params=[("mpich", ("mpirun",)), ("openmpi", ("mpirun", "OVERSUBSCRIBE"))], ids=["mpich", "openmpi"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """local.sh with two workers, under one MPI after the other."""
    name, words = request.param
    values = places(tmp_path / "run", "--synthetic-seconds", "0.3", "--budget", "30")
    values |= {"LAUNCH": launch_line("local.sh", *words), "WORKERS": "2"}
    return jobscripts.edited("local.sh", tmp_path / "local.sh", values, module=jobscripts.launcher(name))


def test_a_search_whose_rank_is_killed_goes_on(script: Path, tmp_path: Path) -> None:
    with launcher.start_command([str(script)], cwd=tmp_path, env={}) as job:
        live_run.await_that(lambda: evaluations(tmp_path / "run") >= 5, "evaluations")
        live_run.ranks(job)[1].send_signal(signal.SIGKILL)
        stdout, stderr = job.communicate(timeout=GUARD)
        assert job.returncode == 0, stdout + stderr
        assert job.await_end() == []
    assert len(assert_complete(tmp_path / "run", budget=30).sessions) == 2


def test_control_c_saves_and_the_same_command_goes_on(script: Path, tmp_path: Path) -> None:
    with launcher.start_command([sys.executable, "-c", TERMINAL, str(script)], cwd=tmp_path, env={}) as job:
        live_run.await_that(lambda: evaluations(tmp_path / "run") >= 5, "evaluations")
        job.send_signal(signal.SIGUSR2)
        stdout, stderr = job.communicate(timeout=GUARD)
        assert job.returncode == 1, stdout + stderr
        assert "SIGUSR1 received" in stdout and "this job was told to end" in stdout
        assert job.await_end() == []
    assert status(tmp_path / "run")["state"] == "more"
    with launcher.start_command([str(script)], cwd=tmp_path, env={}) as job:
        stdout, stderr = job.communicate(timeout=GUARD)
        assert job.returncode == 0, stdout + stderr
    assert_complete(tmp_path / "run", budget=30)
