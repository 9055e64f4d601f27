"""How the tools' pictures look, and how they are written: PNG, SVG or PDF by matplotlib. Draws nothing by itself.

Figures are made without pyplot: no display, no global list of open figures, nothing to close. Colours are those of
Okabe and Ito, told apart by everybody, colour-blind or not; motifs have light ones to write upon (P. Tol's "light").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import toolkit

try:
    import matplotlib
    from matplotlib.axis import Axis
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter
except ImportError as error:
    toolkit.fail(f"expected matplotlib for the pictures, but {error}: pip install matplotlib")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#8C6D31")
INK, PALE = "#222222", "#A8A8A8"
OPERATION_COLOURS = {
    "1x1": "#E69F00",
    "dw": "#56B4E9",
    "sep": "#0072B2",
    "max": "#D55E00",
    "avg": "#CC79A7",
    "id": "#7A7A7A",
}
LIGHT = ("#66CCAA", "#EE9977", "#EEDD88", "#FFAABB", "#99DDFF", "#BBCC33", "#77AADD", "#CCCCCC")

STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a run's name is a dollar
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": INK,
    "axes.edgecolor": "#777777",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "pdf.fonttype": 42,
    "svg.hashsalt": "hpcnas",  # the same picture is the same file
}


def figure(width: float, height: float) -> Figure:
    """An empty figure in the tools' style, in inches."""
    matplotlib.rcParams.update(STYLE)
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: Path) -> None:
    """Writes the picture, as its file's name says; ends the tool with one line where that cannot be."""
    dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix.lower())
    try:
        figure.savefig(path, metadata={dated: None} if dated else None)
    except OSError as error:
        toolkit.fail(f"expected to write {path}: {error.strerror}")


def lighter(colour: str, share: float = 0.3) -> tuple[float, ...]:
    """That share of a colour, the rest white."""
    return tuple(1.0 - share * (1.0 - part) for part in to_rgb(colour))


def percent(axis: Axis) -> None:
    """Writes an axis of fitness, whose values are shares, in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def numbers(axis: Axis, name: str, most: float) -> None:
    """Labels an axis of numbers up to `most`, in millions or, where those are few, in thousands."""
    unit, size = ("millions", 1e6) if most >= 1e5 else ("thousands", 1e3)
    axis.set_label_text(f"{name} ({unit})")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:.4g}"))
