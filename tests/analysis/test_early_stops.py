"""Runs with early stopping: sound as they are searched, whatever they are searched with; and what is wrong is named."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curved import searched, settings

from hpcnas.analysis import merging, verification
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import COLUMNS, Birth, State
from hpcnas.evolution.learning_curves import LEAST
from hpcnas.evolution.population import Population
from hpcnas.search import run_file, simulation
from hpcnas.search.run_file import StoredRun
from hpcnas.search.simulation import Site


@functools.cache
def whole(**search: object) -> StoredRun:
    """A search with early stopping, to its end."""
    training = {"replicates": search.pop("replicates")} if "replicates" in search else {}
    config = settings(search=search, training=training)
    store = searched(config)
    return StoredRun("of a test", 0, config, store.population, store.sessions)


def altered(run: StoredRun, change: Callable[[dict[str, np.ndarray]], object]) -> StoredRun:
    """The run with other values in its columns."""
    population = run.population
    columns = {column.name: population.column(column.name).copy() for column in COLUMNS}
    change(columns)
    order = np.array(population.evaluated)
    attempts, rungs = population.failed_attempts, population.rungs
    made = Population.from_columns(population.space, population.replicates, columns, order, attempts, rungs)
    return replace(run, population=made)


def found(run: StoredRun) -> list[str]:
    return [str(fault) for fault in verification.faults(run)]


SEARCHES: list[Mapping[str, Any]] = [
    {},
    {"scheduling": "replicate"},
    {"racing": True, "replicates": 4},
    {"racing": True, "scheduling": "replicate", "replicates": 3},
    {"strategy": "aging", "aging_population": 30},
    {"strategy": "random"},
    {"strategy": "guided", "duplicates": "resample"},
    {"duplicates": "resample"},
    {"confirm": 3},
    {"confirm": 3, "racing": True, "strategy": "guided"},
    {"trainings": 40},
    {"replicates": 1},
]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_search_is_sound_and_the_same_again(search: Mapping[str, Any]) -> None:
    run = whole(**search)
    population = run.population
    assert found(run) == [] and verification.overspent(run) is None
    assert population.stopped > 10, "else nothing is tested"
    confirmations = int((population.column("birth") == Birth.CONFIRMATION).sum())
    assert population.searched + population.stopped + confirmations == len(population)
    state = population.column("state")
    assert set(state.tolist()) == {State.EVALUATED, State.STOPPED}
    if "trainings" in search:
        spent = population.trainings - population.confirmations
        assert 40 <= spent < 40 + 4 * population.replicates  # what was under way on four workers
    else:
        assert len(population) - confirmations == run.config.search.budget
    again = searched(run.config).population
    for column in COLUMNS:
        np.testing.assert_array_equal(again.column(column.name), population.column(column.name), column.name)


def test_confirmations_are_never_stopped() -> None:
    population = whole(confirm=3).population
    confirms = population.column("birth") == Birth.CONFIRMATION
    assert confirms.sum() >= 6
    assert set(population.column("state")[confirms].tolist()) == {State.EVALUATED}
    assert set(population.column("judged")[confirms].tolist()) == {0}


def test_a_stopped_one_is_no_parent_and_no_best() -> None:
    population = whole().population
    stopped = np.flatnonzero(population.column("state") == State.STOPPED)
    assert not np.isin(population.column("parent"), stopped).any()
    assert not np.isin(population.bests, stopped).any()


def test_racing_alone_or_early_stopping_alone_takes_more_trainings() -> None:
    both = whole(racing=True, replicates=4)
    assert both.population.trainings < whole(replicates=4).population.trainings
    judged = both.population.column("judged")[both.population.column("state") == State.STOPPED]
    assert set(judged.tolist()) == {1}  # racing's first stage


def first(run: StoredRun, state: State, judged: bool = True) -> int:
    """An individual of that state, born when the floors were known, that was held against them."""
    population = run.population
    of = (population.column("state") == state) & ((population.column("judged") > 0) | (not judged))
    return int(np.flatnonzero(of & (population.column("view") > LEAST))[0])


def test_an_individual_that_was_stopped_above_its_floor_is_named() -> None:
    run = whole()
    id = first(run, State.STOPPED)

    def change(columns: dict[str, np.ndarray]) -> None:
        row = columns["curves"][id]
        row[~np.isnan(row)] = 0.99

    (line,) = found(altered(run, change))
    assert line.startswith(f"individual {id}: expected to be stopped where its accuracy is below the floor of a rung")
    assert "accuracies 0.99" in line and "stopped at rung" in line


def test_an_individual_that_went_on_below_its_floor_is_named() -> None:
    run = whole()
    id = first(run, State.EVALUATED)
    faults = found(altered(run, lambda columns: columns["curves"][id].__setitem__(slice(0, None, 2), 0.0)))
    assert faults[0].startswith(f"individual {id}: expected to be stopped where its accuracy is below")
    assert faults[0].endswith("not stopped")


def test_an_individual_that_went_on_at_its_first_rung_and_was_stopped_at_the_second() -> None:
    run = whole()
    population = run.population
    reached = (~np.isnan(population.column("curves"))).sum(axis=1)
    id = int(np.flatnonzero((population.column("state") == State.STOPPED) & (reached == 4))[0])
    faults = found(altered(run, lambda columns: columns["curves"][id].__setitem__(slice(0, None, 2), 0.0)))
    assert [fault.split(":")[0] for fault in faults] == [f"individual {id}"]


def test_stopped_in_a_search_that_stops_none_is_named() -> None:
    run = whole()
    config = replace(run.config, search=replace(run.config.search, early_stopping=False))
    expected = np.flatnonzero(run.population.column("state") == State.STOPPED).tolist()
    faults = found(replace(run, config=config))
    assert [line for line in faults if "expected no training to be stopped early" in line] == [
        f"individual {id}: expected no training to be stopped early, which the search does not do, got one"
        for id in expected
    ]


def test_other_confidence_or_rungs_are_named() -> None:
    run = whole()
    config = replace(run.config, search=replace(run.config.search, early_stopping_confidence=0.99))
    assert found(replace(run, config=config)) != []


def test_a_curve_out_of_bounds_and_wrong_parameters_are_named() -> None:
    run = whole()
    id, other = first(run, State.STOPPED), first(run, State.EVALUATED, judged=False)
    faults = found(altered(run, lambda columns: columns["curves"][id].__setitem__(0, -0.5)))
    named = f"individual {id}: expected learning curves of accuracies from 0 to 1"
    assert any(line.startswith(named) for line in faults)
    faults = found(altered(run, lambda columns: columns["curves"][other].__setitem__(0, 1.5)))
    assert f"individual {other}: expected learning curves" in faults[0]
    faults = found(altered(run, lambda columns: columns["parameters"].__setitem__(id, 3)))
    assert len(faults) == 1 and faults[0].startswith(f"individual {id}: expected ") and faults[0].endswith("got 3")


def test_more_stopped_than_the_budget_allows_is_told() -> None:
    run = whole()
    config = replace(run.config, search=replace(run.config.search, budget=100))
    told = verification.overspent(replace(run, config=config))
    assert told == "expected 100 evaluations at most (the budget), got 120 and 0 under way"


@pytest.mark.parametrize("cut", [1, 40, 80, 119])
def test_the_sound_part_is_sound(cut: int) -> None:
    run = altered(whole(), lambda columns: columns["parameters"].__setitem__(cut, 3))
    part = verification.sound_part(run)
    assert len(part.population) <= cut
    assert found(part) == []
    stopped, order = part.population.column("stopped_after"), part.population.evaluated
    assert stopped.max(initial=-1) <= len(order)
    before = whole().population
    for view in range(0, len(order) + 1, 7):
        known = before.stopped_before(view)
        assert part.population.stopped_before(view).tolist() == known[known < len(part.population)].tolist()


def test_the_sound_part_of_racing_and_early_stopping(tmp_path: Path) -> None:
    run = whole(racing=True, replicates=4)
    broken = altered(run, lambda columns: columns["parameters"].__setitem__(70, 3))
    part = verification.sound_part(broken)
    assert found(part) == [] and len(part.population) == 70


# Files


SITE = Site(workers=4, startup=1.0, queue=0.0, handling=0.001)


def searched_in(folder: Path, config: SearchConfig) -> Path:
    simulation.searched(config, SITE, folder)
    return folder


def test_a_search_in_a_folder_is_sound_and_repaired(tmp_path: Path) -> None:
    folder = searched_in(tmp_path / "run", settings())
    verified = verification.verify(folder)
    assert (verified.sound, verified.problems) == (True, [])
    assert verification.repair(verified, tmp_path / "new") == 120
    again = verification.verify(tmp_path / "new")
    assert again.sound and again.run.population.stopped == verified.run.population.stopped > 10


def merged(tmp_path: Path, *configs: SearchConfig) -> StoredRun:
    folders = [searched_in(tmp_path / str(number), config) for number, config in enumerate(configs)]
    merging.merge(folders, tmp_path / "merged")
    verified = verification.verify(tmp_path / "merged")
    assert verified.problems == []
    return verified.run


def test_founders_are_evaluated_ones_alone(tmp_path: Path) -> None:
    short = settings(search={"budget": 60})
    run = merged(tmp_path, short, settings(search={"budget": 60, "seed": 4}))
    population = run.population
    assert population.stopped == 0 and set(population.column("birth").tolist()) == {Birth.FOUNDER}
    assert set(population.column("state").tolist()) == {State.EVALUATED}
    assert population.column("stopped_after").max() == -1
    assert len(population.curves(0)) == 2
    assert run.config.search.early_stopping


def test_runs_with_and_without_early_stopping_are_merged(tmp_path: Path) -> None:
    run = merged(tmp_path, settings(search={"budget": 40, "early_stopping": False}), settings(search={"seed": 4}))
    assert not run.config.search.early_stopping


def test_runs_with_other_rungs_are_not_merged(tmp_path: Path) -> None:
    others = settings(training={"rungs": [0.2]}, search={"seed": 4})
    with pytest.raises(AnalysisError, match=r"training\.rungs"):
        merged(tmp_path, settings(search={"budget": 40}), others)
    assert not (tmp_path / "merged").exists()


# Values of the file


def damaged(folder: Path, change: Callable[[Any], object]) -> list[str]:
    """What is wrong with population.h5 after the change: each in a line."""
    import h5py

    with h5py.File(folder / "population.h5", "r+") as file:
        change(file["individuals"])
    stored, faults = run_file.examine(folder)
    assert all("\n" not in line for line in faults)
    verified = verification.verify(folder)
    assert not verified.sound
    target = folder.parent / "repaired"
    kept = verification.repair(verified, target)
    assert kept == len(stored.population) and verification.verify(target).sound
    return faults


def put(name: str, row: int, value: object, place: int | None = None) -> Callable[[Any], None]:
    def change(individuals: Any) -> None:
        found = individuals[name][()]
        if place is None:
            found[row] = value
        else:
            found[row, place] = value
        attributes = dict(individuals[name].attrs)
        del individuals[name]
        individuals.create_dataset(name, data=found).attrs.update(attributes)

    return change


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched_in(tmp_path_factory.mktemp("kept") / "run", settings())


def a_copy(kept: Path, tmp_path: Path) -> tuple[Path, int, int]:
    """A run, a stopped individual at its first rung and an evaluated one."""
    import shutil

    shutil.copytree(kept, tmp_path / "run")
    population = run_file.read(kept).population
    reached = (~np.isnan(population.column("curves"))).sum(axis=1)
    state = population.column("state")
    one = int(np.flatnonzero((state == State.STOPPED) & (reached == 2))[3])
    other = int(np.flatnonzero((state == State.EVALUATED) & (population.column("judged") == 2))[3])
    return tmp_path / "run", one, other


@pytest.mark.parametrize(
    ("name", "which", "value", "place", "expected"),
    [
        ("curves", "stopped", np.nan, None, "expected curves of one length, of as many replicates as were judged"),
        ("curves", "stopped", np.nan, 0, "expected curves of one length"),
        ("curves", "stopped", 0.5, 1, "expected curves of one length"),
        ("curves", "evaluated", np.nan, 0, "expected an accuracy at every rung up to the last of each replicate"),
        ("curves", "evaluated", np.nan, 1, "expected curves as long as there are rungs"),
        ("curves", "evaluated", np.inf, 1, "expected curves a number from -1000000 to 1000000"),
        ("judged", "stopped", 0, None, "expected curves of one length"),
        ("judged", "stopped", 1, None, "expected curves of one length"),
        ("judged", "stopped", 200, None, "expected curves of one length"),
        ("judged", "evaluated", 3, None, "expected as judged at most the curves that follow one another"),
        ("stopped_after", "stopped", -1, None, "evaluations before an individual was STOPPED, its view or more"),
        ("stopped_after", "stopped", 0, None, "evaluations before an individual was STOPPED, its view or more"),
        ("stopped_after", "stopped", 10**6, None, "evaluations before an individual was STOPPED"),
        ("stopped_after", "stopped", -5, None, "expected stopped_after an integer"),
        ("stopped_after", "evaluated", 5, None, "and none for any other"),
        ("state", "stopped", State.ISSUED, None, "and none for any other"),
        ("parameters", "stopped", -1, None, "expected parameters of an individual that is EVALUATED or STOPPED"),
        ("accuracies", "stopped", 0.5, 0, "expected no accuracies of an individual that is STOPPED"),
        ("fitness", "stopped", 0.5, None, "expected a fitness of an individual that is EVALUATED, and of no other"),
    ],
)  # fmt: skip
def test_a_damaged_value_is_named_and_the_rest_is_kept(
    name: str, which: str, value: object, place: int | None, expected: str, kept: Path, tmp_path: Path
) -> None:
    folder, stopped, evaluated = a_copy(kept, tmp_path)
    row = stopped if which == "stopped" else evaluated
    faults = damaged(folder, put(name, row, value, place))
    assert any(line.startswith(f"individual {row}: ") and expected in line for line in faults), faults
    assert 0 < len(run_file.read(tmp_path / "repaired").population) <= row


@pytest.mark.parametrize("name", ["curves", "judged", "stopped_after"])
def test_a_column_that_is_not_there_is_named(name: str, kept: Path, tmp_path: Path) -> None:
    folder, _, _ = a_copy(kept, tmp_path)
    faults = damaged(folder, lambda individuals: individuals.__delitem__(name))
    assert f"individuals: expected a column {name}, for there are rungs, got none" in faults


def test_columns_of_another_width_are_one_line(kept: Path, tmp_path: Path) -> None:
    folder, _, _ = a_copy(kept, tmp_path)
    import h5py

    with h5py.File(folder / "population.h5", "r+") as file:
        found = file["individuals/curves"][()]
        del file["individuals/curves"]
        file["individuals/curves"] = found[:, :3]
    with pytest.raises(run_file.StoreError, match=r"curves as f8 of shape \(120, 4\)"):
        run_file.read(folder)


def test_a_run_without_rungs_has_none_of_the_columns(tmp_path: Path) -> None:
    import h5py

    config = settings(search={"budget": 5, "initial_population": 2, "early_stopping": False}, training={"rungs": []})
    folder = searched_in(tmp_path / "run", config)
    with h5py.File(folder / "population.h5") as file:
        assert not {"curves", "judged", "stopped_after"} & set(file["individuals"])
    assert verification.verify(folder).sound
