"""Whatever system call is the last one, all that was acknowledged is there and the run goes on (D1): by enumeration.

    child                                    parent
    life or recovery of a run ─► call k ✂    opens what is left on the disk, compares, goes on to the end
      tells before and after each commit ──► how much may be there, how much must be there

A script is run for every durable call that it makes, and for ways in which that call can be its last: one or two for
each call, all of them in turns.

HPCNAS_TORTURE=1   every way for every call (`make torture`)
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import made_up_disk
import pytest
from examples import CONFIG, SESSION, assert_same, evaluated, failed, individual
from made_up_disk import Ending, crash_points

from hpcnas.search import file_store
from hpcnas.search.file_store import FileStore
from hpcnas.search.memory_store import MemoryStore
from hpcnas.storage.folder import StoreError

TORTURE = os.environ.get("HPCNAS_TORTURE") == "1"

# ── scripts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

Record = Callable[[MemoryStore], None]
Tell = Callable[[str, int], None]

RECORDS: list[Record] = [
    lambda run: run.begin(SESSION),
    lambda run: run.birth(individual(0)),
    lambda run: run.birth(individual(1)),
    lambda run: run.settle(evaluated(1)),
    lambda run: run.birth(individual(2, parent=1)),
    lambda run: run.retry(failed(0, "once more ☃")),
    lambda run: run.settle(failed(2)),
    lambda run: run.birth(individual(3)),
    lambda run: run.settle(evaluated(0, 0.7, 0.8)),
    lambda run: run.begin(replace(SESSION, pid=2)),
    lambda run: run.birth(individual(4, parent=0)),
    lambda run: run.settle(evaluated(3)),
    lambda run: run.birth(individual(5)),
    lambda run: run.settle(evaluated(5)),
]


def _records(run: MemoryStore) -> int:
    """How many records of RECORDS a run holds."""
    found = run.population
    return len(run.sessions) + len(found) + len(found.evaluated) + len(found.failed_attempts)


def _record_until(run: FileStore, count: int, tell: Tell) -> None:
    """Brings the run to `count` records with one commit."""
    for record in RECORDS[_records(run) : count]:
        record(run)
    tell("asked", count)
    run.commit()
    tell("acknowledged", count)


def life(folder: Path, tell: Tell) -> None:
    """A run from its creation, with single and joint commits and two compactions, one of them with nothing new."""
    run = FileStore.create(folder, CONFIG)
    tell("acknowledged", 0)
    for count in (1, 3, 4):
        _record_until(run, count, tell)
    run.compact()
    for count in (5, 8):
        _record_until(run, count, tell)
    run.compact()
    run.compact()
    _record_until(run, 9, tell)
    run.close()


def recovery(folder: Path, tell: Tell) -> None:
    """A run that is opened again, goes on, is compacted and closed."""
    run = FileStore.open(folder)
    for count in (10, 12):
        _record_until(run, count, tell)
    run.compact()
    _record_until(run, 13, tell)
    run.close()


def aside(folder: Path, tell: Tell) -> None:
    """A run that goes on while population.h5 is renewed: before, during and after each of the renewal's steps."""
    run = FileStore.open(folder)
    run.compact_aside()
    _record_until(run, 10, tell)
    run.compact_aside()  # one is under way
    _record_until(run, 12, tell)
    _record_until(run, 13, tell)
    run.close()


def abandoned(folder: Path, tell: Tell) -> None:
    """A run that is created, and taken away since its start is refused."""
    FileStore.create(folder, CONFIG).abandon()


def parted(folder: Path, tell: Tell) -> None:
    """A run whose lock is removed under its controller: it saves what it knows, and stops."""
    run = FileStore.open(folder)
    _record_until(run, 10, tell)
    (folder / "lock").unlink()
    with contextlib.suppress(StoreError):
        _record_until(run, 12, tell)
    run.close()


def linked(folder: Path) -> None:
    """Nine records, and a second name of the journal, to which nothing may be appended."""
    torn(folder)
    os.link(folder / "journal", folder / "backup")


class Timed(file_store._Renewal):
    """A renewal that is written when the store looks after it for the second time."""

    def start(self) -> None:
        self.left, self.over = 1, False

    def is_alive(self) -> bool:
        if self.left == 0:
            self.join()
        self.left -= 1
        return not self.over

    def join(self, timeout: float | None = None) -> None:
        if not self.over:
            self.over = True
            self.run()


def _acknowledge(kind: str, count: int) -> None:
    """Tells nobody."""


def torn(folder: Path) -> None:
    """Nine records, and half of another at the end of the journal."""
    life(folder, _acknowledge)
    with (folder / "journal").open("ab") as file:
        file.write(b'9b2e4410 {"birth":{"id":')


def half_compacted(folder: Path) -> None:
    """Nine records, a renewed population.h5 and the journal from before."""
    life(folder, _acknowledge)
    old = (folder / "journal").read_bytes()
    run = FileStore.open(folder)
    run.compact()
    run.close()
    (folder / "journal").write_bytes(old)


def journal_behind(folder: Path) -> None:
    """Nine records in population.h5, and a journal that has lost the last of them."""
    half_compacted(folder)
    lines = (folder / "journal").read_bytes().splitlines(keepends=True)
    (folder / "journal").write_bytes(b"".join(lines[:-1]))


# ── crashes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Told:
    """What is known of a child that was stopped: its calls, and how many records it asked for and had acknowledged."""

    calls: list[str]
    asked: int
    acknowledged: int | None  # None: the run was not yet created


def crash(script: Callable[[Path, Tell], None], folder: Path, last: int, ending: Ending, known: int | None) -> Told:
    """Runs the script in a child that stops at its call number `last`, or at its end."""
    said = made_up_disk.crash(
        lambda say: script(folder, lambda kind, count: say(f"{kind} {count}")), folder, last, ending
    )
    numbers = {kind: int(number) for kind, number in map(str.split, said) if kind != "call"}
    asked, acknowledged = numbers.get("asked", known or 0), numbers.get("acknowledged", known)
    return Told(made_up_disk.calls(said), asked, acknowledged)


def check(folder: Path, told: Told) -> None:
    """The run holds what was acknowledged and nothing that was not asked for, and goes on to the last record."""
    if told.acknowledged is None and not FileStore.exists(folder):
        run = FileStore.create(folder, CONFIG)
    else:
        run = FileStore.open(folder)
    found = _records(run)
    assert (told.acknowledged or 0) <= found <= told.asked
    _assert_holds(run, found)
    for record in RECORDS[found:]:
        record(run)
    run.commit()
    run.close()
    run = FileStore.open(folder)
    _assert_holds(run, len(RECORDS))
    run.close()


def _assert_holds(run: FileStore, count: int) -> None:
    """The run is what the first `count` records make: none is missing, torn, doubled or out of order."""
    expected = MemoryStore(CONFIG)
    for record in RECORDS[:count]:
        record(expected)
    assert_same(run.population, expected.population)
    assert run.sessions == expected.sessions


def _check_part(
    script: Callable[[Path, Tell], None], before: Path, folder: Path, known: int | None, part: int = 0, parts: int = 1
) -> list[tuple[int, Ending]]:
    """Crashes a copy of `before` at a part of the points of the script and checks it; returns all points."""
    shutil.copytree(before, folder, dirs_exist_ok=True)
    calls = crash(script, folder, 0, Ending.KILLED, known).calls
    points = list(crash_points(calls))  # four or five for each call
    chosen = points if TORTURE else points[::3]
    assert {number for number, _ in chosen} == {number for number, _ in points}
    for number, ending in chosen[part::parts]:
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        told = crash(script, folder, number, ending, known)
        assert told.calls == calls[:number], "a script makes the same calls whenever it is run"
        try:
            check(folder, told)
        except Exception as error:
            name = [*calls, "end"][number - 1]
            raise AssertionError(f"call {number}, {name}: {ending.value}; told {told}") from error
    return points


# ── tests ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", range(10))
def test_a_life_survives_a_crash_at_every_call(ground: Path, part: int) -> None:
    (ground / "before").mkdir()
    points = _check_part(life, ground / "before", ground / "run", known=None, part=part, parts=10)
    assert len({number for number, _ in points}) > 50
    assert len(points) > 200


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("prepare", [torn, half_compacted, journal_behind, linked])
def test_a_recovery_survives_a_crash_at_every_call(ground: Path, prepare: Callable[[Path], None], part: int) -> None:
    prepare(ground / "before")
    points = _check_part(recovery, ground / "before", ground / "run", known=9, part=part, parts=4)
    assert len({number for number, _ in points}) > 15
    assert len(points) > 70


@pytest.mark.parametrize("part", range(6))
def test_a_renewal_beside_what_goes_on_survives_a_crash_at_every_call(
    ground: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    torn(ground / "before")
    monkeypatch.setattr(file_store, "_Renewal", Timed)
    points = _check_part(aside, ground / "before", ground / "run", known=9, part=part, parts=6)
    assert len(points) > 50


def test_a_run_that_is_taken_away_is_there_or_not_after_a_crash_at_every_call(ground: Path) -> None:
    (ground / "before").mkdir()
    points = _check_part(abandoned, ground / "before", ground / "run", known=None)
    assert len(points) > 60


def test_a_controller_that_stops_saves_all_it_has_acknowledged_whatever_call_is_the_last(ground: Path) -> None:
    torn(ground / "before")
    points = _check_part(parted, ground / "before", ground / "run", known=9)
    assert len(points) > 60


def test_the_enumeration_sees_every_kind_of_call(ground: Path) -> None:
    torn(ground / "run")
    seen = crash(recovery, ground / "run", 0, Ending.KILLED, known=9).calls
    assert {"open", "write", "ftruncate", "fsync", "fdatasync", "rename"} <= set(seen)
    assert seen[:5] == ["open", "ftruncate", "write", "ftruncate", "fsync"]  # the lock's, and the torn tail's


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_a_sync_that_is_left_out_is_found_out(ground: Path, sync: str) -> None:
    def careless(folder: Path, tell: Tell) -> None:
        setattr(os, sync, lambda descriptor: None)  # in the child only
        life(folder, tell)

    (ground / "before").mkdir()
    with pytest.raises(AssertionError, match=r"^call \d+, \w+: the machine stops: "):
        _check_part(careless, ground / "before", ground / "run", known=None)
