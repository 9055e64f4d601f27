"""A small run with a bit of everything, each of its values changed in every way that a value can be wrong, and tools
called in this process: for `test_bad_values`."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcnas.config import search as search_config
from hpcnas.errors import Error
from hpcnas.search import simulation


def small_run(folder: Path) -> Path:
    """Founders aside, everything: repeats, failed attempts, mutations; all are settled."""
    settings = search_config.build(
        {"search": {"space": "2x3/1x3", "budget": 24, "initial_population": 6, "initial_mutations": 20}},
        {"search": {"duplicates": "average"}, "training": {"replicates": 2}},
        {"evaluation": {"evaluator": "synthetic", "synthetic_crashes": 0.2, "synthetic_nans": 0.05}},
    )
    simulation.simulate(settings, simulation.Site(3, 0.0, 0.0, 0.0), folder)
    return folder


@dataclass(frozen=True)
class Change:
    """One place of an HDF5 file, and what it is to hold."""

    dataset: str  # or ATTRIBUTE@
    row: int | None
    value: Any

    def __str__(self) -> str:
        return f"{self.dataset}[{'' if self.row is None else self.row}] = {self.value!r:.40}"

    def make(self, path: Path) -> None:
        with h5py.File(path, "r+") as file:
            if self.dataset.endswith("@"):
                file.attrs[self.dataset[:-1]] = np.bytes_(self.value) if isinstance(self.value, bytes) else self.value
            elif self.row is None:
                file[self.dataset][()] = self.value
            else:
                file[self.dataset][self.row] = self.value


def wrong_numbers(dtype: np.dtype) -> list[Any]:
    """Values of a type that hardly any column takes."""
    if dtype.kind == "f":
        return [np.inf, -np.inf, np.nan, -1.0, 99.0, 1e300]
    if dtype.kind in "iu":
        kind = np.iinfo(dtype)
        return [number for number in (-1, -7, 0, 1, 99, 255, 10**9, int(kind.max)) if kind.min <= number <= kind.max]
    return [b"\xff", b"", b"{", b"\x1b[2J", b"[" * (dtype.itemsize - 1)]


def changes(path: Path) -> Iterator[Change]:
    """Every dataset and attribute of a file, in its first row, one in the middle and the last."""
    with h5py.File(path) as file:
        found: dict[str, Any] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        for name, dataset in found.items():
            rows = [None] if dataset.ndim == 0 else sorted({0, len(dataset) // 2, len(dataset) - 1})
            for row in rows if dataset.ndim == 0 or len(dataset) else []:
                yield from (Change(name, row, value) for value in wrong_numbers(dataset.dtype))
        for name, value in file.attrs.items():
            yield from (Change(f"{name}@", None, wrong) for wrong in wrong_numbers(np.asarray(value).dtype))


@dataclass(frozen=True)
class Said:
    """How a tool has ended."""

    code: int
    output: str
    errors: str


def tool(name: str, *arguments: object) -> Said:
    """A command's main, here; whatever it raises is raised, but for an exit and for what a person can mend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        output, errors = io.StringIO(), io.StringIO()
        code: int | str | None
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                code = importlib.import_module(f"hpcnas.command.{name}").main()
            except SystemExit as exit:
                code = exit.code
            except Error as error:
                print(f"{name}: {error}", file=sys.stderr)
                code = 2
    return Said(0 if code is None else int(code), output.getvalue(), errors.getvalue())
