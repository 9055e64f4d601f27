"""A run and retrainings of its individuals, as Figure 4 compares them."""

from __future__ import annotations

from pathlib import Path

from toolruns import origin_of, retrained

from hpcnas.analysis import gains
from hpcnas.analysis import retrainings as stored
from hpcnas.analysis.curves import of_runs
from hpcnas.analysis.gains import Gains


def retrainings_of(run: Path, folder: Path) -> list[Path]:
    """Of individual 4 of an `eventful` run, of 0, and of 4 again, in the folder."""
    return [
        retrained(folder / "four", [0.875], origin_of(run, 4)),
        retrained(folder / "zero", [0.5, 0.75], origin_of(run, 0)),
        retrained(folder / "four-again", [1.0, 0.75], origin_of(run, 4), {"training": {"seed": 5}}),
    ]


def gains_of(runs: list[Path], retrainings: list[Path]) -> list[Gains]:
    """What is drawn of them."""
    return gains.of_runs(of_runs(runs), [stored.load(folder) for folder in retrainings])


def of(run: Path, retrainings: list[Path]) -> Gains:
    """What is drawn of a single run."""
    (found,) = gains_of([run], retrainings)
    return found
