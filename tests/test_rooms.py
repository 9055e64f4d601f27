"""The rooms of the house: which file may import which, and which library stays behind which door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hpcnas"
HEAVY = {"torch", "torchvision", "triton", "h5py", "mpi4py", "PIL", "psutil"}

# file: what it may import of the package, and of the heavy libraries. The standard library and numpy are free to all
# but those of the first block, which the command line needs before anything else.
STDLIB_ONLY = {
    "primitives": set(),
    "plugins": {"primitives"},
    "space": {"primitives"},
    "dataspec": {"plugins"},
    "settings": set(),
    "exits": set(),
    "signals": set(),
    "durable": set(),
    "walltime": {"signals"},
    "jobenv": set(),
    "log": set(),
    "config": {"dataspec", "plugins", "settings", "space"},
    "options": {"config", "settings"},
    "journal": {"durable"},
    "schedules": set(),
}
SPACE = {
    "genotype": {"primitives", "space"},
    "canonical": {"genotype", "primitives"},
    "sameness": {"canonical", "genotype", "primitives"},
    "draws": set(),
    "mutation": {"draws", "genotype", "primitives", "space"},
    "seeds": set(),
    "messages": {"genotype"},
    "skeleton": {"config", "messages"},
    "large": {"skeleton"},
    "counting": {"canonical", "primitives", "skeleton"},
    "memory": {"canonical", "counting", "primitives", "skeleton"},
    "blocks": {"canonical", "primitives", "skeleton"},
}
SEARCH = {
    "individuals": {"genotype", "messages", "sameness"},
    "ranking": set(),
    "pooling": set(),
    "population": {"canonical", "genotype", "individuals", "messages", "pooling", "ranking", "sameness", "space"},
    "selection": {"ranking"},
    "duplicates": {"canonical", "genotype", "mutation", "population", "sameness"},
    "evolution": {"counting", "duplicates", "genotype", "individuals", "mutation", "population", "seeds", "space"},
    "given": {"evolution", "genotype", "population", "space"},
    "racing": {"evolution", "messages", "population"},
    "scheduling": {"config", "population"},
    "pareto": set(),
    "costs": {"counting", "genotype", "population"},
    "tournament": {"config", "evolution", "population", "selection"},
    "randomsearch": {"config", "evolution", "individuals", "population"},
    "aging": {"config", "evolution", "population"},
    "nsga2": {"config", "costs", "evolution", "pareto", "population"},
    "strategies": {
        *("aging", "canonical", "config", "counting", "duplicates", "evolution", "genotype", "given", "messages"),
        *("nsga2", "plugins", "randomsearch", "skeleton", "tournament"),
    },
    "replay": {"config", "individuals", "messages", "mutation", "population", "sameness", "strategies"},
    "verification": {
        *("canonical", "counting", "evolution", "individuals", "messages", "population", "racing", "replay"),
        *("runfile", "skeleton", "strategies"),
    },
}
CONTROLLER = {
    "allowed": {"individuals", "messages"},
    "runvalues": {"allowed", "genotype", "individuals", "messages", "sameness", "space"},
    "runfile": {
        *("allowed", "config", "durable", "individuals", "messages", "population", "runvalues", "settings", "h5py"),
    },
    "records": {"allowed", "genotype", "individuals", "messages", "population", "runfile", "runvalues"},
    "store": {
        *("allowed", "config", "durable", "individuals", "journal", "messages", "population", "records", "runfile"),
    },
    "transport": {"messages", "mpi4py"},
    "sources": {"canonical", "config", "genotype", "given", "runfile", "sameness", "settings", "space"},
    "devices": {"messages"},
    "controller": {
        *("config", "devices", "evolution", "exits", "individuals", "messages", "mutation", "racing"),
        *("runfile", "scheduling", "seeds", "store", "transport"),
    },
    "progress": {
        *("config", "costs", "duplicates", "individuals", "log", "messages", "pareto", "population", "runfile"),
        *("scheduling", "store"),
    },
    "session": {
        *("config", "controller", "costs", "durable", "exits", "log", "messages", "options", "progress", "runfile"),
        *("scheduling", "signals", "sources", "store", "strategies", "transport", "walltime"),
    },
}
WORKER = {
    "evaluation": {"messages"},
    "evaluator": {"config", "evaluation", "jobenv", "messages"},
    "landscape": {"canonical", "primitives"},
    "synthetic": {
        *("canonical", "config", "counting", "evaluation", "genotype", "landscape", "messages", "seeds", "skeleton"),
    },
    "worker": {"evaluation", "messages", "transport"},
}
TRAINER = {
    "torchvision_shim": {"torch", "torchvision"},
    "imagefolder": {"dataspec", "torchvision_shim", "PIL"},
    "data": {"dataspec", "imagefolder", "plugins", "torchvision_shim", "torchvision", "PIL"},
    "operations": {"primitives", "torch"},
    "network": {"canonical", "counting", "operations", "skeleton", "torch"},
    "augment": {"torch"},
    "averaging": {"torch"},
    "regularisation": {"canonical", "network", "operations", "primitives", "skeleton", "torch"},
    "training": {
        *("augment", "canonical", "config", "counting", "data", "genotype", "messages", "network", "skeleton"),
        "torch",
    },
    "trainer": {"evaluator", "serving"},
    "kernels": set(),
    "plan": {"canonical", "counting", "kernels", "primitives", "skeleton", "torch"},
    "planned": {"canonical", "config", "genotype", "kernels", "plan", "program", "skeleton", "training", "torch"},
    "program": {"kernels", "plan", "primitives", "torch"},
    "blockparts": {"triton"},
    "blockforward": {"blockparts", "triton"},
    "blockbackward": {"blockparts", "triton"},
    "blockplan": {"blocks", "torch"},
    "blockprogram": {"blockbackward", "blockforward", "blockparts", "blockplan", "blocks", "torch"},
    "stacked": {
        *("augment", "blockplan", "blockprogram", "blocks", "canonical", "config", "genotype", "network", "skeleton"),
        *("training", "torch"),
    },
    "fastest": {
        *("canonical", "config", "genotype", "kernels", "planned", "primitives", "skeleton", "stacked", "training"),
        "torch",
    },
    "profiling": {"durable", "torch"},
    "serving": {
        *("config", "data", "dataspec", "durable", "evaluation", "evaluator", "fastest", "messages", "plugins"),
        *("profiling", "skeleton", "training", "torch"),
    },
}
ENTRY = {
    "__init__": set(),
    "__main__": {"job", "launch", "signals", "simulate"},
    "launch": {"exits", "plugins", "signals", "transport"},
    "simulate": {
        *("canonical", "config", "controller", "exits", "landscape", "messages", "options", "progress", "runfile"),
        *("settings", "sources", "store", "strategies", "synthetic"),
    },
    "job": {
        *("config", "dryrun", "evaluation", "evaluator", "exits", "jobenv", "launch", "log", "messages", "options"),
        *("plugins", "session", "settings", "signals", "synthetic", "transport", "worker"),
    },
    "dryrun": {"canonical", "config", "counting", "genotype", "jobenv", "messages", "mutation", "seeds", "skeleton"},
}
RETRAINING = {
    "recipe": {"dataspec", "large", "plugins", "settings"},
    "order": {"seeds"},
    "origins": {"canonical", "config", "dataspec", "genotype", "retrainfile", "runfile", "settings"},
    "retrainfile": {"allowed", "durable", "genotype", "individuals", "large", "messages", "recipe", "runfile", "h5py"},
    "retrainreport": {"log", "progress", "recipe", "retrainfile"},
    "retraindryrun": {
        *("canonical", "counting", "data", "dataspec", "genotype", "imagefolder", "jobenv", "large", "memory"),
        *("recipe", "retrainfile"),
    },
    "retrainfolder": {
        *("canonical", "counting", "durable", "exits", "feed", "genotype", "log", "options", "origins", "recipe"),
        *("retrainfile", "retraining", "retrainreport", "runfile", "store", "torch"),
    },
    "distributed": {"torch"},
    "sums": {"distributed", "torch"},
    "feed": {"augment", "data", "dataspec", "messages", "order", "recipe", "torch"},
    "imagestream": {
        *("augment", "dataspec", "feed", "imagefolder", "messages", "order", "recipe", "seeds", "signals"),
        *("torchvision_shim", "torch", "PIL"),
    },
    "retraining": {
        *("averaging", "canonical", "dataspec", "distributed", "feed", "large", "network", "recipe", "regularisation"),
        *("retrainfile", "schedules", "seeds", "sums", "training", "torch"),
    },
    "retrainjob": {
        *("canonical", "dataspec", "distributed", "exits", "feed", "genotype", "imagestream", "jobenv", "launch"),
        *("log", "options", "recipe", "retraindryrun", "retrainfolder", "retraining", "settings", "signals"),
        *("training", "transport", "walltime", "torch"),
    },
    "retrain": {"launch", "retrainjob", "signals"},
}
ROOMS = STDLIB_ONLY | SPACE | SEARCH | CONTROLLER | WORKER | TRAINER | RETRAINING | ENTRY


def imports_of(path: Path) -> set[str]:
    """Top names of libraries, and files of the package, that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            found.add(rest.partition(".")[0] if top == "hpcnas" and rest else top)
    return found - {"__version__"}


def test_every_file_has_its_row() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_what_stands_in_its_row(room: str) -> None:
    found = imports_of(PACKAGE / f"{room}.py") & (set(ROOMS) | HEAVY | {"hpcnas"})
    assert found <= ROOMS[room], f"{room} may not import {sorted(found - ROOMS[room])}"


@pytest.mark.parametrize("room", sorted(STDLIB_ONLY))
def test_the_first_rooms_need_the_standard_library_alone(room: str) -> None:
    foreign = imports_of(PACKAGE / f"{room}.py") - set(ROOMS) - set(sys.stdlib_module_names)
    assert not foreign


def test_tools_read_runs_through_the_store_alone() -> None:
    for path in (PACKAGE.parent / "tools").glob("*.py"):
        assert "h5py" not in imports_of(path), f"{path.name} opens HDF5 by itself"


def loaded_by(code: str) -> set[str]:
    """Heavy libraries that a fresh interpreter has loaded after running the code."""
    check = f"import sys\n{code}\nprint(*[name for name in {sorted(HEAVY)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import hpcnas.session, hpcnas.replay", {"h5py"}),  # the controller: no torch
        ("import hpcnas.job, hpcnas.synthetic", set()),  # a worker: neither torch nor HDF5
        ("import hpcnas.trainer", set()),  # the child, until its life is tied to the worker's
        ("import hpcnas.serving", {"torch"}),  # the child: neither MPI nor HDF5
    ],
)
def test_processes_load_only_their_own_libraries(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed
