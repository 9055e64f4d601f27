"""Scripts in tools/ are the commands of the package: each imports one, and starts it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnas.command.__main__ import COMMANDS

TOOLS = Path(__file__).parent.parent.parent / "tools"
SCRIPTS = sorted(path for path in TOOLS.glob("*.py") if not path.stem.startswith("bench_"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_tool_starts_one_command_and_does_nothing_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env python3\n")
    docstring, *imports, start = ast.parse(text).body
    assert isinstance(docstring, ast.Expr)
    assert {ast.unparse(one) for one in imports} == {
        "import sys",
        f"from hpcnas.command import {', '.join(sorted(['common', path.stem]))}",
    }
    assert ast.unparse(start) == (f"if __name__ == '__main__':\n    sys.exit(common.run({path.stem}.main))")


def test_every_tool_is_a_command() -> None:
    commands = {name for group in COMMANDS.values() for name in group}
    assert {path.stem.replace("_", "-") for path in SCRIPTS} <= commands


def test_a_tool_says_its_own_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOOLS / "summary.py", tmp_path], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"summary: expected a run in {tmp_path}, but there is no population.h5\n"
