"""What a person asks for and cannot have is said before a run is made."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from test_format import section, tables

from hpcnas.config.job import JobSettings
from hpcnas.config.options import parse
from hpcnas.config.retraining import RETRAINING
from hpcnas.config.settings import ConfigError
from hpcnas.retrain import metrics as retraining_metrics
from hpcnas.retrain.session import open_retraining
from hpcnas.search import metrics as search_metrics
from hpcnas.search.session import SearchSession
from hpcnas.storage.folder import RunFolder
from hpcnas.tracking import choice
from hpcnas.tracking.tracker import About

ABOUT = About("a", "b", (), {})


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("options", "package", "without"),
    [(["--tensorboard"], "tensorboard", "--no-tensorboard"), (["--mlflow", "http://host"], "mlflow", "--mlflow ''")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    options: list[str], package: str, without: str, nothing_installed: None, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    expected = (
        f"^run.{package}: expected the package {package}, which is not installed: pip install "
        rf"'hpcnas\[{package}\]', or go without it by {without}$"
    )
    for more in ([], ["--dry-run"]):
        with pytest.raises(ConfigError, match=expected):
            SearchSession.open(parse(["--run", str(folder), *options, *more]))
    with pytest.raises(ConfigError, match=expected):
        open_retraining(parse(["--run", str(folder), *options], RETRAINING))
    assert not folder.exists()


def test_a_run_that_has_begun_says_so_too_and_goes_on_without(tmp_path: Path, nothing_installed: None) -> None:
    folder = str(tmp_path / "run")
    SearchSession.open(parse(["--run", folder])).close()
    with pytest.raises(ConfigError, match="hpcnas"):
        SearchSession.open(parse(["--run", folder, "--tensorboard"]))
    SearchSession.open(parse(["--run", folder, "--no-tensorboard", "--mlflow", ""])).close()


def test_a_password_is_refused_since_the_runs_files_keep_settings() -> None:
    choice.check(JobSettings(csv_log=True))
    with pytest.raises(ConfigError, match="^run.mlflow: expected a URI without a password") as caught:
        choice.check(JobSettings(mlflow="https://me:secret@host:5000/x"))
    assert "secret" not in str(caught.value)


def test_those_that_are_asked_for_are_started(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    assert not choice.start(JobSettings(), place, ABOUT)
    found = choice.start(JobSettings(csv_log=True, tensorboard=True, mlflow="http://host"), place, ABOUT)
    assert [thread._tracker.name for thread in found._threads] == ["TensorBoard", "metrics.csv", "MLflow"]
    found.close(complete=False)
    place.close()


@pytest.mark.parametrize("names", [search_metrics.NAMES, retraining_metrics.NAMES])
def test_the_page_of_formats_lists_every_name(names: tuple[str, ...]) -> None:
    assert names in [tuple(row["name"] for row in table) for table in tables(section("## Curves for other programs"))]
