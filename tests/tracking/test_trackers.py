"""Trackers are fed aside: in order, each number once, and none that fails, hangs or is slow holds up the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from patience import GUARD

from hpcnas.tracking import trackers
from hpcnas.tracking.tracker import Entry, Past
from hpcnas.tracking.trackers import Trackers

NAN = float("nan")


class Remembered:
    """A tracker that has some steps already, and may be made to fail."""

    name = "it"

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self.known = dict(known or {})
        self.got: list[tuple[int, dict[str, float]]] = []
        self.resumed: list[tuple[str, int]] = []
        self.failures: list[Exception] = []  # of the next calls of `log`
        self.closed: bool | None = None

    def resume(self, series: str, step: int) -> Mapping[str, int]:
        self.resumed.append((series, step))
        return {name: min(last, step) for name, last in self.known.items()}

    def log(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self.failures:
                raise self.failures.pop(0)
            self.got.append((entry.step, dict(entry.values)))
            self.known |= dict.fromkeys(entry.values, entry.step)

    def close(self, complete: bool) -> None:
        self.closed = complete


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "PAUSE", 0.0)
    monkeypatch.setattr(trackers, "RETRY", 0.0)
    monkeypatch.setattr(trackers, "PATIENCE", GUARD)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set at the end of the test, for trackers that wait for it."""
    event = threading.Event()
    yield event
    event.set()


def entry(step: int, **values: float) -> Entry:
    return Entry("a", step, 1000.0 + step, values)


def past(*losses: float) -> Past:
    """Steps 1, 2, …"""
    count = len(losses)
    return Past("a", count, np.arange(1, count + 1), np.zeros(count), {"loss": np.array(losses)})


def test_a_tracker_gets_what_it_lacks_of_the_past_and_then_each_number_once() -> None:
    found = Remembered({"loss": 2, "accuracy": 9})
    fed = Trackers([found])
    fed.resume(past(4.0, 3.0, NAN, 1.0))
    fed.log(entry(5, loss=0.5, accuracy=NAN))
    fed.close(complete=True)
    assert found.resumed == [("a", 4)]
    assert found.got == [(4, {"loss": 1.0}), (5, {"loss": 0.5})]
    assert found.closed is True and not fed


def test_one_that_fails_is_told_once_and_gets_the_same_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hpcnas")
    found = Remembered()
    found.failures = [OSError("disk\nfull"), OSError("disk\nfull")]
    fed = Trackers([found])
    fed.resume(past(3.0))
    fed.log(entry(2, loss=2.0))
    fed.log(entry(3, loss=1.0))
    fed._threads[0]._thread.join(0.0)
    fed.close(complete=False)
    assert [step for step, _ in found.got] == sorted({step for step, _ in found.got})
    warned = [line for line in caplog.messages if line.startswith("it: OSError: disk full; the run goes on")]
    assert len(warned) == 1


def test_one_that_never_works_is_left_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    found = Remembered()
    found.failures = [ValueError("never")] * 1000
    fed = Trackers([found])
    fed.log(entry(1, loss=1.0))
    fed.close(complete=True)
    assert found.got == [] and found.closed is True
    assert caplog.messages[-1] == "it: up to 1 entries did not get there"


class Hanging(Remembered):
    def __init__(self, released: threading.Event) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), released

    def log(self, entries: Sequence[Entry]) -> None:
        self.entered.set()
        self.released.wait()


def test_one_that_hangs_is_left_behind_and_what_is_dropped_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, released: threading.Event
) -> None:
    monkeypatch.setattr(trackers, "MOST", 3)
    monkeypatch.setattr(trackers, "HASTE", 0.0)
    hanging, other = Hanging(released), Remembered()
    fed = Trackers([hanging])
    fed.log(entry(1, loss=1.0))
    assert hanging.entered.wait(GUARD)
    for step in range(2, 7):
        fed.log(entry(step, loss=1.0))
    fed.close(complete=False)
    assert caplog.messages == [
        "it does not keep up: 3 entries wait, and what comes now is dropped; the run's own files have it",
        "it does not answer, and is left behind: up to 6 entries did not get there",
    ]
    also = Trackers([other])
    also.log(entry(1, loss=1.0))
    also.close(complete=True)
    assert other.got == [(1, {"loss": 1.0})]


def test_a_past_is_never_dropped(monkeypatch: pytest.MonkeyPatch, released: threading.Event) -> None:
    """Without it, numbers of a job that was cut off would stay."""
    monkeypatch.setattr(trackers, "MOST", 1)
    hanging = Hanging(released)
    fed = Trackers([hanging])
    fed.log(entry(1, loss=1.0))
    assert hanging.entered.wait(GUARD)
    fed.log(entry(2, loss=1.0))
    fed.resume(past(3.0))
    released.set()
    fed.close(complete=True)
    assert hanging.resumed == [("a", 1)]


@pytest.mark.parametrize(
    ("complete", "grace", "seconds"), [(True, 90.0, 30.0), (False, 90.0, 10.0), (True, 8.0, 4.0), (False, 0.0, 2.0)]
)
def test_the_end_of_a_job_with_little_time_comes_in_time(
    complete: bool, grace: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "PATIENCE", 30.0)
    assert trackers.patience(complete, grace) == seconds


class Unanswered(Remembered):
    """Hangs before it has said what it knows."""

    def __init__(self, released: threading.Event) -> None:
        super().__init__()
        self.released = released

    def resume(self, series: str, step: int) -> Mapping[str, int]:
        self.released.wait()
        return {}


@pytest.mark.parametrize(("rows", "told"), [(2, ": up to 2 entries did not get there"), (0, "")])
def test_what_a_job_began_with_counts_as_lost_too(
    rows: int, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, released: threading.Event
) -> None:
    monkeypatch.setattr(trackers, "HASTE", 0.0)
    fed = Trackers([Unanswered(released)])
    fed.resume(Past("search", rows, np.arange(1, rows + 1), np.zeros(rows), {"loss": np.ones(rows)}))
    fed.close(complete=False)
    assert caplog.messages == [f"it does not answer, and is left behind{told}"]
