"""Values come back from a run's folder bit for bit, through the journal and through population.h5."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import CONFIG, FACTS, SPACE, individual

from hpcnas.architecture.genotype import Genotype
from hpcnas.evolution.individuals import COLUMNS, Birth, Individual
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result
from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore

AWKWARD_RESULTS = (
    Result(0, 1, Place(0, "", ""), 0.1 + 0.2, 1e-320, Evaluation((0.1, 1 / 3), 2**40, float("nan"), 0.0, -0.0)),
    Result(1, 3, Place(200, "nöde", "cuda:0"), 1.5, 2.0**37 + 0.5, Failure(FailureKind.NAN, "")),
    Result(2, 1, Place(3, "n", "cpu"), 1.0, 0.0, Failure(FailureKind.ERROR, 'ü ☃ 𝄞\r\n\t"\\ \x1b[2K\0 end')),
    Result(3, 1, Place(3, "n", "cpu"), 1.0, 2.0, Failure(FailureKind.CRASH, "x" * 5000 + "☃" * 500)),
    Result(4, 255, Place(3, "n", "cpu"), 1.0, 2.0, Failure(FailureKind.OVERRUN, "name \udcff\0")),
)
AWKWARD_SESSION = Session(0.1, "nöde", 2**40, 201, {"ü": '"\n', "": ""}, replace(FACTS, fingerprint="☃"))


@pytest.fixture(params=["journal", "population.h5"])
def awkward(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    """A run of awkward values, reopened from one file or the other."""
    new = FileStore.create(tmp_path, CONFIG)
    new.begin(AWKWARD_SESSION)
    for id in range(6):
        codes = bytes((id + place) % 7 for place in range(6)) + bytes([0, 1, 2])
        parent, born = (None, 1e9 + id / 3) if id < 3 else (id - 2, float(id))
        kind = Birth.RANDOM if id < 3 else Birth.MUTATION
        network = bytes([id] * 16) if id else None
        new.birth(Individual(id, Genotype(SPACE, codes), kind, parent, 0, id, born, known=2 * id, network=network))
    new.retry(replace(AWKWARD_RESULTS[3], attempt=1))
    for result in AWKWARD_RESULTS:
        new.settle(result)
    (new.commit if request.param == "journal" else new.compact)()
    new.close()
    found = FileStore.open(tmp_path)
    yield found
    found.close()


def test_individuals_come_back_bit_for_bit(awkward: FileStore) -> None:
    found = [awkward.population.individual(id) for id in range(6)]
    assert [one.parent for one in found] == [None, None, None, 1, 2, 3]
    assert [one.genotype.codes[:2] for one in found] == [b"\0\1", b"\1\2", b"\2\3", b"\3\4", b"\4\5", b"\5\6"]
    assert [one.born for one in found] == [1e9, 1e9 + 1 / 3, 1e9 + 2 / 3, 3.0, 4.0, 5.0]
    assert [(one.view, one.redrawn, one.known) for one in found] == [(0, id, 2 * id) for id in range(6)]
    assert [one.network for one in found] == [None, *(bytes([id] * 16) for id in range(1, 6))]


def test_a_birth_from_before_networks_were_kept_comes_back(tmp_path: Path) -> None:
    new = FileStore.create(tmp_path, CONFIG)
    new.birth(individual(0))
    new.commit()
    new.close()
    old = (tmp_path / "journal").read_bytes()[:-1].rpartition(b"\n")
    body = old[2][9:].replace(b',"known":0,"network":null', b"")
    assert body != old[2][9:]
    (tmp_path / "journal").write_bytes(old[0] + b"\n%08x %s\n" % (zlib.crc32(body), body))
    found = FileStore.open(tmp_path)
    assert found.population.individual(0) == individual(0)
    found.close()


def test_results_come_back_bit_for_bit(awkward: FileStore) -> None:
    found = [awkward.population.result(id) for id in range(5)]
    assert str(found[0]) == str(AWKWARD_RESULTS[0])  # NaN is not equal to itself
    assert found[1:3] == list(AWKWARD_RESULTS[1:3])


def test_messages_come_back_as_far_as_they_fit(awkward: FileStore) -> None:
    failures = awkward.population.failures
    assert failures[3].message == "x" * 548 + "☃" * 500
    assert failures[4].message == "name ?"
    assert [(attempt.individual, attempt.attempt) for attempt in awkward.population.failed_attempts] == [
        (3, 1), (1, 3), (2, 1), (3, 1), (4, 255),
    ]  # fmt: skip


def test_sessions_come_back_bit_for_bit(awkward: FileStore) -> None:
    assert awkward.sessions == [AWKWARD_SESSION]


def test_the_file_and_the_journal_agree_in_every_column(awkward: FileStore) -> None:
    before = {column.name: awkward.population.column(column.name).copy() for column in COLUMNS}
    awkward.compact()
    found = run_file.read(awkward.folder).population
    for name, column in before.items():
        np.testing.assert_array_equal(found.column(name), column, name)
    assert found.failed_attempts == awkward.population.failed_attempts
