"""The house: which room may import which, what each file imports, and which library stays behind which door.

`rooms.toml` beside this file holds the tables. Those of rooms and libraries are the plan, written by hand. The one of
files is what there is, so that a new arrow is seen by whoever reads the change: `python tests/test_rooms.py` writes it
anew.
"""

from __future__ import annotations

import ast
import collections
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hpcnas"
TABLES = Path(__file__).with_name("rooms.toml")
FACADES = [PACKAGE / "__init__.py", PACKAGE / "plugins.py", *(PACKAGE / "public").glob("*.py")]
"""They hand out what stands above them, or behind a door, when it is asked for, and name it to type checkers alone."""
HEAVY = {"torch", "torchvision", "triton", "h5py", "mpi4py", "PIL", "psutil", "matplotlib", "pandas", "onnx", "rich"}


def files() -> dict[str, Path]:
    """Every file of the package by its dotted name below it: `architecture.space`, `plugins`."""
    found = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {".".join(path.parts): PACKAGE / path.with_suffix(".py") for path in sorted(found)}


FILES = files()


def imports_of(path: Path) -> set[str]:
    """Top names of libraries, and dotted names of files of the package, that a file imports anywhere; but for what a
    facade imports for type checkers alone."""
    found: set[str] = set()
    whole = ast.parse(path.read_text(encoding="utf-8"))
    blocks = filter(_for_type_checkers, ast.walk(whole)) if path in FACADES else ()
    unread = {id(node) for block in blocks for node in ast.walk(block)}
    for node in ast.walk(whole):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top != "hpcnas":
                found.add(top)
                continue
            while rest and rest not in FILES:  # a name within a file
                rest = rest.rpartition(".")[0]
            found.add(rest or "__init__")
    return found


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room(file: str) -> str:
    """The room of a file; a file at the root is a room of its own."""
    return file.partition(".")[0]


IMPORTS = {file: imports_of(path) for file, path in FILES.items()}
TABLE = tomllib.loads(TABLES.read_text(encoding="utf-8"))
ROOMS: dict[str, list[str]] = TABLE["rooms"]
DOORS: dict[str, list[str]] = TABLE["libraries"]


def arrows(file: str) -> list[str]:
    """Which files of the package, and which heavy libraries, a file imports."""
    return sorted(IMPORTS[file] & (set(FILES) | HEAVY))


def test_each_file_imports_what_its_row_says() -> None:
    assert {file: arrows(file) for file in FILES if not file.endswith("__init__")} == TABLE["files"], (
        "the table of files is another: see what python tests/test_rooms.py changes in it"
    )


@pytest.mark.parametrize("file", sorted(FILES))
def test_no_file_imports_back_up(file: str) -> None:
    allowed = {room(file), *ROOMS[room(file)]}
    assert not {name for name in IMPORTS[file] & set(FILES) if room(name) not in allowed}


def test_the_rooms_stand_in_an_order_in_which_each_imports_earlier_ones_alone() -> None:
    names = list(ROOMS)
    assert not [(one, other) for one in names for other in ROOMS[one] if names.index(other) >= names.index(one)]


def test_no_two_files_import_each_other_whatever_the_way() -> None:
    left = {file: IMPORTS[file] & set(FILES) - {file} for file in FILES}
    while free := [file for file, needed in left.items() if not needed & set(left)]:
        for file in free:
            del left[file]
    assert not left


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_is_imported_behind_its_door_alone(library: str) -> None:
    doors = DOORS[library]
    inside = [file for file in FILES if library in IMPORTS[file]]
    assert not [file for file in inside if file not in doors and room(file) not in doors]


@pytest.mark.parametrize("name", [file for file in FILES if file.endswith(".__init__")])
def test_a_room_says_what_is_in_it_and_holds_nothing_else(name: str) -> None:
    """201 ranks import it."""
    body = ast.parse(FILES[name].read_text(encoding="utf-8")).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


TWICE = {  # class names that stand in two files, and why
    "Individual": "what is fixed at its birth, and all that is known of it for users of Python",
    "Listing": "of a folder of images, in memory and streamed",
    "Orders": "what rank 0 tells the others, one for each program",
    "Progress": "what a person sees, one for each program",
    "Session": "of a search and of a retraining, as their files hold them",
    "State": "of an individual, and of a retraining",
    "Stream": "text that a person reads, and a feed of images",
}


def test_no_class_name_stands_twice() -> None:
    """One name, one thing."""
    found = collections.Counter(
        node.name
        for path in FILES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name for name, times in found.items() if times > 1} <= set(TWICE)


@pytest.mark.parametrize("file", TABLE["standard_library"]["alone"])
def test_the_command_line_needs_the_standard_library_alone(file: str) -> None:
    wanted, seen = [file], set()
    while wanted:
        one = wanted.pop()
        seen.add(one)
        assert not {name for name in IMPORTS[one] - set(FILES) if name not in sys.stdlib_module_names}, one
        wanted.extend(IMPORTS[one] & set(FILES) - seen)


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
        ("import hpcnas.search.session, hpcnas.analysis.replay", {"h5py"}),  # the controller: no torch
        ("import hpcnas.search.job, hpcnas.search.synthetic", set()),  # a worker: neither torch nor HDF5
        ("import hpcnas.command.summary, hpcnas.command.table1, hpcnas.command.merge", {"h5py"}),
        ("import hpcnas.command.verify, hpcnas.command.export, hpcnas.command.report", {"h5py"}),
        ("import hpcnas.command.predict", set()),  # until it is known what to classify
        ("import hpcnas.command.watch", {"h5py", "psutil"}),
        ("import hpcnas.training.trainer", set()),  # the child, until its life is tied to the worker's
        ("import hpcnas.training.trainer_loop", {"torch"}),  # the child: neither MPI nor HDF5
    ],
)
def test_processes_load_only_their_own_libraries(code: str, allowed: set[str]) -> None:
    assert loaded_by(code) <= allowed


def write_files() -> None:
    """Writes the table of files as it is."""
    before, _, _ = TABLES.read_text(encoding="utf-8").partition("[files]")
    rows = []
    for file in FILES:
        if not file.endswith("__init__"):
            names = ", ".join(f'"{name}"' for name in arrows(file))
            rows.append(f'"{file}" = [{names}]\n')
    TABLES.write_text(before + "[files]\n" + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    write_files()
