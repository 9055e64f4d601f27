"""Made-up tables of a few architectures, written like those of `analysis.benchmark_tables`."""

from __future__ import annotations

from pathlib import Path

from hpcnas.analysis.benchmark_tables import Benchmark, Layout, read
from hpcnas.architecture.space import Space

CELLS = Layout(
    "cells", Space.parse("1x3:sep,id"), bytes([0, 6, 3]), (0, 1, 2), ("accuracy",), (), (), (), "the authors of cells"
)
RISING = Layout(
    "rising", Space.parse("1x3:sep,id"), bytes([0, 6, 3]), (0, 1, 2), ("accuracy",), (),
    ((0.1, "soon"), (0.5, "half")), (), "the authors of rising",
)  # fmt: skip
CHAINS = Layout(
    "chains", Space.parse("1x3:sep,id"), bytes([6, 3]), (0, 2), ("first", "second"), ("first", "second"), (),
    ("parameters", "flops"), "the authors of chains",
)  # fmt: skip

CHAIN_ROWS = ["00,50,52,10,100", "01,60,64,20,200", "10,61,61,30,300", "11,70,80,40,400"]


def cell_rows() -> list[str]:
    """Of 27 cells; the more convolutions, the better."""
    names = [f"{a}{b}{c}" for a in "012" for b in "012" for c in "012"]
    return [f"{name},{50 + 10 * name.count('2') + name.count('1')}" for name in names]


def write_cells(folder: Path, rows: list[str] | None = None, header: str = "architecture,accuracy") -> Path:
    """The file of the table of cells, as text."""
    path = folder / "cells.csv"
    path.write_text("\n".join([header, *(cell_rows() if rows is None else rows)]) + "\n")
    return path


def cells(folder: Path) -> Benchmark:
    write_cells(folder)
    return read(CELLS, folder)


def rising(folder: Path) -> Benchmark:
    """The cells, with accuracies on the way of which the second says more."""
    rows = [f"{row},{20 + number % 5},{float(row.partition(',')[2]) / 2}" for number, row in enumerate(cell_rows())]
    (folder / "rising.csv").write_text("\n".join(["architecture,accuracy,soon,half", *rows]) + "\n")
    return read(RISING, folder)


def chains(folder: Path) -> Benchmark:
    lines = ["architecture,first,second,parameters,flops", *CHAIN_ROWS]
    (folder / "chains.csv").write_text("\n".join(lines) + "\n")
    return read(CHAINS, folder)
