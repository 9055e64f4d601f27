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
    "answers": set(),
    "searchpath": set(),
    "terminal": set(),
    "plugins": {"answers", "primitives", "searchpath"},
    "space": {"primitives"},
    "dataspec": {"plugins"},
    "durations": set(),
    "textfile": set(),
    "settings": {"durations", "textfile"},
    "bounds": {"settings"},
    "exits": set(),
    "signals": set(),
    "durable": set(),
    "clocks": set(),
    "folder": {"durable"},
    "lock": {"durable", "folder"},
    "sealed": set(),
    "walltime": {"clocks", "signals"},
    "jobenv": set(),
    "log": {"terminal"},
    "config": {"bounds", "dataspec", "plugins", "settings", "space"},
    "options": {"config", "durations", "plugins", "settings", "textfile"},
    "journal": {"durable"},
    "schedules": set(),
}
SPACE = {
    "genotype": {"primitives", "space", "textfile"},
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
        *("answers", "individuals", "mutation", "population"),
    },
    "replay": {"config", "individuals", "messages", "mutation", "population", "sameness", "strategies"},
    "verification": {
        *("canonical", "counting", "evolution", "individuals", "messages", "population", "racing", "replay"),
        *("runfile", "skeleton", "strategies"),
    },
}
CONTROLLER = {
    "methods": {"individuals", "messages"},
    "allowed": {"answers", "individuals", "messages"},
    "runvalues": {"allowed", "genotype", "individuals", "messages", "methods", "sameness", "space"},
    "runfile": {
        *("allowed", "config", "durable", "folder", "individuals", "messages", "methods", "population", "runvalues"),
        *("settings", "h5py"),
    },
    "records": {"allowed", "genotype", "individuals", "messages", "methods", "population", "runfile", "runvalues"},
    "memorystore": {"config", "individuals", "messages", "methods", "population", "runfile"},
    "recovery": {"allowed", "journal", "memorystore", "records", "runfile"},
    "store": {
        *("config", "folder", "individuals", "journal", "lock", "memorystore", "messages", "methods", "population"),
        *("records", "recovery", "runfile"),
    },
    "wholerun": {"durable", "runfile", "store"},
    "transport": {"clocks", "messages", "mpi4py"},
    "sources": {
        *("canonical", "config", "genotype", "given", "plugins", "runfile", "sameness", "settings", "space"),
        "textfile",
    },
    "attention": {"clocks", "messages", "transport"},
    "devices": {"messages"},
    "retries": {"devices", "messages"},
    "controller": {
        *("attention", "clocks", "config", "devices", "evolution", "exits", "individuals", "memorystore", "messages"),
        *("methods", "mutation", "plugins", "racing", "retries", "runfile", "scheduling", "seeds", "transport"),
    },
    "progress": {
        *("config", "costs", "duplicates", "individuals", "log", "memorystore", "messages", "methods", "pareto"),
        *("population", "runfile", "scheduling"),
    },
    "session": {
        *("attention", "config", "controller", "costs", "exits", "lock", "log", "memorystore", "messages", "mutation"),
        *("options", "plugins", "progress", "runfile", "scheduling", "signals", "sources", "store", "strategies"),
        *("transport", "walltime"),
    },
}
WORKER = {
    "evaluation": {"answers", "messages"},
    "plugged": {"allowed", "answers", "config", "evaluation", "jobenv", "messages", "plugins"},
    "starts": set(),
    "interpreter": set(),
    "evaluator": {"clocks", "config", "evaluation", "interpreter", "jobenv", "messages", "signals", "starts"},
    "landscape": {"canonical", "primitives"},
    "synthetic": {
        *("canonical", "config", "counting", "evaluation", "genotype", "landscape", "messages", "seeds", "skeleton"),
    },
    "worker": {"clocks", "evaluation", "messages", "plugins", "transport"},
}
TRAINER = {
    "causes": {"messages"},
    "torchvision_shim": {"torch", "torchvision"},
    "imagefolder": {"dataspec", "sealed", "torchvision_shim", "PIL"},
    "data": {"dataspec", "imagefolder", "plugins", "terminal", "torchvision_shim", "torchvision", "PIL"},
    "operations": {"primitives", "torch"},
    "network": {"canonical", "counting", "operations", "skeleton", "torch"},
    "augment": {"torch"},
    "averaging": {"torch"},
    "regularisation": {"canonical", "network", "operations", "primitives", "skeleton", "torch"},
    "training": {
        *("augment", "canonical", "causes", "config", "counting", "data", "genotype", "messages", "network"),
        *("skeleton", "torch"),
    },
    "trainer": {"evaluator", "serving"},
    "caches": set(),
    "kernels": {"caches", "durable"},
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
        *("canonical", "config", "genotype", "planned", "primitives", "skeleton", "stacked", "training", "torch"),
    },
    "heartbeat": set(),
    "probing": {
        *("blockbackward", "blockforward", "caches", "causes", "config", "fastest", "genotype", "kernels", "skeleton"),
        *("training", "torch"),
    },
    "profiling": {"durable", "torch"},
    "checkpoints": {"durable", "sealed", "torch"},
    "serving": {
        *("causes", "checkpoints", "config", "data", "dataspec", "evaluation", "evaluator", "fastest", "heartbeat"),
        *("messages", "plugins", "probing", "profiling", "sealed", "skeleton", "training", "torch"),
    },
}
ENTRY = {
    "__init__": set(),
    "__main__": {"job", "launch", "searchpath", "signals", "simulate", "terminal"},
    "launch": {"exits", "plugins", "signals", "textfile", "transport"},
    "simulate": {
        *("canonical", "config", "controller", "exits", "landscape", "memorystore", "messages", "options", "plugins"),
        *("progress", "runfile", "searchpath", "settings", "sources", "store", "strategies", "synthetic", "terminal"),
        "textfile",
    },
    "job": {
        *("attention", "config", "dryrun", "evaluation", "evaluator", "exits", "jobenv", "launch", "lock", "log"),
        *("messages", "options", "plugged", "plugins", "session", "settings", "signals", "synthetic", "transport"),
        "worker",
    },
    "dryrun": {"canonical", "config", "counting", "genotype", "jobenv", "messages", "mutation", "seeds", "skeleton"},
}
RETRAINING = {
    "recipe": {"bounds", "dataspec", "large", "plugins", "settings"},
    "order": {"seeds"},
    "origins": {
        *("canonical", "config", "dataspec", "genotype", "plugins", "retrainfile", "runfile", "settings", "textfile"),
    },
    "retrainfile": {"allowed", "durable", "genotype", "individuals", "large", "messages", "recipe", "runfile", "h5py"},
    "retrainreport": {"log", "progress", "recipe", "retrainfile"},
    "retraindryrun": {
        *("canonical", "counting", "data", "dataspec", "genotype", "imagefolder", "jobenv", "large", "memory"),
        *("recipe", "retrainfile"),
    },
    "retrainfolder": {
        *("canonical", "checkpoints", "clocks", "counting", "exits", "feed", "folder", "genotype", "lock", "log"),
        *("options", "origins", "recipe", "retrainfile", "retraining", "retrainreport", "runfile", "sealed", "store"),
    },
    "distributed": {"causes", "torch"},
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
        *("lock", "log", "options", "plugins", "recipe", "retraindryrun", "retrainfolder", "retraining", "settings"),
        "signals",
        *("training", "transport", "walltime", "torch"),
    },
    "retrain": {"launch", "retrainjob", "searchpath", "signals", "terminal"},
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
