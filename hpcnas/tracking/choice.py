"""Which trackers a person has asked for: checked before a run is made, started once it is begun."""

from __future__ import annotations

import importlib.util
import urllib.parse

from hpcnas.config.job import JobSettings
from hpcnas.config.settings import ConfigError
from hpcnas.storage.folder import RunFolder
from hpcnas.tracking.csv_file import CsvFile
from hpcnas.tracking.event_files import EventFiles
from hpcnas.tracking.mlflow_runs import MlflowRuns
from hpcnas.tracking.tracker import About, Tracker
from hpcnas.tracking.trackers import Trackers


def check(run: JobSettings) -> None:
    """Raises ConfigError for a tracker that cannot be had here."""
    if run.tensorboard:
        _check_installed("tensorboard", "--no-tensorboard")
    if run.mlflow:
        _check_installed("mlflow", "--mlflow ''")
        if _has_password(run.mlflow):
            raise ConfigError(
                "run.mlflow: expected a URI without a password, which would stand in the run's files; give it as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )


def _has_password(uri: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(uri)
        return parts.password is not None
    except ValueError:
        return False


def _check_installed(name: str, without: str) -> None:
    """`name` is that of the package, of the setting and of the extra."""
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"run.{name}: expected the package {name}, which is not installed: pip install 'hpcnas[{name}]', or go "
            f"without it by {without}"
        )


def start(run: JobSettings, place: RunFolder, about: About) -> Trackers:
    """Those of a run that has begun in that folder."""
    found: list[Tracker] = []
    if run.tensorboard:
        found.append(EventFiles(place, about))
    if run.csv_log:
        found.append(CsvFile(place, about))
    if run.mlflow:
        found.append(MlflowRuns(run.mlflow, about))
    return Trackers(found, run.grace)
