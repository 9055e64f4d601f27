"""Which individuals of a run another one begins with: said once, in RUN/log where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_refused_starts import start
from toolruns import eventful

OPTIONS = ["--evaluator", "synthetic", "--space", "2x3/1x3", "--budget", "4", "--initial-population", "4"]
SAID = "initial: individuals 4, 1, 2 of "


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    eventful(tmp_path / "earlier")
    return tmp_path / "earlier"


def test_a_search_logs_which_individuals_it_was_given(earlier: Path, tmp_path: Path) -> None:
    done = start(tmp_path / "run", *OPTIONS, "--initial", f"{earlier}:top3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(f"{SAID}{earlier}") == 1
    assert f"INFO {SAID}{earlier}\n" in (tmp_path / "run" / "log").read_text()


def test_a_dry_run_says_so_beside_what_it_prints(earlier: Path, tmp_path: Path) -> None:
    done = start(tmp_path / "run", *OPTIONS, "--dry-run", "--initial", f"{earlier}:top3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"hpcnas: {SAID}{earlier}\n" in done.stderr
    assert SAID not in done.stdout
