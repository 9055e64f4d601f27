"""How the figures look, and how they are written: PNG, SVG or PDF by matplotlib. Draws nothing by itself.

A function with `@in_house_style` makes its figure with STYLE and leaves matplotlib's settings as they were. Figures are
made without pyplot: no display, no global list of open figures, nothing to close. Colours are those of Okabe and Ito,
which colour-blind people tell apart too; motifs have light ones to write upon (P. Tol's "light").

The one door to matplotlib: other files of this room import its classes from here, so that a missing matplotlib is told
of in one place.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec

from hpcnas.analysis import needs
from hpcnas.analysis.runs import AnalysisError
from hpcnas.config.measures import FitnessMeasure
from hpcnas.job import terminal
from hpcnas.storage.output import write_output

with needs.packages("the pictures"):
    import matplotlib
    import matplotlib.path
    from matplotlib.axes import Axes as Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure as Figure
    from matplotlib.lines import Line2D as Line2D
    from matplotlib.patches import Circle as Circle
    from matplotlib.patches import FancyArrowPatch as FancyArrowPatch
    from matplotlib.patches import FancyBboxPatch as FancyBboxPatch
    from matplotlib.patches import PathPatch as PathPatch
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter
    from matplotlib.ticker import MaxNLocator as MaxNLocator

Outline = matplotlib.path.Path  # a Path is a file's

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

STYLE: dict[Any, Any] = {
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

Arguments = ParamSpec("Arguments")


def in_house_style(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorates a function that makes a figure: it draws with STYLE, and matplotlib's settings are then as before.

    Names of runs may hold what no font has, such as bytes that are not UTF-8: backslashes and digits stand for them."""

    @functools.wraps(draw)
    def drawn(*arguments: Arguments.args, **named: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            figure = draw(*arguments, **named)
            for axes in figure.axes:
                for axis in (axes.xaxis, axes.yaxis):
                    axis.get_major_ticks(1)  # made now, in this style; matplotlib makes the others like the first
            for text in figure.findobj(Text):
                if (shown := terminal.printable(text.get_text())) != text.get_text():
                    text.set_text(shown)
        return figure

    return drawn


def require_some(drawn: Sequence[object]) -> None:
    """Raises AnalysisError where there is none."""
    if not drawn:
        raise AnalysisError("there is nothing to draw")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, on white; its panels leave room for a legend outside of them."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Figure, path: Path) -> None:
    """Writes the picture as the file's name says. The same figure gives the same file, byte for byte.

    Raises AnalysisError where it cannot be written.
    """
    picture = io.BytesIO()
    dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix.lower())
    try:
        with matplotlib.rc_context(STYLE):
            figure.savefig(picture, format=path.suffix[1:] or None, metadata={dated: None} if dated else None)
        write_output(path, picture.getvalue())
    except (OSError, ValueError) as error:  # a name with a null character in it, say
        raise AnalysisError(f"expected to write {path}: {getattr(error, 'strerror', None) or error}") from error


def as_svg(figure: Figure) -> str:
    """The picture as an SVG document without a date, for a page: its background lets the page's through, its texts stay
    texts, and what is drawn as dots has 220 of them an inch."""
    buffer, alpha = io.StringIO(), figure.patch.get_alpha()
    figure.patch.set_alpha(0.0)
    try:
        with matplotlib.rc_context({**STYLE, "svg.fonttype": "none"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # whoever shows the page has them
            figure.savefig(buffer, format="svg", dpi=220, metadata={"Date": None, "Creator": None})
    finally:
        figure.patch.set_alpha(alpha)  # the figure is as it was
    return buffer.getvalue()


def lighter(colour: str, share: float = 0.3) -> tuple[float, ...]:
    """Red, green and blue from 0 to 1 of that share of a colour, the rest white."""
    return tuple(1.0 - share * (1.0 - part) for part in to_rgb(colour))


def write_in_percent(axis: Axis) -> None:
    """Writes an axis of fitness, whose values are shares, in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))


def write_fitness(axis: Axis, measure: FitnessMeasure) -> None:
    """Writes an axis of fitness in its unit."""
    if measure.percent:
        write_in_percent(axis)


def write_powers(axis: Axis) -> None:
    """Writes the powers of ten of a logarithmic axis as numbers: in STYLE no text is mathematics."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def write_in_thousands(axis: Axis, name: str, most: float) -> None:
    """Labels an axis of numbers up to `most`, in millions or, where those are few, in thousands."""
    unit, size = ("millions", 1e6) if most >= 1e5 else ("thousands", 1e3)
    axis.set_label_text(f"{name} ({unit})")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:.4g}"))
