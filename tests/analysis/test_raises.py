"""Whoever imports `hpcnas.analysis` gets values and exceptions: nothing there prints, or ends the process."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hpcnas.analysis

ROOM = Path(hpcnas.analysis.__file__).parent
ENDS = {"print", "exit", "quit", "SystemExit", "sys.exit", "os._exit", "sys.stdout", "sys.stderr", "warnings.warn"}


def forbidden(text: str) -> set[str]:
    """What of ENDS a file names."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name | ast.Attribute)]
    return {ast.unparse(node) for node in nodes} & ENDS


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOM)))
def test_nothing_is_printed_and_nothing_ends(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8")) == set()


def test_what_is_forbidden_is_seen() -> None:
    assert forbidden("import sys\nprint(1)\nsys.exit(sys.argv)") == {"print", "sys.exit"}
    assert forbidden("raise SystemExit(2)") == {"SystemExit"}
