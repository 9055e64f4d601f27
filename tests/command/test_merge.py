"""tools/merge.py: what was evaluated comes together, a search goes on from it, and what does not fit is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from bad_values import tool
from examples import SESSION
from toolruns import CHAIN, POOLING, UNUSED, created, curved, empty, evaluation, eventful, steady

from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.messages import Place, Result
from hpcnas.search import run_file
from hpcnas.search.run_file import StoredRun
from hpcnas.storage.journal import Journal

TOOL = Path(__file__).parents[2] / "tools" / "merge.py"


def merge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, in this process."""
    said = tool("merge", *arguments)
    return subprocess.CompletedProcess(arguments, said.code, said.output, said.errors)


def started(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)


def test_what_to_go_on_with_can_be_typed(tmp_path: Path) -> None:
    new = tmp_path / "two words"
    done = merge(steady(tmp_path / "one", [0.5], 10.0, seed=7), "--into", new)
    assert done.stdout.splitlines()[-1] == f"go on with: python -m hpcnas --run '{new}' --budget N, N more than 1"


def test_the_evaluated_of_all_runs_become_founders_in_their_order(tmp_path: Path) -> None:
    one, other = eventful(tmp_path / "one"), steady(tmp_path / "other", [0.5, 0.9375], 10.0, seed=7)
    done = started(one, other, "--into", tmp_path / "both")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{one}: 4 individuals\n{other}: 2 individuals\n"
        f"{tmp_path / 'both'}: 6 individuals, the best is 5 of fitness 0.9375\n"
        f"go on with: python -m hpcnas --run {tmp_path / 'both'} --budget N, N more than 6\n"
    )
    run = run_file.read(tmp_path / "both")
    population = run.population
    assert population.evaluated.tolist() == [0, 1, 2, 3, 4, 5]
    assert population.column("fitness").tolist() == [0.5625, 0.625, 0.75, 0.8125, 0.5, 0.9375]  # 0, 2, 1, 4 of `one`
    assert [population.individual(id).genotype for id in (0, 1, 3, 5)] == [CHAIN, UNUSED, POOLING, CHAIN]
    assert set(population.column("birth")) == {Birth.FOUNDER} and set(population.column("parent")) == {-1}
    assert population.column("accuracies")[3].tolist() == [0.75, 0.875]
    assert population.column("finished").tolist()[:4] == [1100.0, 1150.0, 1200.0, 2100.0]
    assert (population.in_flight, len(population.failures), population.best) == (0, 0, 5)
    assert (run.config.search.seed, run.config.search.budget) == (8, 6)
    (session,) = run.sessions
    assert session.software["merged"].split() == [run_file.read(folder).run for folder in (one, other)]
    assert session.facts == run_file.read(one).sessions[0].facts


def test_what_only_the_journal_has_is_taken_too(tmp_path: Path) -> None:
    one, other = created(tmp_path / "one"), steady(tmp_path / "other", [0.5], 10.0)
    one.begin(SESSION)
    one.birth(Individual(0, CHAIN, Birth.INITIAL, None, 0, 0, 0.0))
    one.settle(Result(0, 1, Place(1, "host", "cpu"), 0.0, 10.0, evaluation((0.75, 0.75), 1000)))
    one.commit()
    one.close()  # population.h5 is not renewed, as after a kill
    assert len(run_file.read(tmp_path / "one").population) == 0
    done = merge(tmp_path / "one", other, "--into", tmp_path / "both", "--json")
    assert (done.returncode, json.loads(done.stdout)["taken"]) == (0, [1, 1])


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    one, other = steady(tmp_path / "one", [0.5], 10.0), steady(tmp_path / "other", [0.5], 10.0)
    (one / "journal").write_bytes(b"nothing\n")
    done = started(one, other, "--into", tmp_path / "both")
    assert (done.returncode, (tmp_path / "both").exists()) == (2, False)
    assert done.stderr.startswith(f"merge: {one}: expected a whole run: ")


def test_nobody_is_taken_twice(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for number, folder in enumerate((one, other)):
        search = [sys.executable, "-m", "hpcnas", "--run", str(folder), "--evaluator", "synthetic"]
        limits = ["--space", "2x3/1x3", "--seed", str(number), "--budget", "1", "--initial-population", "1"]
        assert subprocess.run([*search, *limits], cwd=TOOL.parents[1], capture_output=True).returncode == 0
    repair = [sys.executable, str(TOOL.with_name("verify.py")), str(one), "--json", "--repair", str(tmp_path / "new")]
    done = subprocess.run(repair, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["individuals"] == 1
    assert done.stderr == f"{tmp_path}/new: 1 individuals written, 0 left out\n"
    name = run_file.read(one).run
    assert merge(tmp_path / "new", other, "--into", tmp_path / "both").returncode == 0
    for part in (one, tmp_path / "new", other):
        for given in ([tmp_path / "both", part], [part, tmp_path / "both"]):
            done = merge(*given, "--into", tmp_path / "all")
            assert (done.returncode, (tmp_path / "all").exists()) == (2, False)
    for given in ([one, tmp_path / "new"], [tmp_path / "new", one]):
        assert merge(*given, "--into", tmp_path / "all").stderr == (
            f"merge: expected runs that share nothing, but {given[0]} and {given[1]} have individuals of the run "
            f"{name}: one was merged or repaired from it\n"
        )


def test_a_run_without_a_session_is_refused(tmp_path: Path) -> None:
    """Nobody knows on what data it was searched; every tool says so, and nothing of it can be repaired."""
    one, other = steady(tmp_path / "one", [0.5], 10.0), steady(tmp_path / "other", [0.5], 10.0, seed=7)
    run_file.write(other / "population.h5", replace(run_file.read(other), sessions=[], workers=[]))
    done = merge(one, other, "--into", tmp_path / "both")
    assert (done.returncode, (tmp_path / "both").exists()) == (2, False)
    assert "individual 0: expected a session of the controller before the first birth, got none" in done.stderr
    assert len(run_file.examine(other)[0].population) == 0


def test_a_run_that_averages_is_refused(tmp_path: Path) -> None:
    one, other = steady(tmp_path / "one", [0.5], 10.0), steady(tmp_path / "other", [0.5], 10.0, duplicates="average")
    done = merge(one, other, "--into", tmp_path / "both")
    assert (done.returncode, done.stdout, (tmp_path / "both").exists()) == (2, "", False)
    assert done.stderr.startswith(
        f"merge: {other}: expected a run without --duplicates average: a fitness there is also "
    )


def test_a_search_goes_on_from_founders_and_is_sound(tmp_path: Path) -> None:
    options = ["--evaluator", "synthetic", "--initial-population", "6", "--initial-mutations", "20", "--budget", "12"]
    for seed in ("1", "2"):
        run = [sys.executable, "-m", "hpcnas", *options, "--seed", seed, "--run", tmp_path / seed]
        subprocess.run(run, check=True, capture_output=True)
    done = merge(tmp_path / "1", tmp_path / "2", "--into", tmp_path / "both", "--seed", "5", "--json")
    assert json.loads(done.stdout)["taken"] == [12, 12]
    command = [sys.executable, "-m", "hpcnas", "--run", tmp_path / "both", "--budget", "40"]
    subprocess.run(command, check=True, capture_output=True)
    population = run_file.read(tmp_path / "both").population
    assert set(population.column("birth")[24:]) == {Birth.MUTATION}
    assert np.any(population.column("parent")[24:] < 12) and np.any(population.column("parent")[24:] >= 12)
    verified, lineage = (
        subprocess.run([sys.executable, TOOL.parent / tool, tmp_path / "both"], capture_output=True, text=True)
        for tool in ("verify.py", "lineage.py")
    )
    assert (verified.returncode, verified.stdout.split(": ")[1][:5]) == (0, "sound")
    assert "taken from another run" in lineage.stdout


def _other(folder: Path, changed: Callable[[StoredRun], None]) -> Path:
    """Another run of the same events, with something changed."""
    run = run_file.read(eventful(folder))
    run.run = "another"
    changed(run)
    run_file.write(folder / "population.h5", run)
    Journal.create(folder / "journal", run.run, base=run.records).close()
    return folder


def test_runs_of_another_search_can_be_joined(tmp_path: Path) -> None:
    one = eventful(tmp_path / "one")
    other = steady(tmp_path / "other", [0.5], 1.0, tournament_fraction=0.5, max_parameters=5000, strategy="random")
    assert merge(one, other, "--into", tmp_path / "both").returncode == 0


def test_runs_whose_fitness_means_something_else_are_refused(tmp_path: Path) -> None:
    def longer(run: StoredRun) -> None:
        run.config = replace(run.config, training=replace(run.config.training, steps=7))

    def elsewhere(run: StoredRun) -> None:
        run.sessions[0] = replace(run.sessions[0], facts=replace(run.sessions[0].facts, fingerprint="other"))

    one = eventful(tmp_path / "one")
    done = merge(one, _other(tmp_path / "longer", longer), "--into", tmp_path / "both")
    assert done.returncode == 2 and "training.steps: 5000 → 7" in done.stderr
    done = merge(one, _other(tmp_path / "elsewhere", elsewhere), "--into", tmp_path / "both")
    assert done.returncode == 2 and "expected the data of" in done.stderr and "fingerprint='other'" in done.stderr
    assert not (tmp_path / "both").exists()


def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    one, nothing = eventful(tmp_path / "one"), empty(tmp_path / "nothing")
    for arguments, message in (
        ((one, one), "expected different runs, but one of them is given twice"),
        ((one, nothing), f"{nothing}: expected a run that has evaluated something, but there is nothing to take"),
        ((one, tmp_path / "no"), f"expected a run in {tmp_path / 'no'}, but there is no population.h5"),
    ):
        done = merge(*arguments, "--into", tmp_path / "both")
        assert (done.returncode, done.stderr) == (2, f"merge: {message}\n")
        assert not (tmp_path / "both").exists()
    done = merge(one, "--into", one)
    assert done.returncode == 2 and "expected a folder without a run" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    done = merge(one, "--into", tmp_path / "mine")
    assert done.returncode == 2 and f"is empty, but {tmp_path / 'mine'} holds notes.txt" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_what_was_stopped_early_stays_behind_and_curves_come_along(tmp_path: Path) -> None:
    one, other = curved(tmp_path / "one"), curved(tmp_path / "other")
    done = merge(one, other, "--into", tmp_path / "both")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{one}: 2 individuals; 2 stopped early stay behind\n{other}: 2 individuals; 2 ")
    population = run_file.read(tmp_path / "both").population
    assert population.evaluated.tolist() == [0, 1, 2, 3] and population.stopped == 0
    assert population.curves(3) == ((0.375, 0.5), (0.5, 0.625)) and population.rungs == (0.25, 0.5)


def test_rungs_must_be_the_same(tmp_path: Path) -> None:
    one, other = curved(tmp_path / "one"), steady(tmp_path / "other", [0.5], 10.0)
    done = merge(one, other, "--into", tmp_path / "both")
    assert done.returncode == 2 and "training.rungs: " in done.stderr and "early_stopping" not in done.stderr
