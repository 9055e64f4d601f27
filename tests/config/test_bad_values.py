"""Values that no program of ours has written: whoever reads a run says so in one line, and nothing worse happens.

Of every dataset and attribute of population.h5 and retrain.h5 and of every key of the journal, one value after the
other is changed. The run is then refused in one line by every reader, named by `tools/verify.py` and cut down to what
holds together by its `--repair`; or the value is one that may be, and the tools and the search do their work.

HPCNAS_TORTURE=1   all rows, values and tools instead of one in so many (`make torture`)
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toolruns
from bad_values import Change, Said, changes, small_run, tool
from examples import CONFIG, SESSION, WORKER, evaluated, failed, population
from test_format import fill

from hpcnas.job.signals import Signals
from hpcnas.job.world import AloneWorld
from hpcnas.retrain import record_file
from hpcnas.search import job, records, recovery, run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.recovery import salvage
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import allowed, journal
from hpcnas.storage.folder import StoreError

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"
PARTS = 6  # of the changes, so that no test takes long
READERS = (
    ("summary", "RUN"), ("summary", "RUN", "RUN"), ("lineage", "RUN"), ("watch", "RUN", "--once"),
    ("export", "csv", "RUN", "-o", "OUT.csv"), ("export", "text", "RUN", "-o", "OUT.toml"), ("draw", "RUN", "--json"),
    ("report", "RUN", "-o", "OUT.html"), ("merge", "RUN", "--into", "OUT"), ("compare", "RUN", "--json"),
    ("plot", "RUN", "--search", "OUT.png", "--pareto", "OUT2.png", "--health", "OUT3.png"),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("whole") / "run")


def some(found: list[Change]) -> list[Change]:
    """All of them, or of each dataset two in a row that is not the first."""
    if TORTURE:
        return found
    chosen = []
    for _, of_one in itertools.groupby(found, key=lambda change: change.dataset):
        every = list(of_one)
        middle = [change for change in every if change.row != 0] or every
        step = zlib.crc32(middle[0].dataset.encode())
        chosen += [middle[(step + number * (len(middle) // 2 + 1)) % len(middle)] for number in range(2)]
    return chosen


def called(command: tuple[str, ...], run: Path, folder: Path) -> Said:
    for path in folder.glob("OUT*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    places = {"RUN": str(run)}
    return tool(command[0], *(places.get(word, str(folder / word) if "OUT" in word else word) for word in command[1:]))


def assert_tells(said: Said, *codes: int) -> None:
    """It ends with one of these codes; with 2 only in one line that says what was expected."""
    assert said.code in codes, said
    if said.code == 2:
        assert said.errors.count("\n") == 1 and "expected" in said.errors and len(said.errors) < 700, said
    else:
        assert said.errors == "", said


def search(folder: Path, budget: int) -> int:
    """A search that goes on, in this process; its exit code."""
    handlers = logging.getLogger("hpcnas").handlers[:]
    try:
        return job.run(AloneWorld(), ["--run", str(folder), "--budget", str(budget), "--progress", "plain"], Signals())
    finally:
        logging.getLogger("hpcnas").handlers[:] = handlers


@pytest.mark.parametrize("part", range(PARTS))
def test_every_value_of_a_run_is_refused_named_and_repaired_or_may_be(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: int
) -> None:
    readers = itertools.cycle(READERS[part:] + READERS[:part])
    refused = taken = 0
    for change in some(list(changes(whole / "population.h5")))[part::PARTS]:
        run = Path(shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True))
        change.make(run / "population.h5")
        commands = READERS if TORTURE else (next(readers),)
        try:
            run_file.read(run)
        except StoreError as error:
            refused += 1
            assert "\n" not in str(error), change
            for command in commands:
                assert_tells(called(command, run, tmp_path), 0 if command[0] == "watch" else 2, 2)
            with pytest.raises(StoreError):
                FileStore.open(run)
            assert search(run, 26) == 2
            assert_one_line(capsys.readouterr().err)
            if "hpcnas verify" in str(error):
                assert_named_and_repaired(run, tmp_path / "new", change)
            else:
                assert_tells(tool("verify", run), 2)
        else:
            taken += 1
            for command in commands:
                assert_tells(called(command, run, tmp_path), 0, 2 if command[0] == "merge" else 0)  # they average
            found = tool("verify", run)
            assert_tells(found, 0, 1)
            if found.code == 1:
                assert_named_and_repaired(run, tmp_path / "new", change)
            assert search(run, 26) in (0, 1, 2), change
            capsys.readouterr()
    assert refused > 5 and taken > 1


def assert_one_line(text: str) -> None:
    assert text.count("\n") == 1 and text.startswith("hpcnas: ") and "Traceback" not in text, text


def assert_named_and_repaired(run: Path, new: Path, change: Change) -> None:
    """verify names the fault; what --repair writes is sound, and opens."""
    shutil.rmtree(new, ignore_errors=True)
    said = tool("verify", run, "--repair", new)
    assert (said.code, said.errors) == (0, ""), (change, said)
    assert "expected" in said.output and "NOT SOUND" in said.output, (change, said)
    repaired = tool("verify", new)
    assert repaired.code == 0, (change, repaired)
    FileStore.open(new).close()


@pytest.mark.parametrize(
    ("dataset", "row", "value", "named", "kept"),
    [
        ("individuals/birth", 9, 99, "individual 9: expected birth INITIAL 1,", 9),
        ("individuals/genotype", 9, 255, "individual 9: expected a genotype whose edge 0 has an operation 0 to 6", 9),
        ("individuals/parent", 9, 9, "individual 9: expected a parent that was born before it, got 9", 9),
        ("individuals/parent", 9, 10**9, "individual 9: expected a parent that was born before it, got 1000000000", 9),
        ("individuals/fitness", 9, float("inf"), "individual 9: expected fitness a number from -1000000 to 1000000", 9),
        ("individuals/started", 9, float("inf"), "individual 9: expected started a number from 0 to 253402300799", 26),
        ("individuals/born", 9, -1.0, "individual 9: expected born a number from 0 to 253402300799, got -1.0", 26),
        ("individuals/worker_seconds", 9, float("inf"), "individual 9: expected worker_seconds a number from", 26),
        ("individuals/id", 9, 4, "individuals: expected as id the number of the row, 0 to 25, got others", 26),
        ("evaluated", 20, 10**9, "place 20 in the order of evaluations: expected an individual that", None),
        ("evaluated", 20, -1, "place 20 in the order of evaluations: expected an individual that", None),
        ("failures/kind", 0, 9, "failures, row 0: expected kind CRASH 1", 26),
        ("failures/finished", 0, float("nan"), "failures, row 0: expected finished a number from 0 to", 26),
        ("failures/message", 0, b"\xff", "failures, row 0: expected message in UTF-8", 26),
        ("sessions/started", 0, -1.0, "sessions, row 0: expected started a number from 0 to", 26),
        ("sessions/software", 0, b"[", "sessions, row 0: expected software in JSON", 26),
        ("records@", None, -1, "expected a number of records, got -1", 26),
        ("space@", None, b"1x5", "expected the space of the configuration, 2x3/1x3, got '1x5'", 26),
    ],
)
def test_what_is_named_and_what_is_kept(
    whole: Path, tmp_path: Path, dataset: str, row: int | None, value: object, named: str, kept: int | None
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    Change(dataset, row, value).make(run / "population.h5")
    said = tool("verify", run, "--repair", tmp_path / "new")
    assert named in said.output and said.code == 0
    found = run_file.read(tmp_path / "new").population
    before = run_file.read(whole).population
    assert len(found) == (len(found) if kept is None else kept)
    if kept == 26:
        assert found.evaluated.tolist() == before.evaluated.tolist()
        assert found.column("fitness").tolist()[:5] == before.column("fitness").tolist()[:5]
    elif kept is None:  # the first 20 evaluations, and who was born knowing no more; two are in flight again
        assert found.evaluated.tolist() == before.evaluated.tolist()[:20] and 20 < len(found) < 26


def test_workers_stay_with_their_sessions(tmp_path: Path) -> None:
    sessions = [replace(SESSION, host=f"host-{number}") for number in range(3)]
    workers = [replace(WORKER, session=number, training=f"in {number}") for number in (0, 1, 2, 2, 2)]
    stored = StoredRun("run-1", 0, CONFIG, population(), sessions, workers)
    run_file.write(tmp_path / "population.h5", stored)
    Change("workers/session", 3, 3).make(tmp_path / "population.h5")
    Change("workers/session", 4, -1).make(tmp_path / "population.h5")
    found, faults = run_file.examine(tmp_path)
    assert "workers, row 3: expected a session from 0 to 2, got 3" in faults and len(faults) == 2
    assert (found.sessions, found.workers) == (sessions, workers[:3])
    Change("sessions/data", 1, b"[").make(tmp_path / "population.h5")  # which costs the session
    found, _ = run_file.examine(tmp_path)
    assert found.sessions == [sessions[0], sessions[2]]
    assert found.workers == [workers[0], replace(workers[2], session=1)]


def test_who_is_in_flight_again_has_had_the_attempts_that_failed(tmp_path: Path) -> None:
    again = population(births=1)
    again.retry(failed(0))
    again.settle(replace(evaluated(0), attempt=3))
    run_file.write(tmp_path / "population.h5", StoredRun("run-1", 4, CONFIG, again, [SESSION]))
    Change("evaluated", 0, 9).make(tmp_path / "population.h5")
    found, _ = run_file.examine(tmp_path)
    assert found.population.issued == [0] and found.population.column("attempts").tolist() == [2]


def test_several_faults_are_all_named(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    for change in (Change("individuals/birth", 3, 99), Change("individuals/rank", 5, -7), Change("evaluated", 2, 99)):
        change.make(run / "population.h5")
    with pytest.raises(StoreError, match=r"individual 3: expected birth .*, got 99 \(and 3 more\); hpcnas verify"):
        run_file.read(run)
    lines = tool("verify", run).output.splitlines()
    assert [line.partition(": expected ")[0] for line in lines[:3]] == [
        "individual 3", "individual 5", "place 2 in the order of evaluations",
    ]  # fmt: skip


# The journal

WRONG = (None, True, -1, 1.5, 10**400, 1e300, float("nan"), float("inf"), "x", "\x1b[2J\n", [], {}, [[[]]])


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a record."""
    if before:
        yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*before, key))


def line(body: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(body), body)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    new = FileStore.create(tmp_path / "run", CONFIG, synced=False)
    fill(new)
    new.close()
    return tmp_path / "run"


def test_every_value_of_a_journal_is_refused_in_one_line_or_may_be(recorded: Path) -> None:
    path = recorded / "journal"
    header = path.read_bytes().splitlines(keepends=True)[0]
    whole = journal.read(path).records
    refused = taken = 0
    for number, record in enumerate(whole):
        for place, wrong in itertools.product(paths(record), WRONG):
            changed = copy.deepcopy(whole)
            *above, last = place
            target: Any = changed[number]
            for key in above:
                target = target[key]
            target[last] = wrong
            memory = MemoryStore(CONFIG)
            try:
                for one in changed:
                    recovery.apply(one, memory)
                taken += 1
            except records.ERRORS as error:
                refused += 1
                assert "\n" not in allowed.line(error) and len(allowed.line(error)) <= 400
                if refused % 100 == 0 or TORTURE:
                    path.write_bytes(header + line(json.dumps(changed).encode()))
                    with pytest.raises(StoreError, match=r"record \d+ does not fit the run: .*; hpcnas verify"):
                        FileStore.open(recorded)
    assert refused > 1000 and taken < refused / 5


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"[{\"birth\": " + b"1" * 5000 + b"}]",
        b"{}",
        b"null",
        b"[null]",
        b"[{}]",
        b'[{"birth": null}]',
        b'[{"birth": {}, "settle": {}}]',
        b'[{"settle": []}]',
        b"not JSON",
    ],
)  # fmt: skip
def test_lines_that_are_framed_but_no_commits(recorded: Path, body: bytes) -> None:
    path = recorded / "journal"
    before = path.read_bytes()
    path.write_bytes(before + line(body))
    with pytest.raises(StoreError) as caught:
        FileStore.open(recorded)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert path.read_bytes() == before + line(body)  # nothing is cut off
    assert len(salvage(recorded)[0].population) == 4  # and all before it can be had


@pytest.mark.parametrize(
    "header",
    [
        b'{"journal": 1}',
        b'{"journal": 1, "run": 5, "base": 0}',
        b'{"journal": 1, "run": "a", "base": "0"}',
        b'{"journal": 1, "run": "a", "base": -1}',
        b'{"journal": [], "run": "a", "base": 0}',
        b"[" * 99_999,
    ],
)
def test_headers_of_no_journal(recorded: Path, header: bytes) -> None:
    (recorded / "journal").write_bytes(line(header))
    with pytest.raises(StoreError, match="expected a header"):
        FileStore.open(recorded)


# Retrainings


def test_every_value_of_a_retraining_is_refused_in_one_line_or_may_be(tmp_path: Path) -> None:
    whole = toolruns.retrained(tmp_path / "whole", [0.9, 0.95])
    refused = taken = 0
    for change in some(list(changes(whole / "retrain.h5"))):
        folder = Path(shutil.copytree(whole, tmp_path / "run", dirs_exist_ok=True))
        change.make(folder / "retrain.h5")
        try:
            record_file.read(folder)
        except StoreError as error:
            refused += 1
            assert "\n" not in str(error), change
            assert_tells(tool("summary", "--table1", folder), 2)
        else:
            taken += 1
            assert_tells(tool("summary", "--table1", folder), 0)
    assert refused > 20
