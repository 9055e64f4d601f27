"""Runs whose networks version 1 of the hash has looked at: verified as they were decided, told of, and continued by
today's hash."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from test_expansion import build

from hpcnas.architecture.network_hash import network_hash
from hpcnas.architecture.space import Space
from hpcnas.config import search as search_config
from hpcnas.evolution.duplicates import average, resample
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.initial import written
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import make_strategy
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Place, Result
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.synthetic import FACTS

SIDE_BY_SIDE = build("1x5", ["1-2 1x1, 1-3 1x1, 2-5 1x1, 3-5 1x1"])
RENAMED = build("1x5", ["1-3 1x1, 1-4 1x1, 3-5 1x1, 4-5 1x1"])
MET = build("1x5", ["1-2 1x1, 1-3 1x1, 2-4 id, 3-4 id, 4-5 1x1"])
NEARLY_MET = build("1x5", ["1-2 1x1, 1-3 1x1, 2-4 id, 3-4 id, 4-5 max"])
PLACE = Place(1, "node-1", "cpu")


def test_what_version_1_joined_is_told_apart_when_it_is_looked_at_again() -> None:
    assert network_hash(SIDE_BY_SIDE, 1) == network_hash(MET, 1)
    known = Population(Space.parse("1x5"), replicates=2)
    first = network_hash(SIDE_BY_SIDE, 1)
    known.add(Individual(0, SIDE_BY_SIDE, Birth.INITIAL, None, 0, 0, 0.0, network=first, network_version=1))
    found = resample(iter([RENAMED, MET]).__next__, lambda _: True, known, 1)
    assert (found.genotype, found.known, found.network) == (MET, 1, network_hash(MET, 2))
    known.add(Individual(1, MET, Birth.INITIAL, None, 0, 0, 0.0, network=first, repeats=0, network_version=1))
    assert known.older_hashes == 2
    assert average(lambda: RENAMED, lambda _: True, known, 2).repeats == 0
    assert average(lambda: MET, lambda _: True, known, 2).repeats is None  # 1 is pooled with another network
    known.add(Individual(2, MET, Birth.INITIAL, None, 0, 0, 0.0, network=network_hash(MET)))
    assert average(lambda: MET, lambda _: True, known, 3).repeats == 2


def old_run(folder: Path, duplicates: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 60 of 70 births by version 1, which keeps no version, as there was none. Individual 0 is SIDE_BY_SIDE;
    individual 1, the fittest, is one mutation away from MET."""
    settings = search_config.build(
        {"search": {"space": "1x5", "budget": 70, "seed": seed, "initial_population": 2, "initial_mutations": 10}},
        {"search": {"initial": written([SIDE_BY_SIDE, NEARLY_MET]), "duplicates": duplicates}},
        {"search": {"tournament_fraction": 0.5}, "training": {"replicates": 1}},
        {"evaluation": {"evaluator": "synthetic"}},
    )
    store = FileStore.create(folder, settings, synced=False)
    store.begin(Session(1000.0, "node-1", 1, 2, {}, FACTS))
    strategy = make_strategy(settings, FACTS)
    with monkeypatch.context() as patch:
        patch.setattr(Population, "hash_version", lambda population, id: 1)
        for id in range(60):
            asked = strategy.ask(store.population, id, id)
            store.birth(replace(asked.born(id, id, 1000.0), network_version=1))
            parameters = strategy.breeding.size(asked.genotype).parameters  # type: ignore[attr-defined]
            outcome = Evaluation((0.9 if id == 1 else 0.5,), parameters, 1.0, 2.0, 3.0)
            store.settle(Result(id, 1, PLACE, 1000.0, 1010.0, outcome))
    store.compact()
    store.close()
    with h5py.File(folder / "population.h5", "r+") as file:
        del file["individuals/network_version"]
    return folder


def verified(folder: Path) -> tuple[list[str], list[str]]:
    """Problems and notes of tools/verify.py."""
    tool = Path(__file__).parents[2] / "tools" / "verify.py"
    done = subprocess.run([sys.executable, tool, folder, "--json"], capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["problems"] else 0), done.stderr
    return found["problems"], found["notes"]


OLD = (
    "individuals whose hash is of version 1, which could join networks that differ: 60; with the hash of an earlier "
    "one that has another network: {}; a search that goes on decides by version 2"
)


@pytest.mark.parametrize(
    ("duplicates", "seed", "notes"),
    [
        ("resample", 1, [
            OLD.format(0),
            "born after a network was refused that nobody had, for it had the hash of another: 2 (48, 51)",
        ]),
        ("average", 10, [
            OLD.format("2 (3 that of 0, 15 that of 0)"),
            "averaged with an individual that has another network, so that their fitness is that of neither: "
            "2 (3 with 0, 15 with 0)",
        ]),
        ("average", 1, [OLD.format(0)]),
    ],
)  # fmt: skip
def test_a_run_of_version_1_is_sound_and_told_of_and_goes_on_by_version_2(
    duplicates: str, seed: int, notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old_run(tmp_path / "run", duplicates, seed, monkeypatch)
    assert verified(folder) == ([], notes)
    searched = subprocess.run(
        [sys.executable, "-m", "hpcnas", "--run", str(folder)], capture_output=True, text=True, check=True
    )
    assert "60 individuals carry an older version of the network's hash" in searched.stderr + searched.stdout
    found = run_file.read(folder).population
    assert found.column("network_version").tolist() == [1] * 60 + [2] * (len(found) - 60)
    assert len(found) > 60 and verified(folder) == ([], notes)


def test_the_version_comes_back_from_the_journal(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path, search_config.build({"search": {"space": "1x5"}}), synced=False)
    store.begin(Session(1000.0, "node-1", 1, 2, {}, FACTS))
    births = [
        Individual(id, MET, Birth.INITIAL, None, 0, 0, 0.0, network=network_hash(MET, version), network_version=version)
        for id, version in enumerate((1, 2))
    ]
    for birth in births:
        store.birth(birth)
    store.commit()
    store.close()
    opened = FileStore.open(tmp_path)
    assert [opened.population.individual(id) for id in range(2)] == births
    opened.close()
