"""A search as people follow it: its curves in TensorBoard's own reader, over two starts."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from demand import package
from patience import GUARD


def search(folder: Path, *options: str) -> None:
    command = [sys.executable, "-m", "hpcnas.command", "search", "--run", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr


def test_curves_go_on_over_starts_and_reach_back_to_what_was_not_tracked(tmp_path: Path) -> None:
    reader = package("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "run"
    search(folder, "--evaluator", "synthetic", "--budget", "4", "--initial-population", "3", "--csv-log")
    search(folder, "--budget", "7", "--tensorboard")  # and --csv-log, which lasts
    found = reader.EventAccumulator(str(folder / "tensorboard" / "search"))
    found.Reload()
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    for name in ("fitness/evaluated", "fitness/best", "network/parameters"):
        curve = [(one.step, one.value) for one in found.Scalars(name)]
        assert [step for step, _ in curve] == [1, 2, 3, 4, 5, 6, 7]
        assert all(abs(value - float(row[name])) < 1e-6 * value for (_, value), row in zip(curve, rows, strict=True))
