"""MLflow: one run of MLflow for each series, on a server or in a database, by its client alone (`mlflow-skinny`).

    experiment (`hpcnas`, or MLFLOW_EXPERIMENT_NAME) ─► run, tagged with the name of ours and the series ─► metrics

MLflow forgets nothing that it was told. So what it has of later steps than a training goes on from is kept, and not
sent again: it is the same, since the same steps are made again. Where a training begins anew, its run of MLflow is left
as killed, and another one begun.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hpcnas.tracking.tracker import About, Entry

RUN, SERIES = "hpcnas.run", "hpcnas.series"  # tags
_LONGEST = 500  # characters of a parameter's value, in any version of MLflow
_MOST = 100  # parameters that it takes at once
_METRICS = 1000  # likewise
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would tell its makers of each run
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is gone is told of in seconds; what failed is sent again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds
}


class MlflowRuns:
    """A tracker."""

    name = "MLflow"

    def __init__(self, uri: str, about: About) -> None:
        self._uri, self._about = uri, about
        self._client: Any = None
        self._runs: dict[str, str] = {}  # series → run of MLflow that is under way

    def resume(self, series: str, step: int) -> Mapping[str, int]:
        """As of a Tracker. Raises what MLflow raises."""
        if self._client is None:
            for name, value in _DEFAULTS.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            self._client = MlflowClient(self._uri)
        if series in self._runs:  # after a failure
            return self._known(self._runs[series])
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "hpcnas")
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        if (run := self._latest(experiment, series)) is not None:
            known = self._known(run)
            if step > 0 or not known:
                self._runs[series] = run
                self._client.update_run(run, status="RUNNING")
                return known
            self._client.set_terminated(run, status="KILLED")
        tags = {RUN: self._about.run, SERIES: series}
        run = self._client.create_run(experiment, run_name=f"{self._about.name} {series}", tags=tags).info.run_id
        self._runs[series] = run
        self._log_settings(run)
        return {}

    def _latest(self, experiment: str, series: str) -> str | None:
        """The run of MLflow that was begun last for this series of this run."""
        wanted = f"tags.`{RUN}` = '{self._about.run}' and tags.`{SERIES}` = '{series}'"
        found = self._client.search_runs(
            [experiment], filter_string=wanted, max_results=1, order_by=["attributes.start_time DESC"]
        )
        return found[0].info.run_id if found else None

    def _known(self, run: str) -> dict[str, int]:
        """Name → last step that a run of MLflow has of it."""
        names = self._client.get_run(run).data.metrics
        return {name: max(one.step for one in self._client.get_metric_history(run, name)) for name in names}

    def _log_settings(self, run: str) -> None:
        from mlflow.entities import Param

        settings = [Param(name, value[:_LONGEST]) for name, value in self._about.settings.items()]
        for first in range(0, len(settings), _MOST):
            self._client.log_batch(run, params=settings[first : first + _MOST])

    def log(self, entries: Sequence[Entry]) -> None:
        """As of a Tracker. Raises what MLflow raises."""
        from mlflow.entities import Metric

        for series in dict.fromkeys(entry.series for entry in entries):
            mine = [entry for entry in entries if entry.series == series]
            metrics = [
                Metric(name, value, round(1000 * entry.time), entry.step)
                for entry in mine
                for name, value in entry.values.items()
            ]
            for first in range(0, len(metrics), _METRICS):
                self._client.log_batch(self._runs[series], metrics=metrics[first : first + _METRICS])
            if mine[-1].last:
                self._client.set_terminated(self._runs.pop(series), status="FINISHED")

    def close(self, complete: bool) -> None:
        """As of a Tracker. Raises what MLflow raises."""
        while self._runs:
            self._client.set_terminated(self._runs.popitem()[1], status="FINISHED" if complete else "KILLED")
