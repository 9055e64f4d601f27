"""What a retraining knows of the search that its genotype comes from; its best stays what it was at the beginning."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from examples import SESSION, WORKER
from toolruns import CHAIN, POOLING, eventful, origin_of, retrained

from hpcnas.architecture.genotype import Genotype
from hpcnas.config import search as search_config
from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.job.status import MORE_TO_DO
from hpcnas.retrain import record_file
from hpcnas.retrain.origin import individual_origin, resolve_genotype
from hpcnas.retrain.record import Origin
from hpcnas.retrain.session import RetrainingRefused, open_retraining
from hpcnas.search import references
from hpcnas.search.file_store import FileStore

PAPER: dict[str, dict[str, object]] = {"data": {"source": "cifar10:data"}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Evaluated are 0, 2, 1, 4 in this order; 4 is the best, of fitness 0.8125."""
    return eventful(tmp_path / "run")


def test_the_best_of_a_search(run: Path) -> None:
    genotype, origin = resolve_genotype(f"{run}:best")
    assert genotype == POOLING
    assert origin == Origin(
        f"{run}:4",
        "2x3/1x3",
        origin.run,
        4,
        "tournament",
        0.8125,
        evaluation=3,
        evaluated=4,
        fittest=True,
        departures="replicates 2, precision bf16, data digits",
        birth=Birth.MUTATION,
    )
    assert origin == origin_of(run, 4)


def test_another_individual(run: Path) -> None:
    origin = resolve_genotype(f"{run}:0")[1]
    assert (origin.evaluation, origin.evaluated, origin.fittest) == (0, 4, False)


@pytest.mark.parametrize(
    "origin",
    [
        Origin("paper", "hierarchical"),
        Origin("run:4", "flat", "5" * 32, 4, "random", 0.5, 0, 9, False, 700_000),
        Origin("run:4", "flat", "5" * 32, 4, "random", 0.5, 0, 9, True, None),
        Origin("run:4", "flat", "5" * 32, 4, "random", 0.5, 0, 9, True, None, ""),
        Origin("run:4", "flat", "5" * 32, 4, "random", 0.5, 0, 9, True, None, "racing True, data digits"),
        Origin("run:3", "flat", "5" * 32, 3, "random", None, None, 0, False, None),
        Origin("run:0", "flat", "5" * 32, 0, "random", 0.5, 0, 9, True, None, "initial given", Birth.GIVEN),
    ],
)
def test_an_origin_is_read_as_it_was_written(origin: Origin, tmp_path: Path) -> None:
    assert record_file.read(retrained(tmp_path / "large", [0.5], origin)).origin == origin


@pytest.mark.parametrize(
    ("settings", "departures"),
    [
        (PAPER, ""),
        (PAPER | {"search": {"space": "flat", "strategy": "random", "budget": 9, "max_parameters": 9_000_000}}, ""),
        (PAPER | {"search": {"racing": True, "duplicates": "resample"}}, "duplicates resample, racing True"),
        (PAPER | {"search": {"max_flops": 7, "seed": 3}, "run": {"device": "cpu"}}, "max_flops 7"),
        (PAPER | {"search": {"initial": "codes:00,codes:01"}}, "initial given"),
        (PAPER | {"search": {"initial_mutations": 3, "confirm": 10}}, "initial_mutations 3, confirm 10"),
        (PAPER | {"search": {"survivors": 9, "aging_sample": 9, "racing_confidence": 0.9}}, ""),
        (PAPER | {"search": {"strategy": "random", "initial_population": 9, "tournament_fraction": 0.5}}, ""),
        (PAPER | {"search": {"strategy": "aging", "initial_population": 9}}, "initial_population 9"),
        (PAPER | {"training": {"precision": "fp32"}, "evaluation": {"synthetic_noise": 0.5}}, ""),
        (PAPER | {"training": {"precision": "bf16"}}, "precision bf16"),
        ({"data": {"source": "synthetic:50"}}, "data synthetic:50:3x32x32"),
        ({"data": {"source": "imagefolder:x"}}, "data imagefolder of 10 classes (5f2e)"),
    ],
)
def test_where_a_search_went_another_way_than_the_papers(
    settings: dict[str, dict[str, object]], departures: str, tmp_path: Path
) -> None:
    assert born(tmp_path / "run", settings).departures == departures


def born(
    folder: Path, settings: dict[str, dict[str, object]], birth: Birth = Birth.INITIAL, numbers: str = "float32"
) -> Origin:
    """The origin of individual 0 of a search by those settings, with a worker that computes in those numbers."""
    with contextlib.closing(FileStore.create(folder, search_config.build(settings))) as store:
        store.begin(SESSION)
        store.join(replace(WORKER, numbers=numbers))
        code = bytes([6]) * store.config.space.edges
        store.birth(Individual(0, Genotype(store.config.space, code), birth, None, 0, 0, 1000.0))
        store.compact()
    return individual_origin(references.individual(f"{folder}:0"))


@pytest.mark.parametrize(("numbers", "departures"), [("bfloat16", "precision bf16"), ("float32", "")])
def test_the_numbers_of_a_search_are_those_that_its_workers_chose(
    numbers: str, departures: str, tmp_path: Path
) -> None:
    assert born(tmp_path / "run", PAPER, numbers=numbers).departures == departures


def test_how_the_individual_was_born(tmp_path: Path) -> None:
    given = PAPER | {"search": {"initial": "codes:00"}}
    assert born(tmp_path / "given", given, Birth.GIVEN).birth is Birth.GIVEN
    assert born(tmp_path / "drawn", PAPER).birth is Birth.INITIAL


def test_of_an_older_retraining_the_searchs_departures_are_not_known(tmp_path: Path) -> None:
    origin = Origin("run:4", "flat", "5" * 32, 4, "random", 0.5, 0, 9, True, None, "racing True")
    folder = retrained(tmp_path / "large", [0.5], origin)
    with h5py.File(folder / "retrain.h5", "r+") as file:
        del file["origin/departures"]
    assert record_file.read(folder).origin == replace(origin, departures=None)


def continued(folder: Path, genotype: str) -> None:
    """Opens the retraining with that --genotype, and closes it."""
    open_retraining(parse(["--run", str(folder), "--genotype", genotype], RETRAINING)).close(MORE_TO_DO)


def test_a_search_may_have_another_best_when_its_retraining_goes_on(run: Path, tmp_path: Path) -> None:
    begun = replace(origin_of(run, 0), evaluated=1, fittest=True)
    folder = retrained(tmp_path / "large", [], begun, found=CHAIN)
    for genotype in (f"{run}:best", str(run), f"{run}:0"):
        continued(folder, genotype)
    assert record_file.read(folder).genotype == CHAIN
    with pytest.raises(RetrainingRefused, match="is that of another genotype"):
        continued(folder, f"{run}:4")
    other = eventful(tmp_path / "other")
    with pytest.raises(RetrainingRefused, match="is that of another genotype"):
        continued(folder, f"{other}:best")
