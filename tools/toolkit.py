"""What the tools share: their common options, opening runs, tables for the terminal, and JSON.

Runs are read through `hpcnas.runfile` alone: the last renamed file, also while the run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hpcnas import runfile
from hpcnas.runfile import StoredRun, StoreError

PICTURES = (".png", ".svg", ".pdf")


def parser(documentation: str | None, *, runs: str = "+") -> argparse.ArgumentParser:
    """A parser with the tool's documentation as help, `--json`, and RUN arguments: "+" for several, "1" for one."""
    result = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    help = "folder of a run; it may be under way"
    if runs == "1":
        result.add_argument("run", type=Path, metavar="RUN", help=help)
    else:
        result.add_argument("runs", type=Path, nargs=runs, metavar="RUN", help=help)
    result.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return result


def fail(message: str) -> NoReturn:
    """Ends the tool for a mistake of its user: one line, exit code 2."""
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    raise SystemExit(2)


def load(folder: Path) -> StoredRun:
    """The run in a folder; ends the tool with one line where there is none."""
    try:
        return runfile.read(folder)
    except StoreError as error:
        fail(str(error))


def picture_path(text: str) -> Path:
    """An argparse type: a file name that ends like a picture that matplotlib writes."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"expected a file ending with {', '.join(PICTURES)}, got {text!r}")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns: numbers to the right, words to the left."""
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    numeric = [all(isinstance(row[column], int | float) for row in rows) for column in range(len(header))]
    lines = []
    for row in texts:
        cells = zip(row, widths, numeric, strict=True)
        lines.append("  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in cells).rstrip())
    return "\n".join(lines)


def print_json(value: Any) -> None:
    """The value on standard output; NaN, which JSON does not know, as null."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and value != value:
        return None
    return value
