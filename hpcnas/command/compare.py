"""Compares searches: the best fitness, against evaluations and against worker time (GPU hours).

Runs that differ in nothing but their seed (and in what may change from start to start) are one group. A group is drawn
as the mean of its runs with the 95 % confidence band of that mean (Student's t), as far as all its runs have come;
thin lines are the single runs. Two runs make a very wide band: five are a better start.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpcnas.analysis import comparison, worker_time
from hpcnas.command import common
from hpcnas.command.plot import runs_to_show


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--output", type=common.picture_path, metavar="FILE", help="write the picture to this file")
    options = parser.parse_args(arguments)
    groups = comparison.grouped(runs_to_show(options.runs))
    if options.output:
        from hpcnas.analysis.figures import comparisons, style  # the table needs no matplotlib

        style.save(comparisons.comparison_picture(groups), options.output)
    found = comparison.numbers(groups)
    if options.json:
        common.print_json(found)
        return 0
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
    print(f"best: mean of the best fitness; to {goal:.4f}: evaluations and {hours} until the mean was as high")
    if options.output:
        print(f"written: {options.output}")
    return 0


def _half(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
