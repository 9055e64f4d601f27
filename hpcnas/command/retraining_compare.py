"""What `compare` says of retrainings: a table of groups, another of what their recipes differ in, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcnas.analysis import retraining_comparison, training_curves
from hpcnas.analysis.retrainings import Found
from hpcnas.command import common
from hpcnas.job.log import duration


def show(found: Sequence[Found], output: Path | None, as_json: bool) -> None:
    """Prints the tables, for people or as JSON, and draws the curves. Raises AnalysisError where a retraining is given
    twice, and where there is no curve to draw."""
    groups = retraining_comparison.grouped(found)
    if output:
        from hpcnas.analysis.figures import style, training  # the tables need no matplotlib

        style.save(training.compared_curves_picture(groups), output)
        without = [each.folder for each in found if not training_curves.seeds_with_curves(each.stored)]
        common.tell_left_out(without, "no row of its history is saved yet")
    numbers = retraining_comparison.numbers(groups)
    if as_json:
        common.print_json(numbers)
        return
    print(text(numbers))
    if output:
        print(f"written: {output}")


def text(numbers: dict[str, Any]) -> str:
    """What `retraining_comparison.numbers` has found, for the terminal; accuracies in percent."""
    groups, step = numbers["groups"], numbers["validation_step"]
    validation = [] if step is None else [f"validation % at {step:,}"]
    top5 = ["top 5 %"] if any(group["test_top5"] is not None for group in groups) else []
    header = ("group", "trainings", "parameters", "MFLOPs", "test %", "std", "± 95 %", "difference", "± 95 %",
              *top5, *validation, "time")  # fmt: skip
    rows = [
        (group["label"], _trainings(group), f"{group['parameters']:,}", f"{group['flops'] / 1e6:,.1f}",
         *(_percent(group[name]) for name in ("test_accuracy", "test_accuracy_std", "test_accuracy_half")),
         _percent(group["difference"], "+.2f"), _percent(group["difference_half"]),
         *(_percent(group["test_top5"]) for _ in top5), *(_percent(group["validation_accuracy"]) for _ in validation),
         "-" if group["training_seconds"] is None else duration(group["training_seconds"]))
        for group in groups
    ]  # fmt: skip
    parts = [common.table(header, rows)]
    if numbers["differences"]:
        header = ("differs", *(group["label"] for group in groups))
        parts.append(common.table(header, [(one["setting"], *one["values"]) for one in numbers["differences"]]))
    lines = [f"note: {remark}" for remark in numbers["remarks"]]
    lines.append("test %: mean of the complete trainings; time: that a complete one took on its ranks")
    if len(groups) > 1:
        lines.append(f"difference: of the means, from {groups[0]['label']}; with 95 % confidence it lies within ±")
    return "\n\n".join([*parts, "\n".join(lines)])


def _trainings(group: dict[str, Any]) -> str:
    """How many are complete, of how many, and how many diverged."""
    diverged = f", {group['diverged']} diverged" if group["diverged"] else ""
    return f"{group['complete']} of {group['trainings']}{diverged}"


def _percent(share: float | None, form: str = ".2f") -> str:
    return "-" if share is None or share != share else format(100 * share, form)
