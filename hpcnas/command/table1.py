"""The paper's Table 1 with your retrainings: their test errors beside the published ones.

Retrainings of genotypes that were found in the same way, on the same data and by the same recipe make one row: mean and
standard deviation of the test error over all complete trainings; those that diverged are counted and not among them. A
retraining may be under way. A published error stands only beside what was found and trained as the paper's was; the
column recipe says what else was done: other settings, batch statistics of fewer images than a step has, numbers that
are not fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcnas.analysis import retrainings
from hpcnas.analysis.table1 import IMAGENET, rows
from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("retrainings", type=Path, nargs="+", metavar="RETRAINING", help="folder of a retraining")
    options = parser.parse_args(arguments)
    show(options.retrainings, as_json=options.json)
    return 0


def show(folders: Sequence[Path], as_json: bool) -> None:
    """Prints the table, for people or as JSON. Raises AnalysisError where a folder holds no retraining."""
    found = rows([retrainings.load(folder) for folder in folders])
    if as_json:
        common.print_json(found)
    else:
        print(beside_the_paper(found))


def beside_the_paper(found: Sequence[dict[str, Any]]) -> str:
    """Table 1, errors in percent."""
    header = ("data", "representation", "search", "c0", "parameters", "seeds", "test error %", "the paper's", "recipe")
    cells = [
        (row["data"], row["representation"], row["search"], row["channels"],
         "-" if row["parameters"] is None else f"{row['parameters']:,}", _seeds(row), _error(row),
         row["paper"] or "-", row["departures"] or "the paper's")
        for row in found
    ]  # fmt: skip
    return common.table(header, cells)


def _seeds(row: dict[str, Any]) -> str:
    if row["diverged"]:
        return f"{row['seeds']}, {row['diverged']} diverged"
    return str(row["seeds"] or "-")


def _error(row: dict[str, Any]) -> str:
    if row["error"] is None:
        return "-"
    spread = "" if row["error_std"] is None else f" ± {row['error_std']:.2f}"
    top5 = f" / {row['top5_error']:.1f}" if row["data"] == IMAGENET and row["top5_error"] is not None else ""
    return f"{row['error']:.2f}{spread}{top5}"
