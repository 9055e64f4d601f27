"""A job of one rank: its controller and its worker in one process."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hpcnas.config.search import SearchConfig
from hpcnas.job.devices import Binding, Seat
from hpcnas.job.status import MORE_TO_DO
from hpcnas.search import job


class Session:
    """A search that ends at once."""

    def control(self, *arguments: object) -> int:
        return MORE_TO_DO


def test_nobody_waits_for_ever_for_an_evaluator_that_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def never(settings: SearchConfig, binding: Binding) -> Any:
        let_go.wait()
        raise OSError("too late")

    monkeypatch.setattr(job, "make_evaluator", never)
    monkeypatch.setattr(job, "FAREWELL", 0.01)
    nothing: Any = None
    session: Any = Session()
    try:
        found = job._alone(SearchConfig(), session, Seat.here(), Binding("cpu", 1), nothing, nothing)
        assert found == MORE_TO_DO
        assert [thread.is_alive() for thread in threading.enumerate() if thread.name == "worker"] == [True]
    finally:
        let_go.set()
