"""The end of a run's log: bounded, whatever is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcnas.analysis.runs import AnalysisError
from hpcnas.dashboard import log_tail
from hpcnas.dashboard.log_tail import log


def kept(folder: Path, data: bytes) -> Path:
    (folder / "log").write_bytes(data)
    return folder


def test_the_last_lines(tmp_path: Path) -> None:
    folder = kept(tmp_path, b"one\ntwo\nthree\n")
    assert log(folder, {}) == {"lines": ["one", "two", "three"], "size": 14, "why": None}
    assert log(folder, {"lines": ["2"]})["lines"] == ["two", "three"]


def test_a_line_that_is_being_written_counts(tmp_path: Path) -> None:
    assert log(kept(tmp_path, b"one\ntw"), {})["lines"] == ["one", "tw"]


def test_of_a_large_file_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "MOST_BYTES", 10)
    assert log(kept(tmp_path, b"x" * 1000 + b"\nlast\n"), {}) == {"lines": ["last"], "size": 1006, "why": None}
    assert log(kept(tmp_path, b"x" * 1000), {})["lines"] == ["x" * 10]


def test_what_a_terminal_would_obey_is_shown_and_long_lines_are_cut(tmp_path: Path) -> None:
    lines = log(kept(tmp_path, b"\x1b[2J<script>\xff\n" + b"y" * 5000 + b"\r\n"), {})["lines"]
    assert lines == ["\\x1b[2J<script>�", "y" * 2000 + " …"]


def test_without_a_log(tmp_path: Path) -> None:
    assert log(tmp_path, {}) == {"lines": [], "size": 0, "why": "there is no log yet"}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    assert "regular file" in log(tmp_path, {})["why"]


@pytest.mark.parametrize("lines", ["0", "2001", "-1", "many", "", "1e2"])
def test_a_wrong_number(tmp_path: Path, lines: str) -> None:
    with pytest.raises(AnalysisError, match="^lines: expected a whole number from 1 to 2000, got "):
        log(tmp_path, {"lines": [lines]})
