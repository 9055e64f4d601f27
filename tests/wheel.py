"""hpcnas as people install it: a wheel of this tree, in an environment of its own that knows nothing of the checkout.

The environment borrows the packages of the one that tests run in, so that it takes seconds and no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from demand import package
from patience import GUARD

ROOT = Path(__file__).parent.parent
SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")


def package_files() -> set[str]:
    """Every file of the package in this tree, by its path from the root on."""
    paths = (path for path in (ROOT / "hpcnas").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def source(folder: Path) -> Path:
    """A copy of what is built from: builds leave their outputs beside it."""
    folder.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "hpcnas", folder / "hpcnas", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def build(folder: Path) -> Path:
    """The wheel, built in the folder."""
    package("setuptools")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    _pip("wheel", *options, str(source(folder / "source")))
    (wheel,) = folder.glob("hpcnas-*.whl")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """Installs the wheel into a new environment; returns the folder of its commands."""
    _run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin/python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    # After the installation: an editable hpcnas lies there too. What is named in a .pth file has its own ones not read.
    (site,) = environment.glob("lib/python3*/site-packages")
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python.parent


def elsewhere() -> dict[str, str]:
    """This environment for programs that are to know nothing of the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _pip(*arguments: str) -> None:
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, env=elsewhere(), capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
