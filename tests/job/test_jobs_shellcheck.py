"""The shell scripts of this project, seen by shellcheck."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from demand import absent
from jobscripts import JOBS, ROOT

SCRIPTS = sorted(JOBS.glob("*.sh"))
OTHERS = [ROOT / name for name in (".ci/run", ".ci/pythons", "containers/install.sh")]


@pytest.fixture
def shellcheck() -> str:
    """The command."""
    command = shutil.which("shellcheck")
    if command is None:
        absent("no shellcheck here (Debian: shellcheck)", "HPCNAS_DEMAND_SHELLCHECK")
    return command


def test_shellcheck_finds_nothing(shellcheck: str) -> None:
    done = subprocess.run([shellcheck, *SCRIPTS, *OTHERS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_all_but_what_is_only_sourced_can_be_started(script: Path) -> None:
    assert os.access(script, os.X_OK) == (script.name != "common.sh")
