"""What job scripts do where nothing begins: a `common.sh` that is not to be had, a dry run, a start that is refused."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jobscripts
import live_run
import pytest
from jobscripts import COMPLETE, JOBS, MORE, Play, places, read
from patience import GUARD

SCRIPTS = ["slurm.sh", "slurm_array.sh", "slurm_retrain.sh", "pbs.sh", "pbs_retrain.sh", "local.sh"]
COMMANDS = "scontrol srun sbatch scancel qsub qalter qrls qdel pbs_tmrsh mpirun rm cp".split()
STATUS = "state=complete\nevaluated=9\n"


def site(folder: Path) -> dict[str, str]:
    """An environment as a batch system's, whose commands only write down in `folder`/calls what they were told."""
    bin = folder / "bin"
    bin.mkdir()
    for name in COMMANDS:
        (bin / name).write_text(
            f'#!/bin/sh\necho {name} "$@" >>{folder}/calls\n[ "$1" = show ] && echo Requeue=1\nexit 0\n'
        )
        (bin / name).chmod(0o755)
    (folder / "nodes").write_text("n1\n")
    slurm = {"SLURM_JOB_ID": "1", "SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "3", "SLURM_NTASKS": "2"}
    pbs = {"PBS_JOBID": "1.standin", "PBS_NODEFILE": str(folder / "nodes"), "PBS_O_WORKDIR": str(folder)}
    path = os.pathsep.join((str(bin), os.environ["PATH"]))
    return {**os.environ, **slurm, **pbs, "SLURM_JOB_NUM_NODES": "1", "HOME": str(folder), "PATH": path}


def started(script: Path, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Exit code of the script, and what it printed."""
    done = subprocess.run(
        [script], cwd=folder, env=env, timeout=GUARD, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """A controller's lock, held for the length of a with block."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unhurried(folder: Path) -> str:
    """A PATH whose `sleep` does not."""
    bin = folder / "bin"
    bin.mkdir()
    (bin / "sleep").symlink_to("/bin/true")
    return os.pathsep.join((str(bin), os.environ["PATH"]))


# common.sh


def whole() -> str:
    return (JOBS / "common.sh").read_text()


def cut(text: str, at: str) -> str:
    return text[: text.index(at)]


DAMAGES = {
    "missing": None,
    "empty": "",
    "cut between functions": cut(whole(), "# copy_data FOLDER"),
    "cut within a function": cut(whole(), "    else\n        echo \"$DATA could"),
    "cut before the cap": cut(whole(), "# leave_unless_more_to_do STARTED"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_without_a_whole_common_sh_one_line_is_said_and_nothing_done(script: str, damage: str, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir(parents=True)
    if (text := DAMAGES[damage]) is not None:
        (jobs / "common.sh").write_text(text)
    run = tmp_path / "run"
    run.mkdir()
    (run / "status").write_text("state=more\nevaluated=9\n")
    values = {"JOBS": str(jobs), "RUN": str(run)}
    copy = jobscripts.edited(script, tmp_path / script, values)
    exit_code, printed = started(copy, tmp_path, site(tmp_path))
    expected = f"expected the folder of common.sh in JOBS, but cannot read {jobs}/common.sh\n"
    assert (exit_code, printed) == (1, expected)
    assert read(tmp_path / "calls") == "" and read(run / "status") == "state=more\nevaluated=9\n"


def test_local_sh_that_was_copied_elsewhere_says_where_it_has_looked(tmp_path: Path) -> None:
    copy = jobscripts.edited("local.sh", tmp_path / "local.sh", {})
    exit_code, printed = started(copy, tmp_path, site(tmp_path))
    assert exit_code == 1 and printed.count("\n") == 1
    assert printed == f"expected the folder of common.sh in JOBS, but cannot read {tmp_path}/common.sh\n"


def test_a_folder_in_its_place_is_none(tmp_path: Path) -> None:
    (tmp_path / "jobs/common.sh").mkdir(parents=True)
    copy = jobscripts.edited("slurm.sh", tmp_path / "slurm.sh", {"JOBS": str(tmp_path / "jobs")})
    exit_code, printed = started(copy, tmp_path, site(tmp_path))
    assert exit_code == 1 and printed.count("\n") == 1 and read(tmp_path / "calls") == ""


@pytest.mark.parametrize("script", ["slurm_chain.sh", "pbs_chain.sh"])
@pytest.mark.parametrize("missing", ["SEARCH", "RETRAIN"])
def test_a_chain_with_a_script_that_is_not_there_submits_nothing(script: str, missing: str, tmp_path: Path) -> None:
    values = {"SEARCH": str(JOBS / "slurm.sh"), "RETRAIN": str(JOBS / "slurm_retrain.sh")} | {missing: "/nowhere.sh"}
    copy = jobscripts.edited(script, tmp_path / script, values)
    exit_code, printed = started(copy, tmp_path, site(tmp_path))
    assert exit_code == 1 and read(tmp_path / "calls") == ""
    assert printed == "expected a job script, but cannot read /nowhere.sh: nothing is submitted\n"


@pytest.mark.parametrize("restarts", ["", "fifty", "5 0"])
def test_a_cap_that_is_no_number_allows_nothing(tmp_path: Path, restarts: str) -> None:
    exit_code, starts, printed = Play(tmp_path, [MORE.format(3)], restarts=f"'{restarts}'").whole()
    assert (exit_code, starts) == (1, 1) and "is not started again" in printed


# RUN/status


def test_what_an_earlier_job_said_does_not_count_and_stays(tmp_path: Path) -> None:
    play = Play(tmp_path, ["exit 2"])
    (play.run / "status").write_text(STATUS)
    assert play.whole() == (1, 1, f"{play.run} is not started again: it did not even begin\n")
    assert read(play.run / "status") == STATUS


def test_the_same_words_said_anew_count(tmp_path: Path) -> None:
    play = Play(tmp_path, [COMPLETE])
    (play.run / "status").write_text(STATUS)
    assert play.whole() == (0, 1, "")


def test_what_another_job_says_meanwhile_does_not_count(tmp_path: Path) -> None:
    play = Play(tmp_path, [COMPLETE + "; echo start=another >>status; exit 2"])
    assert play.whole() == (1, 1, f"{play.run} is not started again: it did not even begin\n")


def test_a_status_that_repeats_the_word_of_the_start_counts(tmp_path: Path) -> None:
    own = "; echo start=$HPCNAS_START >>status"
    scenes = [MORE.format(3).replace("; exit", own + "; exit"), COMPLETE + own]
    assert Play(tmp_path, scenes).whole() == (0, 2, "")


def test_a_status_that_is_a_fifo_stops_nobody(tmp_path: Path) -> None:
    play = Play(tmp_path, ["exit 2"])
    os.mkfifo(play.run / "status")
    assert play.whole() == (1, 1, f"{play.run} is not started again: it did not even begin\n")


@pytest.mark.parametrize(("ends", "exit_code"), [(0, 0), (2, 1)])
def test_a_dry_run_ends_as_its_program_and_keeps_the_status(tmp_path: Path, ends: int, exit_code: int) -> None:
    play = Play(tmp_path, [f"exit {ends}"], search=["--preset", "quick", "--dry-run"])
    (play.run / "status").write_text(STATUS)
    said = "" if ends == 0 else f"{play.run}: what was asked for could not be said\n"
    assert play.whole() == (exit_code, 1, said)
    assert read(play.run / "status") == STATUS


def test_a_real_dry_run_of_a_complete_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    alone = tmp_path / "alone"
    alone.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')  # without `-n RANKS`
    alone.chmod(0o755)
    small = ["--evaluator", "synthetic", "--budget", "3", "--initial-population", "3", "--initial-mutations", "3"]
    values = places(run) | {"LAUNCH": [str(alone)], "WORKERS": "1", "SEARCH": small}
    exit_code, printed = started(jobscripts.edited("local.sh", tmp_path / "a.sh", values), tmp_path, dict(os.environ))
    assert exit_code == 0, printed
    before = read(run / "status")
    assert "state=complete\n" in before and "\nstart=" in before
    values["SEARCH"] = [*small, "--dry-run"]
    exit_code, printed = started(jobscripts.edited("local.sh", tmp_path / "b.sh", values), tmp_path, dict(os.environ))
    assert exit_code == 0, printed
    assert read(run / "status") == before


# A lock


def test_a_lock_that_is_held_a_little_longer_is_waited_for(tmp_path: Path) -> None:
    play = Play(tmp_path, ["exit 2", "exit 2", COMPLETE])
    with ExitStack() as lock:
        lock.enter_context(held(play.run / "lock"))
        with play.start() as process:
            live_run.await_that(lambda: play.starts == 2, "two starts")
            lock.close()
            printed, _ = process.communicate(timeout=GUARD)
    assert process.returncode == 0 and play.starts == 3
    assert printed.count("another job is at work in it") == 2


def test_a_lock_that_is_not_let_go_ends_it_after_a_few_starts(tmp_path: Path) -> None:
    renewed = MORE.format(9).replace("; exit 75", "; echo start=another >>status; exit 2")
    play = Play(tmp_path, [renewed] * 9)
    with held(play.run / "lock"):
        exit_code, starts, printed = play.whole(PATH=unhurried(tmp_path))
    assert (exit_code, starts) == (1, 5)
    assert printed.splitlines()[-1] == f"{play.run} is not started again: another job is at work in it"


def test_whoever_wants_it_to_end_does_not_wait_for_a_lock(tmp_path: Path) -> None:
    play = Play(tmp_path, ["kill -TERM $PPID; exit 2"] * 9)
    with held(play.run / "lock"):
        assert play.whole()[:2] == (1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="tests what flock(1) of Linux sees")
def test_the_scripts_need_no_flock_command(tmp_path: Path) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    for name in ("bash", "sh", "dirname", "date", "stat", "head", "cksum", "sed", "wc", "grep", "find", "env"):
        (bin / name).symlink_to(f"/usr/bin/{name}")
    play = Play(tmp_path, ["exit 2"])
    with held(play.run / "lock"):
        exit_code, starts, printed = play.whole(PATH=str(bin))
    assert (exit_code, starts) == (1, 1), printed
