"""CLUSTER.md: its commands run, at a size that a test can bear, or are run by what their entry here names; its lines of
job scripts, variables and versions are those of the code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import mpi as launcher
from jobscripts import JOBS
from patience import GUARD

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CLUSTER.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "hpcnas").rglob("*.py")))
CONSTRAINTS = (ROOT / ".ci/constraints.txt").read_text()
ELSEWHERE = {  # how a command begins that a test cannot run inside a test, and where it is done
    "module load": "no modules here",
    "python3 -m venv": "Makefile, the target .venv/.ready",
    ". ~/hpcnas/.venv": "Makefile, the target .venv/.ready",
    "pip install --constraint .ci/constraints.txt": "Makefile, the target .venv/.ready; containers/install.sh",
    "pip wheel": "test_wheel.py, without packages of others",
    "pip install --no-index": "test_wheel.py, likewise",
    "apptainer build": "test_containers.py, without Apptainer",
    "chmod": "test_the_script_in_place_of_python_starts_what_is_in_the_image",
}
SMALLER = "--threads 1 --initial-mutations 20 --channels 2 --batch-size 8"
UNTRAINED = "--evaluator synthetic --budget 4 --initial-population 2 --initial-mutations 20"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """The lines of all shell blocks of a page, without their remarks."""
    found = re.findall(r"^```sh\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+#.*", "", line).strip() for block in found for line in block.splitlines()]


def site(folder: Path, mpi: launcher.Mpi) -> dict[str, str]:
    """An environment with commands by the names that the page uses: what is installed here, and an `apptainer exec`
    that starts it, whatever the image and the options."""
    python = shlex.quote(sys.executable)
    programs = {
        "python": f'exec {python} "$@"',
        "hpcnas": f'exec {python} -m hpcnas.command "$@"',
        "mpirun": shlex.join(["exec", str(mpi.mpirun), *mpi.flags]) + ' "$@"',
        "apptainer": 'until [ "${1%.sif}" != "$1" ]; do shift; done\nshift\nexec "$@"',
    }
    place = folder / "bin"
    place.mkdir()
    for name, text in programs.items():
        (place / name).write_text(f"#!/bin/sh\n{text}\n")
        (place / name).chmod(0o755)
    path = os.pathsep.join([str(place), os.environ["PATH"]])
    return {**os.environ, **mpi.env, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(folder)}


def test_commands_run(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    env = site(tmp_path, one_mpi)
    ready = set(commands(README))  # test_readme.py runs them
    unused, count = set(ELSEWHERE), 0
    for command in commands(PAGE):
        if known := {start for start in ELSEWHERE if command.startswith(start)}:
            unused -= known
        elif command not in ready:
            if "--download" in command:
                command = command.replace("cifar10:data --download", f"digits {SMALLER}")
            if "mpirun -np 9" in command:
                command = command.replace("mpirun -np 9", "mpirun -np 2").replace("cifar10:data", f"digits {UNTRAINED}")
            done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            if "COMM_WORLD.size" in command:
                assert re.match("2{1,2} ", done.stdout), done.stdout  # a launcher may mix up the ranks' words
            count += 1
    assert count >= 6 and not unused


def test_the_script_in_place_of_python_starts_what_is_in_the_image(one_mpi: launcher.Mpi, tmp_path: Path) -> None:
    (script,) = (block for block in blocks("bash") if block.startswith("#!"))
    env = site(tmp_path, one_mpi)
    (tmp_path / "python-in-image").write_text(script)
    (tmp_path / "python-in-image").chmod(0o755)
    words = [tmp_path / "python-in-image", "-c", "import sys; print(sys.argv[1:])", "-n", "two words"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=GUARD)
    assert done.stdout == "['-n', 'two words']\n", done.stderr


def test_lines_of_job_scripts_are_such_as_the_scripts_have() -> None:
    scripts = {name: (JOBS / name).read_text() for name in ("slurm.sh", "pbs.sh")}
    launches = re.findall(r"^(LAUNCH=\(.*\)) ", "\n".join(blocks("bash")), re.M)
    assert len(launches) == 3
    assert all(any(line in text for text in scripts.values()) for line in launches)
    for option in re.findall(r"^#SBATCH (--[\w-]+)=", PAGE, re.M):
        assert option == "--mail-type" or f"#SBATCH {option}=" in scripts["slurm.sh"]
    assert re.findall(r"^#PBS -l ([\w=:]+)mpiprocs=", PAGE, re.M) == re.findall(
        r"^#PBS -l (select=[\w=:]+)mpiprocs=", scripts["pbs.sh"], re.M
    )


def test_variables_and_versions_are_those_of_the_code() -> None:
    own = set(re.findall(r"\bHPCNAS_[A-Z]+\b", CODE))
    assert own and set(re.findall(r"^\| `(HPCNAS_[A-Z]+)` \|", PAGE, re.M)) == own
    for variable in ("XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TMPDIR", "SLURM_JOB_END_TIME", "PBS_WALLTIME"):
        assert variable in CODE and f"`{variable}`" in PAGE
    for name, version in re.findall(r"\b([a-z]+)==([\d.]+)", PAGE):
        assert f"\n{name}=={version}\n" in CONSTRAINTS
    recipes = "\n".join(path.read_text() for path in (ROOT / "containers").iterdir())
    assert all(name in recipes for name in re.findall(r"--build-arg (\w+=)", PAGE))
    versions = re.findall(r"Python :: (3\.\d+)$", (ROOT / "setup.cfg").read_text(), re.M)
    assert f"Python {', '.join(versions[:-1])} and {versions[-1]} are tested." in PAGE
