"""`.ci/pythons`, which `make test-pythons` starts: what it names is there, and setup.cfg promises what it runs for."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from patience import GUARD

ROOT = Path(__file__).parent.parent
SCRIPT = (ROOT / ".ci/pythons").read_text(encoding="utf-8")


def test_the_tests_that_it_names_are_there() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+)(?:\[\w+\])?)?", SCRIPT)
    assert len(named) >= 20
    for file, function in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or f"\ndef {function}(" in text, (file, function)


def test_the_pythons_that_are_promised_are_those_that_are_tested() -> None:
    metadata = (ROOT / "setup.cfg").read_text()
    promised = re.findall(r"Python :: (3\.\d+)$", metadata, re.M)
    assert re.findall(r"^PYTHONS +\?= (.*)$", (ROOT / "Makefile").read_text(), re.M) == [" ".join(promised)]
    assert f"python_requires = >={promised[0]}" in metadata
    first, *others = promised
    assert f"make test-pythons PYTHONS='{' '.join(others)}'" in (ROOT / ".ci/run").read_text()


def test_a_python_that_is_not_here_is_told_of_and_a_stand_in_for_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "python3.99").write_text("#!/bin/sh\necho 'not installed' >&2\nexit 127\n")
    (tmp_path / "python3.99").chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [ROOT / ".ci/pythons", "3.99"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=GUARD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Python 3.99: not here, on the PATH or pyenv's\n", "")
