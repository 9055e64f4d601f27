"""Checking and repairing a run from Python, as the command does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolruns import empty, eventful

from hpcnas.analysis import verification
from hpcnas.analysis.runs import AnalysisError
from hpcnas.search import run_file
from hpcnas.storage.folder import StoreError


def test_what_is_wrong_is_told_and_what_is_good_is_written(tmp_path: Path) -> None:
    found = verification.verify(eventful(tmp_path / "run"))  # made by hand: no strategy has drawn its first genotype
    assert not found.sound and found.replayed and found.notes == []
    assert "individual 2: expected a parent among the first 0 evaluated, got 0" in found.problems
    assert verification.repair(found, tmp_path / "new") == 0
    assert len(run_file.read(tmp_path / "new").population) == 0
    with pytest.raises(StoreError, match="expected a folder without a run"):
        verification.repair(found, tmp_path / "new")


def test_a_run_that_has_not_begun_is_sound(tmp_path: Path) -> None:
    found = verification.verify(empty(tmp_path / "run"))
    assert (found.sound, found.problems, found.notes) == (True, [], [])


def test_what_nobody_can_replay_is_not_repaired(tmp_path: Path) -> None:
    found = verification.verify(eventful(tmp_path / "run"))
    unknown = verification.Verification(found.run, found.problems, [], replayed=False)
    with pytest.raises(AnalysisError, match="expected the plugin of strategy 'tournament' to say what is good"):
        verification.repair(unknown, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"expected a run in {tmp_path}"):
        verification.verify(tmp_path)
