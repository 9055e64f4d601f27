"""A search with early stopping under a real `mpirun`, killed and continued: the same individuals, all of them sound."""

from __future__ import annotations

from pathlib import Path

import mpi as launcher
import pytest
from live_run import await_that, evaluations, ranks, recorded, settled, status
from mpi import Mpi
from patience import GUARD

from hpcnas.analysis import merging, verification
from hpcnas.evolution.individuals import Birth, State

OPTIONS = [
    *("--evaluator", "synthetic", "--synthetic-noise", "0.001", "--initial-population", "30", "--seed", "3"),
    *("--initial-mutations", "50", "--replicates", "2", "--rungs", "0.1", "0.3", "--early-stopping"),
    *("--early-stopping-confidence", "0.8", "--compact-interval", "0.2", "--progress", "plain"),
]
HOW = {
    "alone": (),
    "racing": ("--racing", "--scheduling", "replicate"),
    "confirm": ("--duplicates", "resample", "--confirm", "2", "--strategy", "aging", "--aging-population", "20"),
}


def search(mpi: Mpi, tmp_path: Path, folder: str, *more: str, count: int = 3) -> str:
    """Output of a search that comes to its end."""
    words = ["-m", "hpcnas", "--run", folder, *more]
    done = launcher.run(mpi, count, words, cwd=tmp_path, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def assert_sound(folder: Path, budget: int) -> None:
    found = verification.verify(folder)
    assert found.problems == []
    population = found.run.population
    assert population.searched + population.stopped == budget and population.in_flight == 0
    assert population.stopped > 10


@pytest.mark.parametrize("how", HOW)
def test_a_killed_search_goes_on_with_the_same_individuals(how: str, mpi: Mpi, tmp_path: Path) -> None:
    options, folder = [*OPTIONS, *HOW[how], "--budget", "100"], tmp_path / "run"
    sleepy = ["--synthetic-seconds", "0.2"]  # ten seconds in all: it is killed long before
    with launcher.start(mpi, 3, ["-m", "hpcnas", "--run", "run", *options, *sleepy], cwd=tmp_path) as job:
        await_that(lambda: job.poll() is not None or _stopped(folder) >= 3, "some that are stopped")
        before = recorded(folder)
        ranks(job)[0].kill()
        job.communicate(timeout=GUARD)
        assert job.await_end() == []
    assert status(folder) == "more" and 0 < evaluations(folder) < 100
    output = search(mpi, tmp_path, "run", "--synthetic-seconds", "0", count=2)
    assert "stopped early" in output
    assert status(folder) == "complete"
    assert_sound(folder, 100)
    old, new = before.population, recorded(folder).population
    assert settled(old).items() <= settled(new).items()
    for id in range(len(old)):
        assert new.individual(id) == old.individual(id)
    assert new.evaluated[: len(old.evaluated)].tolist() == old.evaluated.tolist()
    if how == "confirm":
        assert new.confirmations >= 4


def _stopped(folder: Path) -> int:
    return recorded(folder).population.stopped if (folder / "population.h5").exists() else 0


def test_merged_runs_go_on(mpi: Mpi, tmp_path: Path) -> None:
    search(mpi, tmp_path, "one", *OPTIONS, "--budget", "60")
    search(mpi, tmp_path, "two", *OPTIONS, "--budget", "60", "--seed", "4")
    merging.merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    founders = recorded(tmp_path / "both").population
    assert set(founders.column("state").tolist()) == {State.EVALUATED} and founders.stopped == 0
    count = len(founders)
    search(mpi, tmp_path, "both", "--budget", str(count + 30))
    found = verification.verify(tmp_path / "both")
    assert found.problems == []
    population = found.run.population
    assert len(population) == count + 30 and population.stopped > 3  # by the founders' curves, from the first on
    assert set(population.column("birth")[:count].tolist()) == {Birth.FOUNDER}
