"""The worked example of own data: its script is run as it stands, and every step leaves what its page says."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import GUARD

from hpcnas.config import search as search_config
from hpcnas.search import run_file

EXAMPLE = Path(__file__).parents[1] / "examples" / "patches"


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder after `run.sh`, with settings for fewer and shorter trainings, and what it printed."""
    folder = tmp_path_factory.mktemp("patches")
    scripts, programs = folder / "example", folder / "bin"
    shutil.copytree(EXAMPLE, scripts)
    for name, changes in (("search", {"steps": 8, "budget": 3, "initial_population": 2, "channels": 2}),
                          ("retraining", {"steps": 8, "channels": 2})):  # fmt: skip
        text = (scripts / f"{name}.toml").read_text(encoding="utf-8")
        for key, value in changes.items():
            text, times = re.subn(rf"^{key} = .*", f"{key} = {value}", text, flags=re.MULTILINE)
            assert times == 1, key
        (scripts / f"{name}.toml").write_text(f"{text}\n[run]\nthreads = 1\n", encoding="utf-8")
    programs.mkdir()
    for program, words in (("python", ""), ("hpcnas", "-m hpcnas.command")):
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / program).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", scripts / "run.sh"], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True,
        timeout=GUARD,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_every_step_leaves_what_the_page_says(worked: tuple[Path, str]) -> None:
    folder, _ = worked
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/.]+\.(?:html|csv|h5)|runs/\w+/log)`", page)
    assert len(set(named)) == 7
    for name in named:
        assert (folder / name).stat().st_size > 100, name


def test_the_search_measures_balanced_accuracy_on_scenes_of_their_own(worked: tuple[Path, str]) -> None:
    folder, printed = worked
    run = run_file.read(folder / "runs" / "search")
    assert run.config.training.fitness == "balanced-accuracy" and run.config.training.class_weights == "balanced"
    facts = run.sessions[0].facts
    assert (facts.image_channels, facts.classes, facts.training_images + facts.validation_images) == (12, 5, 900)
    assert facts.validation_images % 25 == 0 and facts.split  # whole scenes
    assert "the search: 3 evaluations by 3 trainings" in printed and "balanced validation accuracy" in printed


def test_test_patches_are_classified_and_their_classes_counted(worked: tuple[Path, str]) -> None:
    folder, _ = worked
    with open(folder / "predictions.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 300
    with open(folder / "classes.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"water", "forest", "field", "town", "quarry"}


def test_its_settings_are_settings() -> None:
    settings, preset = search_config.SCHEME.parse_toml((EXAMPLE / "search.toml").read_text(encoding="utf-8"), "search")
    assert preset == "quick" and settings["data"]["source"] == "arrays:patches.h5"
