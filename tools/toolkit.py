"""What the tools share: their common options, opening runs and genotypes, tables for the terminal, and JSON.

Runs are read through `hpcnas.search.run_file` alone: the last renamed file, also while the run goes on.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from hpcnas import plugins, search_path, text_file
from hpcnas.architecture import genotype
from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.architecture.space import Space
from hpcnas.evolution.population import Population
from hpcnas.job import terminal
from hpcnas.search import run_file
from hpcnas.search.run_file import StoredRun, StoreError

PICTURES = (".png", ".svg", ".pdf")


def parser(documentation: str | None, *, runs: str = "+") -> argparse.ArgumentParser:
    """A parser with the tool's documentation as help, `--json`, and RUN arguments: "+" for several, "1" for one, "" for
    none."""
    result = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    help = "folder of a run; it may be under way"
    if runs == "1":
        result.add_argument("run", type=Path, metavar="RUN", help=help)
    elif runs:
        result.add_argument("runs", type=Path, nargs=runs, metavar="RUN", help=help)
    result.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return result


def run(main: Callable[[], int]) -> int:
    """The exit code of a tool that is started by hand. What it prints steers no terminal; a reader that leaves early
    ends nothing. Runs are read without the plugins that nobody has named here, which is said once."""
    terminal.install()
    search_path.TOOLS.add(str(Path(__file__).resolve().parent))
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
    except (plugins.PluginError, plugins.PluginFault) as error:
        fail(str(error))
    sys.stdout.flush()
    lost = terminal.lost(sys.stdout)
    if lost is not None and lost.errno != errno.EPIPE:
        print(f"{Path(sys.argv[0]).stem}: expected to write the output: {lost.strerror}", file=sys.stderr)
        return exit_code or 1
    return exit_code


def fail(message: str) -> NoReturn:
    """Ends the tool for a mistake of its user: one line, exit code 2."""
    print(f"{Path(sys.argv[0]).stem}: {message}", file=sys.stderr)
    raise SystemExit(2)


def load(folder: Path) -> StoredRun:
    """The run in a folder; ends the tool with one line where there is none."""
    try:
        return run_file.read(folder)
    except StoreError as error:
        fail(str(error))


def individual(text: str) -> tuple[Path, StoredRun, int]:
    """Folder, run and id that `RUN` (its best) or `RUN:ID` names; ends the tool with one line where there is none."""
    folder, colon, number = text.rpartition(":")
    if not colon or not re.fullmatch(r"\d{1,18}", number) or Path(text).is_dir():
        folder, number = text, ""
    run = load(Path(folder))
    id = int(number) if number else run.population.best
    if id is None:
        fail(f"{folder}: no individual has been evaluated yet, so there is no best one")
    if not len(run.population):
        fail(f"{folder}: no individual has been born yet, so there is no {id}")
    if id >= len(run.population):
        fail(f"{folder}: expected an individual from 0 to {len(run.population) - 1}, got {id}")
    return Path(folder), run, id


def named_genotype(text: str) -> tuple[str, Genotype]:
    """What `RUN`, `RUN:ID`, `FILE.toml` or `paper` names, with a name for it; ends the tool where there is none."""
    path = Path(text)
    try:
        if text.endswith(".toml"):
            return path.stem, Genotype.from_text(text_file.read(path))
        if text == "paper" and not path.exists():
            return text, genotype.named(text)
    except (text_file.Unreadable, GenotypeError) as error:
        fail(f"{text}: {error}")
    folder, run, id = individual(text)
    return f"{folder.resolve().name}-{id}", run.population.individual(id).genotype


def spread(population: Population) -> np.ndarray:
    """Standard deviation of the accuracies that each fitness is the mean of, NaN where fewer than two are known: shape
    (individuals,)."""
    accuracies, count = population.column("accuracies"), population.column("replicates_trained")
    several = count > 1
    result = np.full(len(count), np.nan)
    result[several] = np.nanstd(accuracies[several], axis=1, ddof=1)
    repeats = population.column("repeats")
    shared = np.flatnonzero(repeats >= 0)
    for id in np.union1d(shared, repeats[shared]).tolist():
        pooled = population.pooled(id)
        result[id] = statistics.stdev(pooled) if len(pooled) > 1 else np.nan
    return result


def motif_name(space: Space, level: int, motif: int) -> str:
    """What a motif (from 0) is called: `cell`, `M3`, and `level-3 M2` where there are several levels of motifs."""
    if level == space.top:
        return "cell"
    return f"M{motif + 1}" if space.top == 3 else f"level-{level} M{motif + 1}"


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
