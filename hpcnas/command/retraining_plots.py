"""What `plot` draws of retrainings: the curves of several, and of one alone what it says of the test images too."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnas.analysis import retrainings, tested, training_curves
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.runs import AnalysisError
from hpcnas.analysis.tested import NoPredictions
from hpcnas.command import common

if TYPE_CHECKING:
    from hpcnas.analysis.figures.style import Figure

LEARNING = "learning-curves"
CONFUSION, MISTAKES = "confusion-matrix", "mistakes"
OF_TESTS = {
    CONFUSION: "which classes a retraining takes for which",
    MISTAKES: "the test images that a retraining got wrong with the highest probability",
}


def draw(folders: Sequence[Path], asked: Mapping[str, Path], *, as_json: bool) -> int:
    """Draws what was asked for, or else all that there is, and says where, or prints the numbers; the exit code."""
    found = [retrainings.load(folder) for folder in folders]
    all_there_is = not asked and not as_json
    files = dict(asked)
    if all_there_is:
        names = (LEARNING, *OF_TESTS) if len(found) == 1 else (LEARNING,)
        files = {name: Path(f"{name}.png") for name in names}
    shown = []
    if as_json or LEARNING in files:
        shown = training_curves.require_curves(found)
        common.tell_left_out((one.folder for one in found if one not in shown), "no row of its history is saved yet")
    drawn: dict[Path, Figure] = {}
    for name, path in files.items():
        try:
            drawn[path] = _figure(name, found, shown)
        except AnalysisError as why:
            if not all_there_is or name == LEARNING:
                raise
            if not isinstance(why, NoPredictions):
                print(why, file=sys.stderr)
    if drawn:
        from hpcnas.analysis.figures import style

        for path, figure in drawn.items():
            style.save(figure, path)
    if as_json:
        common.print_json([training_curves.numbers(one) for one in shown])
    else:
        for path in drawn:
            print(f"written: {path}")
    return 0


def _figure(name: str, found: Sequence[Found], shown: Sequence[Found]) -> Figure:
    """One of the pictures; `shown` are those of the retrainings that have curves. Raises AnalysisError where there is
    nothing to draw."""
    from hpcnas.analysis.figures import confusion, mistakes, training  # the numbers need no matplotlib

    if name == LEARNING:
        return training.training_curves_picture(shown)
    kept = tested.require(found[0])
    return confusion.confusion_of_trainings(kept) if name == CONFUSION else mistakes.mistakes_of_training(kept[0])
