"""`.ci/pythons`, which `make test-pythons` starts: what it names is there, and setup.cfg promises what it runs for."""

from __future__ import annotations

import os
import re
import shutil
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


def linked(folder: Path) -> Path:
    """A working tree whose .venv is a link to another one's, of files older than its own; returns where that leads."""
    (folder / "tree/.ci").mkdir(parents=True)
    for name in ("Makefile", "setup.cfg", "pyproject.toml", ".ci/constraints.txt", ".ci/pythons"):
        shutil.copy(ROOT / name, folder / "tree" / name)
    for name in (".ready", ".ready-dev", "mpi/mpich/.ready", "mpi/openmpi/.ready"):
        place = folder / "other" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        os.utime(place, (1, 1))
    (folder / "tree/.venv").symlink_to(folder / "other")
    return folder / "other"


def test_an_environment_that_is_another_trees_is_used_as_it_is(tmp_path: Path) -> None:
    other = linked(tmp_path)
    command = ["make", "-C", str(tmp_path / "tree"), "environment"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0 and "install" not in done.stdout + done.stderr
    own = subprocess.run([*command, "-n", "LINKED="], capture_output=True, text=True, timeout=GUARD)
    assert "install" in own.stdout
    (other / ".ready-dev").unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 2
    assert ".venv/.ready-dev is not there, and .venv is a link: make it where that" in done.stderr


def test_pythons_are_not_installed_into_another_trees_environment(tmp_path: Path) -> None:
    """A stand-in for a Python, which makes environments of itself: there it says what it is asked for."""
    other = linked(tmp_path)
    made = '#!/bin/sh\ncase "$*" in "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;; *) echo "$*" ;; esac\n'
    (tmp_path / "python3.99").write_text(made)
    (tmp_path / "python3.99").chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [tmp_path / "tree/.ci/pythons", "3.99"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0 and "-m pytest -q" in done.stdout and "--editable ." in done.stdout
    assert (tmp_path / "tree/build/pythons/3.99/.ready").exists() and not (other / "pythons").exists()


def test_a_python_that_is_not_here_is_told_of_and_a_stand_in_for_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "python3.99").write_text("#!/bin/sh\necho 'not installed' >&2\nexit 127\n")
    (tmp_path / "python3.99").chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    command = [ROOT / ".ci/pythons", "3.99"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=GUARD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Python 3.99: not here, on the PATH or pyenv's\n", "")
