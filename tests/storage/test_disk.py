"""A disk that is full, read-only or gone: a clear message, an exit code, and nothing acknowledged lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from demand import absent
from patience import GUARD
from warden import Child

from hpcnas.analysis import verification
from hpcnas.search.file_store import FileStore
from hpcnas.search.recovery import salvage

OPTIONS = ["--evaluator", "synthetic", "--initial-population", "10", "--initial-mutations", "20", "--progress", "plain"]


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "hpcnas", "--run", str(folder), *OPTIONS, *options]


def search(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *options), capture_output=True, text=True, timeout=GUARD)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "hpcnas-test", folder], capture_output=True)
    if mounted.returncode != 0:
        absent("needs the right to mount a small tmpfs", "HPCNAS_DEMAND_MOUNT")
    yield folder
    subprocess.run(["umount", folder], check=True)


def acknowledged(done: subprocess.CompletedProcess[str]) -> set[int]:
    """Individuals whose results the program has told about, which it does only once they are on the disk."""
    lines = [line for line in done.stdout.splitlines() if "new best: individual" in line]
    return {int(line.split("new best: individual ")[1].partition(":")[0]) for line in lines}


@pytest.mark.parametrize("interval", ["1000", "0"])  # the journal grows till the disk is full; so does population.h5
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(small_disk: Path, tmp_path: Path, interval: str) -> None:
    run = small_disk / "run"
    done = search(run, "--budget", "100000", "--compact-interval", interval)
    assert done.returncode == 1
    assert "No space left on device" in done.stdout and "nothing acknowledged is lost" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    roomy = Path(shutil.copytree(run, tmp_path / "roomy"))
    kept, problems = salvage(roomy)
    assert problems == [] and list(verification.faults(kept)) == []
    evaluated = len(kept.population.evaluated)
    assert evaluated > 10
    assert acknowledged(done) <= set(kept.population.evaluated.tolist())
    more = search(roomy, "--budget", str(evaluated + 20), "--compact-interval", "1000")
    assert more.returncode == 0, more.stdout
    store = FileStore.open(roomy)
    assert len(store.population.evaluated) == evaluated + 20
    store.close()


def test_a_read_only_folder_is_refused(small_disk: Path) -> None:
    run = small_disk / "run"
    assert search(run, "--budget", "12").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = search(run, "--budget", "20")
    assert done.returncode == 2
    assert done.stderr == f"hpcnas: expected to write in the run folder {run}: Read-only file system\n"
    elsewhere = search(small_disk / "new", "--budget", "20")
    assert elsewhere.returncode == 2
    assert "Read-only file system" in elsewhere.stderr and elsewhere.stderr.count("\n") == 1


def test_a_folder_that_vanishes_stops_the_run(tmp_path: Path) -> None:
    """Writing to a file that has been removed succeeds without an error: it must be noticed all the same."""
    run = tmp_path / "run"
    with Child(
        command(run, "--budget", "1000000", "--compact-interval", "1000"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "new best" in line:
                break
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)  # it may have written a file into it meanwhile
        printed, _ = process.communicate(timeout=GUARD)
    assert process.returncode == 1
    gone = r"/run was removed while this job was at work on it; with it, the \d+ evaluated individuals are gone\n"
    going = r"/run/(lock was|journal: the file has been) removed; "  # it looked after it between the one and the other
    assert re.search(f"{gone}|{going}", printed)
    assert "Traceback" not in printed
