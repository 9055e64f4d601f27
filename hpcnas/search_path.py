"""Where Python may find modules: in no folder that merely happens to be the current one.

`python -m` and an empty part of PYTHONPATH put the folder in which a program is started before all others. Whoever
starts it inside a folder from somebody else would run the modules that lie there. A module counts as wanted from the
current folder where PYTHONPATH names that folder, or where it is installed. Standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

_PACKAGE = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))  # the folder that hpcnas lies in
TOOLS: set[str] = set()
"""Folders of scripts, which Python puts first: they hold parts of the program, never a plugin."""


def leave_out_current_folder() -> None:
    """Takes the current folder out of this process's search path: to be called before anything else is imported."""
    sys.path[:] = _wanted(sys.path)
    if "PYTHONPATH" in os.environ:  # also of the processes that it starts
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, os.environ["PYTHONPATH"].split(os.pathsep)))


def leave_out_folder_of(script: str) -> None:
    """Takes the folder of an installed script, which Python puts first, out of this process's search path: commands of
    all kinds lie there, and none of them is a module of this program."""
    if sys.path and not sys.flags.safe_path and _real(sys.path[0]) == os.path.dirname(_real(script)):
        del sys.path[0]


def leave_out_for_children() -> None:
    """Has the Python processes that this one starts put no folder first by themselves: neither the current one nor, so
    not for tools that start others, that of a script."""
    os.environ["PYTHONSAFEPATH"] = "1"


@contextlib.contextmanager
def for_plugins() -> Iterator[None]:
    """Within it, modules are looked for where plugins may lie."""
    before = list(sys.path)
    sys.path[:] = [part for part in _wanted(before) if _real(part) not in TOOLS]
    try:
        yield
    finally:
        sys.path[:] = before


def _wanted(path: list[str]) -> list[str]:
    """The path without the current folder, unless that is named or installed, or the program's own."""
    here, named = _real(""), os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here in {_PACKAGE, *(_real(part) for part in named if part)}:
        return [part for part in path if part] + ([here] if "" in path else [])
    library = _real(os.path.dirname(os.__file__))
    places = [_real(part) for part in path]
    first = places.index(library) if library in places else len(path)  # installed packages come after it
    return [part for number, part in enumerate(path) if places[number] != here or (part and number > first)]


def _real(part: str) -> str:
    try:
        return os.path.realpath(part)
    except OSError:  # the current folder has been removed
        return ""
