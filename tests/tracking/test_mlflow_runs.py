"""MLflow, by its own client and a store of files: one run a series, which goes on, and whose steps are there once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from demand import package

from hpcnas.tracking.mlflow_runs import MlflowRuns
from hpcnas.tracking.tracker import About, Entry

ABOUT = About("ab" * 16, "large", ("loss",), {"training.steps": "30", "network.genotype": "x" * 600})


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # which no database has to be made for
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    package("mlflow")
    return f"file:{tmp_path}"


def runs(uri: str) -> list[Any]:
    """From the first on."""
    client = package("mlflow").MlflowClient(uri)
    experiment = client.get_experiment_by_name("hpcnas").experiment_id
    return client.search_runs([experiment], order_by=["attributes.start_time ASC"])


def curve(uri: str, run: Any) -> list[tuple[int, float, int]]:
    history = package("mlflow").MlflowClient(uri).get_metric_history(run.info.run_id, "train/loss")
    return [(one.step, one.value, one.timestamp) for one in history]


def entry(step: int, value: float, last: bool = False) -> Entry:
    return Entry("seed-0", step, 1.5, {"train/loss": value}, last)


def test_a_run_goes_on_and_ends(uri: str) -> None:
    first = MlflowRuns(uri, ABOUT)
    assert first.resume("seed-0", 0) == {}
    first.log([entry(10, 4.0), entry(20, 3.0)])
    first.close(complete=False)
    (run,) = runs(uri)
    assert (run.info.run_name, run.info.status) == ("large seed-0", "KILLED")
    assert run.data.params == {"training.steps": "30", "network.genotype": "x" * 500}
    then = MlflowRuns(uri, ABOUT)
    assert then.resume("seed-0", 10) == {"train/loss": 20}  # which it keeps
    then.log([entry(30, 2.0, last=True)])
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert curve(uri, run) == [(10, 4.0, 1500), (20, 3.0, 1500), (30, 2.0, 1500)]


def test_what_begins_anew_has_a_run_of_its_own(uri: str) -> None:
    first = MlflowRuns(uri, ABOUT)
    first.resume("seed-0", 0)
    first.log([entry(10, 4.0)])
    then = MlflowRuns(uri, ABOUT)
    assert then.resume("seed-0", 0) == {}
    then.log([entry(10, 5.0)])
    then.close(complete=True)
    old, new = runs(uri)
    assert [(old.info.status, new.info.status)] == [("KILLED", "FINISHED")]
    assert curve(uri, old) == [(10, 4.0, 1500)] and curve(uri, new) == [(10, 5.0, 1500)]
