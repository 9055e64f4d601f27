"""The scripts of `jobs/` as people use them: copied, with the variables on top and the scheduler's lines edited."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import mpi
from demand import absent
from patience import GUARD

from hpcnas.search import run_file

ROOT = Path(__file__).parent.parent
JOBS = ROOT / "jobs"
SYNTHETIC = [
    *("--evaluator", "synthetic", "--initial-population", "10", "--initial-mutations", "30", "--progress", "plain"),
    *("--compact-interval", "0.5"),
]

STEP_A_JOB = ("--walltime", "60", "--grace", "60")  # of a retraining: it is to leave as soon as it has begun


def launcher(name: str) -> mpi.Mpi:
    """An installed MPI; skips the test, or fails it where MPI is demanded, if it is not there."""
    found = {each.name: each for each in mpi.available()}
    if name not in found:
        absent(f"no {name} here: `make test` installs it, HPCNAS_MPI_PREFIXES names other places", "HPCNAS_DEMAND_MPI")
    return found[name]


def launch_line(script: str, *words: str) -> str:
    """The script's LAUNCH, as it stands or in a comment, that has all these words and the fewest others."""
    lines = re.findall(r"^#?LAUNCH=(\(.*?\))(?=  |$)", (JOBS / script).read_text(), re.MULTILINE)
    return min((line for line in lines if all(word in line for word in words)), key=len)


def edited(
    script: str,
    target: Path,
    variables: Mapping[str, str | Sequence[str]],
    directives: Mapping[str, str | None] = {},
    module: mpi.Mpi | None = None,
    jobs: Path = JOBS,
) -> Path:
    """A copy of the script, or itself where that is the target: variables with other values; `#SBATCH --…` or
    `#PBS -…` lines with other values, new ones if there are none, or none if None; an MPI as a module would load it."""
    text = (jobs / script).read_text()
    if module is not None:
        loads = [f"export {name}={shlex.quote(value)}" for name, value in module.env.items()]
        loads.append(f"export PATH={shlex.quote(str(module.mpirun.parent))}:$PATH")
        text = text.replace("# module load ...", "\n".join(loads))
    for name, value in variables.items():
        shown = value if isinstance(value, str) else f"({shlex.join(value)})"
        text, count = re.subn(rf"^{name}=.*$", lambda _, line=f"{name}={shown}": line, text, flags=re.MULTILINE)
        assert count == 1, f"{script} has {count} lines {name}=…"
    kind = "PBS" if script.startswith("pbs") else "SBATCH"
    for option, setting in directives.items():
        text = re.sub(rf"^#{kind} {option}\b.*\n", "", text, flags=re.MULTILINE)
        if setting is not None:
            first, rest = text.split("\n", 1)
            text = f"{first}\n#{kind} {option}{setting}\n{rest}"
    target.write_text(text)
    target.chmod(0o755)
    return target


def places(run: Path, *options: str) -> dict[str, str | Sequence[str]]:
    """The variables that say where things are, and the search."""
    return {
        "JOBS": str(JOBS),
        "PYTHON": sys.executable,
        "RUN": str(run),
        "DATA": "digits",
        "SEARCH": [*SYNTHETIC, *options],
    }


def retraining(run: Path, search: Path, *options: str) -> dict[str, str | Sequence[str]]:
    """The variables of a retraining, of a search's best cell: ten steps on the digits, where nothing else is said."""
    small = ["--channels", "2", "--steps", "10", "--micro-batch", "8", "--batch-size", "16", "--threads", "1"]
    return {
        "JOBS": str(JOBS),
        "PYTHON": sys.executable,
        "SEARCHED": str(search),
        "GENOTYPE": f"{search}:best",
        "RUN": str(run),
        "DATA": "digits",
        "SCRATCH": "",
        "RETRAIN": ["--preset", "quick", *small, "--progress", "plain", "--grace", "1", *options],
    }


def played(folder: Path) -> Path:
    """A launcher that plays a complete run: it only says so, and writes the words that it was given to RUN/words."""
    script = folder / "play"
    script.write_text(
        "#!/bin/sh\n"
        "for last; do :; done\n"
        'mkdir -p "$last"\n'
        'printf "%s\\n" "$*" >"$last/words"\n'
        'echo state=complete >"$last/status"\n'
    )
    script.chmod(0o755)
    return script


# A launcher that plays a search: the n-th start runs the n-th scene, a shell text, in the folder of the run.
PLAY = """#!/bin/bash
cd "${@: -1}" || exit
echo >>starts
. ./scene$(wc -l <starts)
"""
MORE = 'printf "state=%s\\nevaluated=%s\\n" more {} >status; exit 75'
COMPLETE = 'printf "state=%s\\nevaluated=%s\\n" complete 9 >status'


class Play:
    """A local.sh whose searches are scenes."""

    def __init__(self, folder: Path, scenes: Sequence[str], restarts: str = "9", search: Sequence[str] = ()) -> None:
        self.run = folder / "run"
        (self.run / "inflight").mkdir(parents=True)
        for number, scene in enumerate(scenes, start=1):
            (self.run / f"scene{number}").write_text(scene)
        play = folder / "play"
        play.write_text(PLAY)
        play.chmod(0o755)
        values = places(self.run) | {"LAUNCH": [str(play)], "WORKERS": "2", "RESTARTS": restarts, "SEARCH": search}
        self.script = edited("local.sh", folder / "local.sh", values)

    def start(self, **env: str) -> AbstractContextManager[mpi.Job]:
        """The script, in a session of its own; nothing of it outlives the with block."""
        return mpi.start_command([str(self.script)], cwd=self.run.parent, env=env)

    def whole(self, **env: str) -> tuple[int, int, str]:
        """Exit code, number of starts, and what was printed."""
        with self.start(**env) as process:
            printed, _ = process.communicate(timeout=GUARD)
        return process.returncode, self.starts, printed

    @property
    def starts(self) -> int:
        """How many searches have been started so far."""
        return len(read(self.run / "starts").splitlines())


def status(run: Path) -> dict[str, str]:
    """RUN/status; empty where there is none."""
    try:
        return dict(line.split("=", 1) for line in (run / "status").read_text().splitlines())
    except FileNotFoundError:
        return {}


def evaluations(run: Path) -> int:
    """How many evaluations population.h5 holds; 0 where there is none."""
    return len(run_file.read(run).population.evaluated) if (run / "population.h5").exists() else 0


def assert_complete(run: Path, budget: int) -> run_file.StoredRun:
    """The budget is spent to the last evaluation, and nothing was lost or doubled."""
    assert status(run)["state"] == "complete" and status(run)["evaluated"] == str(budget)
    check = [sys.executable, ROOT / "tools/verify.py", run]
    done = subprocess.run(check, capture_output=True, text=True, timeout=GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = run_file.read(run)
    assert len(stored.population.evaluated) == budget and stored.population.in_flight == 0
    return stored


def read(path: Path) -> str:
    """A file's text; empty where there is none yet."""
    return path.read_text(errors="replace") if path.exists() else ""
