"""Where Python looks for modules: not in a folder that merely happens to be the current one.

`python -m` and an empty part of PYTHONPATH put the current folder before all others. A person who starts the program
inside a folder from somebody else would then run the modules in it. The current folder stays on the path where
PYTHONPATH names it, or where it is a folder of installed packages. Imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

_PACKAGE = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir))  # the folder that hpcnas lies in
TOOLS: set[str] = set()
"""Folders of scripts, which Python puts first on the path: they hold parts of the program, never a plugin."""


def leave_out_current_folder() -> None:
    """Removes the current folder from this process's search path. Call it before anything else is imported."""
    sys.path[:] = _wanted(sys.path)
    if "PYTHONPATH" in os.environ:  # which the processes that it starts inherit
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, os.environ["PYTHONPATH"].split(os.pathsep)))


def leave_out_folder_of(script: str) -> None:
    """Removes the folder of an installed script, which Python puts first, from this process's search path: it holds
    commands of all kinds, and no module of this program."""
    if sys.path and not sys.flags.safe_path and _real(sys.path[0]) == os.path.dirname(_real(script)):
        del sys.path[0]


def leave_out_for_children() -> None:
    """Sets PYTHONSAFEPATH: Python processes that this one starts put neither the current folder nor a script's folder
    first."""
    os.environ["PYTHONSAFEPATH"] = "1"


@contextlib.contextmanager
def for_plugins() -> Iterator[None]:
    """Within it, Python looks for modules where plugins may lie: neither in the current folder nor among TOOLS."""
    before = list(sys.path)
    sys.path[:] = [part for part in _wanted(before) if _real(part) not in TOOLS]
    try:
        yield
    finally:
        sys.path[:] = before


def _wanted(path: list[str]) -> list[str]:
    """The path without the current folder, unless PYTHONPATH names it, packages are installed in it, or hpcnas lies in
    it."""
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
