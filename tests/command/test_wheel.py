"""hpcnas from a wheel, in an empty folder, without the repository."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import mpi as launcher
import pytest
import wheel
from patience import GUARD

SEARCH = ["--preset", "quick", "--evaluator", "synthetic", "--budget", "12", "--initial-population", "4"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commands(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that it is installed in."""
    return wheel.install(built, tmp_path_factory.mktemp("installed") / "environment")


def hpcnas(commands: Path, folder: Path, *arguments: str) -> str:
    """What the installed command prints there; it has to succeed."""
    done = subprocess.run(
        [commands / "hpcnas", *arguments], cwd=folder, env=wheel.elsewhere(), capture_output=True, text=True,
        timeout=GUARD,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_wheel_holds_every_file_of_the_package(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == wheel.package_files()


def test_a_source_distribution_holds_every_file_of_the_package(tmp_path: Path) -> None:
    command = "from setuptools import build_meta; build_meta.build_sdist('..')"
    source = wheel.source(tmp_path / "source")
    subprocess.run([sys.executable, "-c", command], cwd=source, check=True, capture_output=True, timeout=GUARD)
    (path,) = tmp_path.glob("hpcnas-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert wheel.package_files() | set(wheel.SOURCES) <= names


def test_it_is_the_installed_package_that_runs(commands: Path, tmp_path: Path) -> None:
    code = "import hpcnas; print(hpcnas.__file__)"
    done = subprocess.run(
        [commands / "python", "-c", code], cwd=tmp_path, env=wheel.elsewhere(), capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(commands.parent), done.stdout + done.stderr


def test_a_search_under_mpi_and_what_looks_at_it(commands: Path, one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    start = [str(one_mpi.mpirun), *one_mpi.flags, "-np", "2", str(commands / "hpcnas"), "search", *SEARCH]
    done = subprocess.run(
        [*start, "--run", "run"], cwd=tmp_path, env={**wheel.elsewhere(), **one_mpi.env}, capture_output=True,
        text=True, timeout=GUARD,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  state          complete\n" in hpcnas(commands, tmp_path, "summary", "run")
    hpcnas(commands, tmp_path, "report", "run", "--output", "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    hpcnas(commands, tmp_path, "export", "module", "run", "--output", "network.py")
    hpcnas(commands, tmp_path, "verify", "run")


def test_written_job_scripts_start_what_is_installed(commands: Path, tmp_path: Path) -> None:
    hpcnas(commands, tmp_path, "jobs", "jobs")
    script = tmp_path / "jobs/local.sh"
    text = script.read_text()
    assert f"\nPYTHON={commands / 'python'} " in text
    text = text.replace("LAUNCH=(mpirun --bind-to none) ", f"LAUNCH=({tmp_path / 'alone'}) ")
    text = text.replace("SEARCH=(--preset paper --download)", f"SEARCH=({' '.join(SEARCH)})")
    text = text.replace("DATA=cifar10:", "DATA=digits #")
    script.write_text(text)
    (tmp_path / "alone").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')  # without `-n RANKS`
    (tmp_path / "alone").chmod(0o755)
    done = subprocess.run([script], cwd="/", env=wheel.elsewhere(), capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "state=complete" in (tmp_path / "runs/cifar/status").read_text()
