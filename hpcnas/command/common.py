"""What the commands share: their common options, exit codes, tables for the terminal, and JSON.

A command parses its arguments, calls `analysis` once, and prints. What a person can mend ends it with one line and exit
code 2.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hpcnas import plugins, search_path
from hpcnas.errors import Error
from hpcnas.job import terminal

PICTURES = (".png", ".svg", ".pdf")


class HelpFormatter(argparse.HelpFormatter):
    """Of help that fits the terminal: paragraphs are filled one by one, and entries of lists (a word, two spaces and
    what it means) stay below one another."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_filled(paragraph, min(width, 100)) for paragraph in text.strip().split("\n\n"))


_ENTRY = re.compile(r" *\S+ {2,}")


def _filled(paragraph: str, width: int) -> str:
    """The paragraph, or the list, in lines of up to this width."""
    entries: list[str] = []
    for line in paragraph.splitlines():
        if entries and not _ENTRY.match(line):
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line)
    indents = [" " * len(start[0]) if (start := _ENTRY.match(entry)) else "" for entry in entries]
    return "\n".join(
        textwrap.fill(entry, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
        for entry, hanging in zip(entries, indents, strict=True)
    )


def parser(documentation: str | None, *, runs: str = "+", json: bool = True) -> argparse.ArgumentParser:
    """A parser with the command's documentation as help, `--json` unless it prints none, and RUN arguments: "+" for
    several, "1" for one, "" for none."""
    result = argparse.ArgumentParser(description=documentation, formatter_class=HelpFormatter)
    help = "folder of a run; it may be under way"
    if runs == "1":
        result.add_argument("run", type=Path, metavar="RUN", help=help)
    elif runs:
        result.add_argument("runs", type=Path, nargs=runs, metavar="RUN", help=help)
    if json:
        result.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return result


def run(main: Callable[[], int]) -> int:
    """The exit code of a command that is started by hand. What it prints steers no terminal; a reader that leaves early
    ends nothing. Runs are read without the plugins that nobody has named here, which is said once."""
    terminal.install()
    search_path.TOOLS.add(str(Path(sys.argv[0]).resolve().parent))
    search_path.leave_out_current_folder()
    told: set[str] = set()

    def tell(names: list[str]) -> None:
        if new := [name for name in names if name not in told]:
            told.update(new)
            listing = ",".join(new)
            print(
                f"{Path(sys.argv[0]).stem}: read without the plugins {listing}, which the run names: "
                f"{plugins.VARIABLE}={listing} loads them, if you trust that code",
                file=sys.stderr,
            )

    try:
        plugins.load(os.environ.get(plugins.VARIABLE))  # for genotypes of files too, which name no plugin
        with plugins.done_without(tell):
            exit_code = main()
    except (Error, plugins.PluginError, plugins.PluginFault) as error:
        fail(str(error))
    except SystemExit as ended:  # argparse has printed the help, or what is wrong
        exit_code = ended.code if isinstance(ended.code, int) else 1
    return terminal.arrived(Path(sys.argv[0]).stem, exit_code)


def fail(message: str) -> NoReturn:
    """Ends the command for a mistake of its user: one line, exit code 2."""
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    raise SystemExit(2)


def tell_left_out(folders: Iterable[Path], reason: str) -> None:
    """Says on standard error of which folders the output says nothing, and why."""
    for folder in folders:
        print(f"{folder}: {reason}: left out", file=sys.stderr)


def picture_path(text: str) -> Path:
    """An argparse type: a file name that ends like a picture that matplotlib writes."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"expected a file ending with {', '.join(PICTURES)}, got {text!r}")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns: numbers (also as text, such as 1,234 or +0.5) to the right, words to the left; what a terminal
    would obey, and what no encoding takes, as backslashes and digits."""
    texts = [[terminal.one_line(str(cell)) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    numeric = [all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    lines = []
    for row in texts:
        cells = zip(row, widths, numeric, strict=True)
        lines.append("  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in cells).rstrip())
    return "\n".join(lines)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) or re.fullmatch(r"[-+]?[\d,.]+|-|", str(cell)) is not None


def print_json(value: Any) -> None:
    """The value on standard output; NaN and infinity, which JSON does not know, as null."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
