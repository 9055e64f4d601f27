"""Pictures of runs: how the search went, what its networks cost, and how the workers fared.

search    the paper's Figure 3: the fitness of every individual, the best so far, and the parameters of the small
          network, each against the evolution step (the place in the order of evaluations)
pareto    fitness against parameters, or what else the search weighed, with the front: networks that no cheaper one
          equals
health    busy workers, and failed attempts by kind, over time
guidance  of a search by --strategy guided: the fitness that the model predicted of each individual that it chose,
          against what was measured, and their rank correlation along the run
learning-curves  of a search with --rungs: accuracy against the share of the steps, the final accuracy against that
          at each rung with the line between them, and with --early-stopping the floors of the rungs along the run; of
          retrainings: loss and accuracy on training and validation images, learning rate, images/s, and the share of
          the time spent waiting for images, against the step
figure4   the paper's Figure 4: the gain in accuracy over the first genotype against the evolution step, of the small
          networks and of the large ones in the retrainings that --retrainings names, one or more an individual; its
          title says where the first genotype is not a random one as the paper's

confusion-matrix  of a retraining: which classes are taken for which in the tests of all its trainings; of many classes
          the most confused
mistakes  of a retraining: the test images that its training of the least seed got wrong with the highest probability

Each is written to the file that its option names; without any, all but figure4 go to the current folder, guidance
where a model has chosen any individual, learning-curves where there are any. Several runs share the axes; of learning
curves each has its own. Where RUN are retrainings, they share the axes of learning-curves, and one alone has the last
two pictures as well, once a training is complete.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from hpcnas.analysis import curves, gains, retrainings
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.gains import Gains
from hpcnas.analysis.guidance import Guidance, Unguided
from hpcnas.analysis.rungs import LearningCurves, NoCurves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common, retraining_plots
from hpcnas.command.retraining_plots import LEARNING, OF_TESTS

Found = TypeVar("Found")

PICTURES = {
    "search": "fitness, best fitness and parameters against the evolution step (Figure 3)",
    "pareto": "fitness against what the search weighed, with the Pareto front",
    "health": "busy workers and failures over time",
    "guidance": "predicted and measured fitness, of --strategy guided",
    LEARNING: "accuracies on the way, and who was stopped early, of --rungs; curves of retrainings",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__)
    for picture, help in (PICTURES | OF_TESTS).items():
        parser.add_argument(f"--{picture}", type=common.picture_path, metavar="FILE", help=help)
    parser.add_argument("--figure4", type=common.picture_path, metavar="FILE", help="gain of small and large networks")
    parser.add_argument("--retrainings", type=Path, nargs="+", metavar="DIR", default=[], help="folders of retrainings")
    options = parser.parse_args(arguments)
    if options.figure4 and not options.retrainings:
        parser.error("--figure4: expected --retrainings DIR ... of individuals of the runs, among them the first one")
    if all(map(retrainings.is_one, options.runs)):
        if other := next((name for name in (*PICTURES, "figure4") if name != LEARNING and _asked(options, name)), None):
            parser.error(f"--{other}: expected folders of searches, got those of retrainings")
        asked = {name: path for name in (LEARNING, *OF_TESTS) if (path := _asked(options, name))}
        if len(options.runs) > 1 and (other := next((name for name in asked if name in OF_TESTS), None)):
            parser.error(f"--{other}: expected one retraining, got {len(options.runs)}")
        return retraining_plots.draw(options.runs, asked, as_json=options.json)
    if other := next((name for name in OF_TESTS if _asked(options, name)), None):
        parser.error(f"--{other}: expected the folder of a retraining")
    runs = runs_to_show(options.runs)
    gained = _gains(runs, options.retrainings) if options.retrainings else []
    named = {picture: _asked(options, picture) for picture in (*PICTURES, "figure4")}
    files = {picture: path for picture, path in named.items() if path}
    by_default = not files and not options.json
    guided, learned = dict[Path, Guidance](), dict[Path, LearningCurves]()
    if "guidance" in files or options.json or by_default:
        guided = _found(Guidance.of, Unguided, runs, aloud="guidance" in files)
    if "learning-curves" in files or options.json or by_default:
        learned = _found(LearningCurves.of, NoCurves, runs, aloud="learning-curves" in files)
    if by_default:
        absent = {"guidance": not guided, "learning-curves": not learned}
        files = {picture: Path(f"{picture}.png") for picture in PICTURES if not absent.get(picture)}
    if files:
        _draw(files, runs, gained, list(guided.values()), list(learned.values()))
    if options.json:
        told = [curves.numbers(run) for run in runs]
        for one, gain in zip(told, gained, strict=False):
            one["gains"] = [asdict(point) for point in gain.points]
            one["first_architecture"] = gain.first
        for one, run in zip(told, runs, strict=True):
            if run.folder in guided:
                one["guidance"] = guided[run.folder].numbers()
            if run.folder in learned:
                one["learning_curves"] = learned[run.folder].numbers()
        common.print_json(told)
    else:
        for path in files.values():
            print(f"written: {path}")
    return 0


def _asked(options: argparse.Namespace, picture: str) -> Path | None:
    """Where a picture is to go; None where it was not asked for."""
    path: Path | None = getattr(options, picture.replace("-", "_"))
    return path


def runs_to_show(folders: Sequence[Path]) -> list[Curves]:
    """Those with an evaluation; says which are left out. Raises AnalysisError where all are."""
    found = curves.of_runs(folders)
    common.tell_left_out((run.folder for run in found if not len(run.ids)), "no individual has been evaluated yet")
    return curves.require_evaluations(found)


def _gains(runs: Sequence[Curves], folders: Sequence[Path]) -> list[Gains]:
    """Those of the runs; says which retrainings are left out."""
    found = [retrainings.load(folder) for folder in folders]
    gained = gains.of_runs(runs, found)
    unfinished = [each for each in found if not each.stored.test_accuracies]
    for each in unfinished:
        why = "no training is complete, some have diverged" if each.stored.diverged else "no training is complete yet"
        common.tell_left_out([each.folder], why)
    return gained


def _found(
    of: Callable[[Curves], Found], none: type[AnalysisError], runs: Sequence[Curves], *, aloud: bool
) -> dict[Path, Found]:  # fmt: skip
    """Folder → what there is of each run; those of which there is `none` are left out, which is said if `aloud`."""
    found: dict[Path, Found] = {}
    for run in runs:
        try:
            found[run.folder] = of(run)
        except none as why:
            if aloud:
                common.tell_left_out([run.folder], str(why))
    return found


def _draw(
    files: dict[str, Path],
    runs: Sequence[Curves],
    gained: Sequence[Gains],
    guided: Sequence[Guidance],
    learned: Sequence[LearningCurves],
) -> None:
    """Writes each picture to its file, once all are drawn."""
    from hpcnas.analysis.figures import learning, search, style  # the numbers need no matplotlib

    figures = {
        "search": lambda: search.search_picture(runs),
        "pareto": lambda: search.pareto_picture(runs),
        "health": lambda: search.health_picture(runs),
        "guidance": lambda: search.guidance_picture(guided),
        "learning-curves": lambda: learning.learning_curves_picture(learned),
        "figure4": lambda: search.gain_picture(gained),
    }
    for figure, path in [(figures[picture](), path) for picture, path in files.items()]:
        style.save(figure, path)
