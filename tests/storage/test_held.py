"""A run's folder in the hands of one job: held and locked, or let go of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcnas.storage import lock
from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.storage.held import HeldFolder, once_more_if_gone
from hpcnas.storage.lock import LockHeld


def test_it_is_held_until_it_is_closed(tmp_path: Path) -> None:
    held = HeldFolder.take(RunFolder(tmp_path), lock.take, ["status"])
    second = RunFolder(tmp_path)
    with pytest.raises(LockHeld):
        HeldFolder.take(second, lock.take, ["status"])
    assert second.descriptor == -1
    held.close()
    HeldFolder.take(RunFolder(tmp_path), lock.take, ["status"]).close()


def test_what_is_not_the_runs_own_is_refused_before_it_is_locked(tmp_path: Path) -> None:
    (tmp_path / "status").symlink_to("elsewhere")
    place = RunFolder(tmp_path)
    with pytest.raises(StoreError, match="expected a file of the run's own or nothing, but it is a link to elsewhere"):
        HeldFolder.take(place, lock.take, ["status"])
    assert place.descriptor == -1 and os.listdir(tmp_path) == ["status"]


def failing(error: StoreError, *others: StoreError) -> Callable[[], str]:
    """Raises these, one a call, and then gives `opened`."""
    left = [error, *others]

    def open() -> str:
        if left:
            raise left.pop(0)
        return "opened"

    return open


def test_a_run_that_is_gone_is_opened_once_more() -> None:
    gone, again = StoreError("gone"), StoreError("again")
    assert once_more_if_gone(failing(gone), is_there=lambda: False) == "opened"
    with pytest.raises(StoreError, match="^again$"):
        once_more_if_gone(failing(gone, again), is_there=lambda: False)
    with pytest.raises(StoreError, match="^gone$"):
        once_more_if_gone(failing(gone), is_there=lambda: True)
    with pytest.raises(LockHeld):
        once_more_if_gone(failing(LockHeld("held")), is_there=lambda: False)
