"""How `watch` shows a retraining: one moment of it as text for the terminal, by rich. Reads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hpcnas.analysis.host_usage import Host
from hpcnas.analysis.retraining_snapshot import RetrainingSnapshot
from hpcnas.analysis.retrainings import mean_and_std
from hpcnas.command import retraining_view
from hpcnas.command.watch_parts import devices, expected_end, line, problems, progress, since, spark, title
from hpcnas.job.log import duration
from hpcnas.job.terminal import one_line

OF_CURVES = ("learning rate", "images/s", "waiting")  # columns that have a curve instead: a terminal is 80 wide
COLOURS = {"COMPLETE": "green", "TRAINING": "green", "DIVERGED": "red", "WAITING": "dim"}


def picture(seen: RetrainingSnapshot, host: Host, height: int | None) -> RenderableType:
    """The whole view; `height` lines at most, where it is given."""
    parts: list[RenderableType] = [_progress(seen), "", _devices(seen, host)]
    others = 12 + len(host.gpus) + len(seen.curves) + len(seen.problems)
    lines_left = None if height is None else max(2, height - others)
    parts += ["", _trainings(seen, lines_left)]
    if seen.curves:
        parts += ["", *_curves(seen)]
    return Group(*parts, *problems(seen.problems))


def _progress(seen: RetrainingSnapshot) -> RenderableType:
    """Counts, pace, and what was reached."""
    colour = "green" if seen.running or seen.state == "complete" else "yellow"
    runs = len(seen.facts["trainings"])
    counts = [f"{seen.complete} of {runs} trainings complete"]
    counts += [f"{seen.diverged} diverged"] if seen.diverged else []
    counts += [f"{seen.broken:,} broken images"] if seen.broken else []
    pace = [] if seen.images_per_second is None else [f"{seen.images_per_second:,.0f} images/s"]
    pace += [] if seen.input_wait is None else [f"waits for images {100 * seen.input_wait:.1f} %"]
    pace += [] if seen.remaining is None else [expected_end(seen.time, seen.remaining)]
    if seen.began is not None:
        counts.append(since(seen.time, seen.began, seen.sessions, seen.running))
    counts.append(f"saved {duration(max(0.0, seen.time - seen.saved))} ago")
    lines: list[RenderableType] = [
        progress(seen.steps_done, seen.steps, f"{seen.steps_done:,}/{seen.steps:,} steps", colour),
        line((" · ".join(counts), "")),
    ]
    if seen.running and pace:
        lines.append(line((" · ".join(pace), "")))
    if seen.test_accuracies:
        several = f" · mean of {seen.complete} trainings" if seen.complete > 1 else ""
        parameters = f" · {seen.facts['parameters']:,} parameters"
        told = mean_and_std(seen.test_accuracies)
        lines.append(line(("test accuracy ", ""), (told, f"bold {colour}"), (f"{several}{parameters}", "")))
    else:
        lines.append(line(("no training is complete yet", "dim")))
    over = title(seen.run, seen.state, colour)
    return Panel(Group(*lines), title=over, title_align="left", border_style="bright_black")


def _devices(seen: RetrainingSnapshot, host: Host) -> RenderableType:
    """This host; of the ranks it is known where the first one is."""
    here = seen.first_host == host.name
    others = f" and {seen.ranks - 1} more" if seen.ranks > 1 else ""
    remark = f" · rank 0{others} on {one_line(seen.first_host)}" if seen.first_host and not here else ""
    return devices(host, remark, lambda gpu: [0] if here and gpu.is_device(seen.first_device) else [])


def _trainings(seen: RetrainingSnapshot, lines_left: int | None) -> Table:
    """A row a training; where there is no room for all, those under way before those that have ended, and these before
    those that wait."""
    trainings: list[dict[str, Any]] = seen.facts["trainings"]
    shown = trainings
    if lines_left is not None and len(trainings) > lines_left:
        order = {"TRAINING": 0, "COMPLETE": 1, "DIVERGED": 1, "WAITING": 2}
        shown = sorted(trainings, key=lambda one: (order[one["state"]], -one["seed"]))[: max(1, lines_left - 1)]
    left_out = f"; {len(trainings) - len(shown)} more" if len(shown) < len(trainings) else ""
    table = Table(
        title=f"trainings{left_out}", title_justify="left", title_style="bold", box=None, header_style="dim",
        pad_edge=False,
    )  # fmt: skip
    columns = [number for number, name in enumerate(retraining_view.TRAINING) if name not in OF_CURVES]
    for number in columns:
        name = retraining_view.TRAINING[number]
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for one, row in zip(shown, retraining_view.rows(seen.facts | {"trainings": shown}), strict=True):
        style = {"state": COLOURS[one["state"]]}
        table.add_row(*(Text(str(row[number]), style.get(retraining_view.TRAINING[number], "")) for number in columns))
    return table


def _curves(seen: RetrainingSnapshot) -> Sequence[RenderableType]:
    """Curves of the training under way, from its first value to its last."""
    lines: list[RenderableType] = [line((f"seed {seen.shown}", "bold"))]
    for name, values in seen.curves.items():
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            first, last = (_told(name, end) for end in (finite[0], finite[-1]))
            curve = (spark(finite, 50), "cyan")
            lines.append(line((f"{name:<13} ", ""), (f"{first:>8} ", "dim"), curve, (f" {last}", "dim")))
    return lines


def _told(name: str, value: float) -> str:
    """A value of a curve in its unit."""
    if name == "images/s":
        return f"{value:,.0f}"
    return f"{100 * value:.1f} %" if name == "waiting" else f"{value:.4g}"
