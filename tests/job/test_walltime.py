"""When the job ends: what the person said, else what SLURM or PBS says, from commands that are stood in for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcnas.job import walltime
from hpcnas.job.signals import Signals

NOON = 1_790_856_000.0  # 2026-10-01 12:00:00 UTC
Fake = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a command on a PATH that holds nothing else; what it was called with is in the file it returns."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC+5")  # batch systems print local time
    time.tzset()

    def fake(name: str, script: str) -> Path:
        path, arguments = tmp_path / name, tmp_path / f"{name}.arguments"
        path.write_text(f'#!/bin/sh\necho "$*" >{arguments}\n{script}\n')
        path.chmod(0o755)
        return arguments

    yield fake  # type: ignore[misc]
    monkeypatch.undo()
    time.tzset()


def test_nobody_knows() -> None:
    assert walltime.job_end(None, {}, NOON) is None


def test_what_the_person_says_goes_first() -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1", "PBS_JOBID": "9", "PBS_WALLTIME": "60"}
    assert walltime.job_end(90.0, environment, NOON) == NOON + 90.0


# ── SLURM ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_slurm_announces_the_end(fake: Fake) -> None:
    arguments = fake("squeue", "echo 2030-01-01T00:00:00")
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1790860000"}
    assert walltime.job_end(None, environment, NOON) == 1790860000.0
    assert not arguments.exists()


@pytest.mark.parametrize("announced", ["", "Unknown", "-1", "1790855999"])  # the last one is past
def test_squeue_is_asked_where_slurm_announces_nothing(fake: Fake, announced: str) -> None:
    arguments = fake("squeue", "echo 2026-10-01T09:30:00")
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": announced}
    assert walltime.job_end(None, environment, NOON) == NOON + 2.5 * 3600
    assert arguments.read_text() == "--noheader --format=%e --jobs=7\n"


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("echo N/A", "'N/A'"),
        ("echo Unknown", "'Unknown'"),
        ("echo '2026-10-01 09:30:00'", "'2026-10-01 09:30:00'"),  # the date alone would be last midnight
        ("echo 01.10.2026 09:30", "'01.10.2026 09:30'"),
        ("true", "no answer"),
        ("echo 2026-10-01T09:30:00; exit 1", "no answer"),
    ],
)
def test_squeue_may_not_know_and_that_is_said(fake: Fake, script: str, shown: str) -> None:
    fake("squeue", script)
    said: list[str] = []
    assert walltime.job_end(None, {"SLURM_JOB_ID": "7"}, NOON, said.append) is None
    assert said == [
        f"SLURM does not say when job 7 ends (squeue: {shown}): unless it has no end, give --walltime, or have it "
        "signalled ahead of its end"
    ]


def test_an_end_that_is_past_holds_where_squeue_knows_no_other(fake: Fake) -> None:
    fake("squeue", "echo N/A")
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1790855999"}
    assert walltime.job_end(None, environment, NOON) == 1790855999.0


def test_squeue_is_asked_for_its_standard_format(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "%d.%m.%Y %H:%M")
    fake("squeue", '[ "$SLURM_TIME_FORMAT" = standard ] && echo 2026-10-01T09:30:00')
    assert walltime.job_end(None, {"SLURM_JOB_ID": "7"}, NOON) == NOON + 2.5 * 3600


def test_squeue_may_not_be_there() -> None:
    assert walltime.job_end(None, {"SLURM_JOB_ID": "7"}, NOON) is None


def test_a_command_that_hangs_is_not_waited_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walltime, "_PATIENCE", 0.2)
    fake("squeue", "while :; do :; done")
    assert walltime.job_end(None, {"SLURM_JOB_ID": "7"}, NOON) is None


# ── PBS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
QSTAT = """Job Id: 9.server
    Job_Name = search
    resources_used.cput = 99:59:59
    resources_used.walltime = {used}
    job_state = R
    Resource_List.ncpus = 8
    Resource_List.walltime = {limit}
    comment = Resource_List.walltime is not here"""


@pytest.mark.parametrize(
    ("limit", "used", "left"),
    [("01:00:00", "00:10:30", 3600 - 630), ("24:00:00", "00:00:00", 86400), ("2:01:00:00", "01:00:00", 2 * 86400)],
)
def test_qstat_says_what_is_left(fake: Fake, limit: str, used: str, left: float) -> None:
    arguments = fake("qstat", f"cat <<END\n{QSTAT.format(limit=limit, used=used)}\nEND".replace("cat", "/bin/cat"))
    assert walltime.job_end(None, {"PBS_JOBID": "9.server", "PBS_WALLTIME": "60"}, NOON) == NOON + left
    assert arguments.read_text() == "-f 9.server\n"


@pytest.mark.parametrize(
    ("start", "left"),
    [
        ("Thu Oct  1 06:45:00 2026", 3600 - 900),  # what is used comes minutes late: 0 here
        ("Thu Oct  1 05:45:00 2026", 3600 - 120),  # that would be past: the job has been suspended
        ("lately", 3600 - 120),
    ],
)
def test_the_end_follows_from_the_start_rather_than_from_what_is_used(fake: Fake, start: str, left: float) -> None:
    answer = QSTAT.format(limit="01:00:00", used="00:02:00") + f"\n    stime = {start}"
    fake("qstat", f"/bin/cat <<END\n{answer}\nEND")
    assert walltime.job_end(None, {"PBS_JOBID": "9.server"}, NOON) == NOON + left


def test_a_job_that_has_used_no_time_yet(fake: Fake) -> None:
    fake("qstat", "echo '    Resource_List.walltime = 00:30:00'")
    assert walltime.job_end(None, {"PBS_JOBID": "9"}, NOON) == NOON + 1800.0


@pytest.mark.parametrize("script", ["exit 1", "true", "echo '    Resource_List.walltime = soon'"])
def test_pbs_announces_the_limit_where_qstat_does_not_know(fake: Fake, script: str) -> None:
    fake("qstat", script)
    assert walltime.job_end(None, {"PBS_JOBID": "9", "PBS_WALLTIME": "5400"}, NOON) == NOON + 5400.0
    said: list[str] = []
    assert walltime.job_end(None, {"PBS_JOBID": "9"}, NOON, said.append) is None
    assert len(said) == 1 and said[0].startswith("PBS does not say when job 9 ends (qstat has no walltime of it): ")


# ── leaving in time ─────────────────────────────────────────────────────────────────────────────────────────────────
def reasons(
    monkeypatch: pytest.MonkeyPatch, signals: Signals, seconds: float | None = None, grace: float = 60.0
) -> dict[float, str | None]:
    """What a job is told at some seconds after its start."""
    clock = [NOON]
    monkeypatch.setattr(walltime, "steady", lambda: clock[0])
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("PBS_JOBID", raising=False)
    reason = walltime.reason_to_leave(seconds, grace, signals)
    answers = {}
    for second in (0.0, 39.0, 41.0, 1e6):
        clock[0] = NOON + second
        answers[second] = reason()
    return answers


def test_the_search_leaves_a_grace_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = reasons(monkeypatch, Signals(), seconds=100.0)
    assert answers[0.0] is None and answers[39.0] is None
    assert answers[41.0] is not None and "the job's time is nearly over" in answers[41.0]


def test_a_search_without_an_end_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(reasons(monkeypatch, Signals()).values()) == {None}


def test_a_signal_is_a_reason_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = Signals()
    signals._arrived(10, None)
    signals._arrived(15, None)
    assert str(reasons(monkeypatch, signals)[0.0]).startswith("SIGUSR1 received: saving everything")


def test_a_wall_clock_that_is_set_ends_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = [NOON]
    monkeypatch.setattr(walltime.time, "time", lambda: wall[0])
    reason = walltime.reason_to_leave(3600.0, 60.0, Signals())
    for wall[0] in (NOON + 7200.0, NOON - 7200.0):
        assert reason() is None
