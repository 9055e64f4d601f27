"""Compares searches: the best fitness, against evaluations and against worker time (GPU hours). Or retrainings: what
their recipes differ in, their sizes, and their test accuracies.

Runs that differ in nothing but their seed (and in what may change from start to start) are one group. A group of
searches is drawn as the mean of its runs with the 95 % confidence band of that mean (Student's t), as far as all its
runs have come; thin lines are the single runs. Two runs make a very wide band: five are a better start.

Of retrainings each row is compared with the first: the difference of mean test accuracies, with its 95 % confidence
interval (Welch's t), over the seeds that are complete. The picture has their curves, a colour for each group.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import comparison, curves, retrainings, worker_time
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common, retraining_compare
from hpcnas.command.plot import runs_to_show
from hpcnas.search import run_file


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--output", type=common.picture_path, metavar="FILE", help="write the picture to this file")
    options = parser.parse_args(arguments)
    if any(map(retrainings.is_one, options.runs)):
        _require_no_search(options.runs)
        retraining_compare.show([retrainings.load(folder) for folder in options.runs], options.output, options.json)
    else:
        _show_searches(options.runs, options.output, options.json)
    return 0


def _require_no_search(folders: Sequence[Path]) -> None:
    """Raises AnalysisError where one of them is a search."""
    if search := next((folder for folder in folders if run_file.exists(folder)), None):
        other = next(filter(retrainings.is_one, folders))
        raise AnalysisError(
            f"expected searches or retrainings, got both: {search} is a search and {other} a retraining, whose "
            "accuracies are of other networks and other images"
        )


def _show_searches(folders: Sequence[Path], output: Path | None, as_json: bool) -> None:
    """Prints the table of searches, for people or as JSON, and draws them."""
    groups = comparison.grouped(runs_to_show(folders))
    if output:
        from hpcnas.analysis.figures import comparisons, style  # the table needs no matplotlib

        style.save(comparisons.comparison_picture(groups), output)
    measure = curves.one_measure([run for group in groups for run in group.runs])
    found = comparison.numbers(groups)
    if as_json:
        common.print_json(found)
        return
    hours = worker_time.hours_name(comparison.on_gpus(groups))
    least, goal = found["common_evaluations"], found["common_fitness"]
    header = ("group", "runs", "evaluations", "best", "± 95 %", f"at {least}", "± 95 %", f"to {goal:.4f}", hours)
    rows = [
        (group["label"], len(group["runs"]), group["evaluations"], f"{group['best']:.4f}", _half(group["best_half"]),
         f"{group['at_common']:.4f}", _half(group["at_common_half"]),
         f"{group['evaluations_to_common']:,.0f}", f"{group['hours_to_common']:,.3f}")
        for group in found["groups"]
    ]  # fmt: skip
    print(common.table(header, rows))
    if any(run.stored.population.stopped for group in groups for run in group.runs):
        print(f"evaluations leave out what was stopped early; {hours} count it")
    if measure.remark:
        print(f"fitness: {measure.remark}")
    print(f"best: mean of the best fitness; to {goal:.4f}: evaluations and {hours} until the mean was as high")
    if output:
        print(f"written: {output}")


def _half(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
