"""Stopped individuals and learning curves in the journal and in population.h5: there and back, and what is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from curved import CONFIG, Play, copied, population, stopped, trained
from examples import CONFIG as WITHOUT_RUNGS
from examples import SESSION, assert_same, evaluated, individual

from hpcnas.evolution.population import Population
from hpcnas.search import records, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.recovery import apply
from hpcnas.storage.folder import StoreError


def told(found: Population) -> tuple[object, ...]:
    return found.stopped, found.trainings, found.stopped_before(len(found.evaluated) + 1).tolist()


def test_records_of_results() -> None:
    costs = {"parameters": 1000, "setup_seconds": 0.25, "training_seconds": 1.0, "validation_seconds": 0.5}
    assert records.result(stopped(0))["stopped"] == {"curves": ((0.1,), (0.2,)), **costs}
    assert list(records.result(trained(0, judged=2))["evaluation"]) == ["accuracies", *costs, "curves", "judged"]
    assert list(records.result(evaluated(0))["evaluation"]) == ["accuracies", *costs]  # as before there were curves


@pytest.mark.parametrize("result", [stopped(0), stopped(0, (0.1, 0.2)), trained(0), trained(0, judged=2), evaluated(0)])
def test_a_result_is_read_as_it_was_written(result: Any) -> None:
    assert records.outcome(json.loads(json.dumps(records.result(result)))) == result


def change(**changes: object) -> Callable[[dict[str, Any]], None]:
    def made(part: dict[str, Any]) -> None:
        part |= changes

    return made


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def made(part: dict[str, Any]) -> None:
        del part[name]

    return made


@pytest.mark.parametrize("kind", ["settle", "advance"])
@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("stopped", change(curves=[])),
        ("stopped", change(curves=[[]])),
        ("stopped", change(curves=[[0.1], []])),
        ("stopped", change(curves=[[0.1], [0.1, 0.2]])),
        ("stopped", change(curves=[[0.1, 0.2, 0.3]])),
        ("stopped", change(curves=[[0.1]] * 3)),
        ("stopped", change(curves=[[float("nan")]])),
        ("stopped", change(curves=[[float("inf")]])),
        ("stopped", change(curves=[["0.1"]])),
        ("stopped", change(curves=[0.1])),
        ("stopped", change(curves="0.1")),
        ("stopped", change(curves=None)),
        ("stopped", change(curves={"0": [0.1]})),
        ("stopped", change(parameters=-2)),
        ("stopped", change(parameters=1.5)),
        ("stopped", change(training_seconds="1")),
        ("stopped", without("curves")),
        ("stopped", without("parameters")),
        ("evaluation", change(curves=[[0.1, 0.2]])),
        ("evaluation", change(curves=[[0.1], [0.2]])),
        ("evaluation", change(curves=[])),
        ("evaluation", change(curves=7)),
        ("evaluation", change(judged=3)),
        ("evaluation", change(judged=-1)),
        ("evaluation", change(judged=300)),
        ("evaluation", change(judged=True)),
        ("evaluation", change(judged=None)),
        ("evaluation", without("judged")),
    ],
)
def test_a_damaged_record_is_refused_without_a_trace(
    kind: str, part: str, damage: Callable[[dict[str, Any]], None]
) -> None:
    store = MemoryStore(CONFIG)
    store.birth(individual(0))
    record = json.loads(json.dumps(records.result(stopped(0) if part == "stopped" else trained(0, judged=2))))
    damage(record[part])
    with pytest.raises(records.ERRORS):
        apply({kind: record}, store)
    assert_same(store.population, population(births=1))
    assert told(store.population) == told(population(births=1))


def test_a_damaged_record_is_one_line_and_what_stands_before_it_is_kept(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    store.birth(individual(0))
    store.settle(trained(0))
    store.birth(individual(1))
    store.commit()
    store.settle(stopped(1))
    store.commit()
    store.close()
    path = tmp_path / "run/journal"
    lines = path.read_bytes().splitlines(keepends=True)
    body = lines[-1][9:-1].replace(b"[0.2]", b"[0.2,1]")
    assert body != lines[-1][9:-1]
    path.write_bytes(b"".join(lines[:-1]) + b"%08x %s\n" % (zlib.crc32(body), body))
    with pytest.raises(StoreError, match=r"record 5 does not fit the run: individual 1: expected accuracies at 1 to 2"):
        FileStore.open(tmp_path / "run")


def test_a_stopped_record_in_a_run_without_rungs_is_refused() -> None:
    store = MemoryStore(WITHOUT_RUNGS)
    store.birth(individual(0))
    with pytest.raises(ValueError, match="expected accuracies at 1 to 0 rungs"):
        apply({"settle": json.loads(json.dumps(records.result(stopped(0))))}, store)
    assert_same(store.population, _without_rungs())


def _without_rungs() -> Population:
    found = Population(WITHOUT_RUNGS.space, 2)
    found.add(individual(0))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_events_is_the_same_from_the_journal_at_every_cut_and_from_the_file(
    seed: int, tmp_path: Path
) -> None:
    folder, play = tmp_path / "run", Play(seed)
    store = FileStore.create(folder, CONFIG, synced=False)
    store.begin(SESSION)
    store.commit()
    first = (folder / "population.h5").read_bytes()
    expected = [copied(store.population)]
    for _ in range(70):
        method, event = play.step(store.population)
        getattr(store, {"add": "birth"}.get(method, method))(event)
        store.commit()
        expected.append(copied(store.population))
    lines = (folder / "journal").read_bytes().splitlines(keepends=True)
    assert len(lines) == 2 + 70
    store.compact()
    store.close()
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "population.h5").write_bytes(first)
    for count, known in enumerate(expected):
        (cut / "journal").write_bytes(b"".join(lines[: 2 + count]))
        found = FileStore.read(cut).population
        assert_same(found, known)
        assert told(found) == told(known)
    file = run_file.read(folder).population
    assert_same(file, expected[-1])
    assert told(file) == told(expected[-1]) and file.stopped > 2


def test_with_a_stop_the_checkpoints_of_all_replicates_go(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "run", CONFIG)
    store.begin(SESSION)
    store.birth(individual(0))
    store.birth(individual(1))
    store.commit()
    (tmp_path / "run/inflight").mkdir(exist_ok=True)
    for name in ("0.pt", "0-1.pt", "1.pt"):
        (tmp_path / "run/inflight" / name).write_bytes(b"")
    store.settle(stopped(0))
    assert (tmp_path / "run/inflight/0.pt").exists(), "before it is committed"
    store.commit()
    store.close()
    assert [path.name for path in (tmp_path / "run/inflight").iterdir()] == ["1.pt"]
