"""Modules are not searched for garbage, neither while they are imported nor when a program ends; other things are."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = """
import gc, weakref
from hpcnas import collector
class Cycle:
    def __init__(self):
        self.itself = self
with collector.spared_imports():
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 1000
seen = weakref.ref(Cycle())
gc.collect()
assert seen() is None
gc.disable()
with collector.spared_imports():
    pass
assert not gc.isenabled()
"""
PROGRAM = """
import atexit, gc, importlib, sys
atexit.register(lambda: print(gc.get_freeze_count() > 1000))
sys.argv[1:] = sys.argv[2:]
sys.exit(importlib.import_module(sys.orig_argv[3]).main())
"""


def test_garbage_is_collected_around_imports_and_not_within() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("hpcnas.command.__main__", ["summary", "--help"]), ("hpcnas.__main__", ["simulate", "--help"])],
)
def test_the_end_of_a_program_is_spared(module: str, arguments: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"
