"""Every command of the README is run, at a size that a test can bear, or is run by what its entry here names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mpi as launcher
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")

SMALLER = shlex.split(
    "--data digits --budget 4 --initial-population 2 --initial-mutations 20 --replicates 1 --steps 2 --batch-size 8 "
    "--channels 2 --threads 1"
)
SMALLER_TRAINING = shlex.split(
    "--data digits --channels 2 --cells 1 --steps 2 --batch-size 16 --micro-batch 8 --threads 1 --progress plain"
)
ELSEWHERE = {  # what a test cannot do inside a test, and where it is done
    "make run": ".ci/run",
    "make test": ".ci/run",
    "python3 -m venv .venv && . .venv/bin/activate": "Makefile, the target .venv/.ready",
    "pip install '.[tools]'": "Makefile, the target .venv/.ready",
    "pip install '.[web]'": "Makefile, the target .venv/.ready, within dev",
    "hpcnas serve runs": "tests/command/test_serve.py",
    "pip install mpich": "Makefile, the target .venv/mpi/mpich/.ready",
    "pip install '.[tensorboard]'": "Makefile, the target .venv/.ready-dev",
    "tensorboard --logdir runs": "test_event_files.py, by its reader",
    "sbatch jobs/slurm.sh": "test_jobs_slurm.py",
    "qsub jobs/pbs.sh": "test_jobs_pbs.py",
    "jobs/slurm_chain.sh": "test_jobs_slurm.py",
}


def commands() -> Iterator[str]:
    """The lines of all shell blocks, without their remarks."""
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            yield re.sub(r"\s+#.*", "", line).strip()


def test_the_page_opens_with_the_two_commands() -> None:
    assert list(commands())[:2] == ["make run", "make test"]


def test_what_is_run_elsewhere_is_on_the_page() -> None:
    assert set(ELSEWHERE) <= set(commands())


def test_all_other_commands_run(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    Image.new("L", (30, 20), 99).save(tmp_path / "photo.jpg")
    count = 0
    for command in commands():
        if command in ELSEWHERE:
            continue
        words = shlex.split(command)
        if words[:5] == ["mpirun", "-np", "9", "hpcnas", "search"]:
            done = launcher.run(one_mpi, 3, ["-m", "hpcnas.command", *words[4:], *SMALLER], cwd=tmp_path)
        elif words[:5] == ["mpirun", "-np", "8", "hpcnas", "retrain"]:
            done = launcher.run(one_mpi, 2, ["-m", "hpcnas.command", *words[4:], *SMALLER_TRAINING], cwd=tmp_path)
        elif words[:4] == ["hpcnas", "search", "--preset", "quick"]:
            start = [sys.executable, "-m", "hpcnas.command", *words[1:], *SMALLER]
            done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True)
        else:
            assert words[0] == "hpcnas", f"{command}: nobody runs it"
            smaller = ["--trainings", "120"] if words[1] == "compare-strategies" else []
            start = [sys.executable, "-m", "hpcnas.command", *words[1:], *smaller]
            done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        for name in re.findall(r"--\S+ (\S+\.(?:png|svg|html|py|pt|onnx))(?= |$)", command):
            assert (tmp_path / name).stat().st_size > 500, f"{command} has not written {name}"
        count += 1
    assert count >= 25


def test_the_files_that_the_page_points_to_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / target).is_file(), target
