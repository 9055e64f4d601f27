"""HDF5 files, a published format: what population.h5 and retrain.h5 have in common.

    / attributes     format, format_version, hpcnas_version, run
    /TABLE/COLUMN    one dataset a column (`columns.Column`), with its description and its unit

Files are made in memory and put in place as a whole. What is read may be damaged, of another program, or point at other
files; none of that is trusted. Files of other people are `hdf5_arrays`' business, and what the tables mean that of
`search.run_file` and `retrain.record_file`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import Group as Group

from hpcnas import __version__
from hpcnas.storage.columns import Column
from hpcnas.storage.folder import StoreError

CHUNK = 1 << 17  # bytes
DAMAGE = (OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, MemoryError)
"""What h5py, JSON and checks of values raise on damaged bytes."""


@dataclass(frozen=True)
class Format:
    """What a file says of itself, so that no other one is read in its place."""

    name: str
    version: int


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def image(form: Format, run: str, fill: Callable[[Group], object]) -> bytes:
    """The bytes of a file of that format and run, whose content `fill` writes. Made in memory: HDF5 that meets a full
    disk while it writes can crash the process."""
    memory = io.BytesIO()  # HDF5's own driver for memory would hold them twice
    with h5py.File(memory, "w") as file:
        file.attrs["format"] = np.bytes_(form.name)
        file.attrs["format_version"] = form.version
        file.attrs["hpcnas_version"] = np.bytes_(__version__)
        file.attrs["run"] = np.bytes_(run)
        fill(file)
    return memory.getvalue()  # no copy, and no view of it: Python 3.12 crashes where it collects both as garbage


def write_table(group: Group, columns: Sequence[Column], values: Mapping[str, Any]) -> None:
    """One dataset a column, from values by its name: arrays or lists of one length."""
    for column in columns:
        array = np.asarray(values[column.name], dtype=column.dtype)
        kind: Any = array.dtype
        if column.values is not None:
            names = {"NONE": 0} | {item.name: int(item) for item in column.values}
            kind = h5py.enum_dtype(names, basetype=column.dtype)
        write_dataset(group, column.name, array, column.description, column.unit, kind)


def write_dataset(group: Group, name: str, data: Any, description: str, unit: str = "", kind: Any = None) -> None:
    """A dataset with its two attributes; arrays with checksums. `kind`: its HDF5 type, if not the data's own."""
    checked: dict[str, Any] = {}
    if np.ndim(data) > 0 and np.size(data) > 0:  # HDF5 checks nothing by itself, and by chunks alone
        checked = {"fletcher32": True, "chunks": _chunks(np.asarray(data))}
    dataset = group.create_dataset(name, data=data, dtype=kind, **checked)
    dataset.attrs["description"] = np.bytes_(description)
    dataset.attrs["unit"] = np.bytes_(unit)


def _chunks(data: np.ndarray) -> tuple[int, ...]:
    """Whole rows, as many as CHUNK has room for. h5py's own chunks are a quarter as large: a run of 1,000,000
    individuals takes twice as long to read with them, and half as long again to write."""
    row = max(1, data.nbytes // len(data))
    return (max(1, min(len(data), CHUNK // row)), *data.shape[1:])


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@contextlib.contextmanager
def opened(path: Path, form: Format) -> Iterator[Group]:
    """A file of that format, to be read, also while another process renews it. Raises StoreError for one of another
    format, and one of DAMAGE for what is none or points at other files."""
    with h5py.File(path, "r", locking=False) as file:
        _refuse_other_files(file)
        name, version = file.attrs.get("format", b""), file.attrs.get("format_version", 0)
        if name != form.name.encode():
            found = name.decode(errors="replace") if isinstance(name, bytes) else name
            raise StoreError(f"{path}: expected the format {form.name!r}, got {found!r}")
        if version != form.version:
            raise StoreError(
                f"{path}: expected format version {form.version}, got {version}; "
                f"use hpcnas {bytes(file.attrs['hpcnas_version']).decode()}, which wrote it"
            )
        yield file


def _refuse_other_files(group: Group) -> None:
    """Raises ValueError for what does not lie in this file: it may have been made to point at others."""
    for name in group.id:  # not by h5py's own classes, which take several times as long: a run is read often
        place = f"{group.name.rstrip('/')}/{name.decode(errors='replace')}"
        if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"expected {place} itself, got a link")
        item = h5py.h5o.open(group.id, name)
        if isinstance(item, h5py.h5d.DatasetID):
            made = item.get_create_plist()
            if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count() > 0:
                raise ValueError(f"expected {place} in this file, but it lies in another one")
        if isinstance(item, h5py.h5g.GroupID) and group.name == "/":  # no group of ours has groups
            _refuse_other_files(Group(item))


def read_tables(file: Group, tables: Mapping[str, Sequence[Column]]) -> dict[str, dict[str, np.ndarray]]:
    """The columns of each table as the file has them, unchecked; without those that were added since it was written.
    A table of which none is wanted need not be there. Raises one of DAMAGE."""
    return {table: _read_table(file[table], columns) if columns else {} for table, columns in tables.items()}


def _read_table(group: Group, columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """A column that every version has written is expected, and its absence damage."""
    there = (column.name for column in columns if not column.added or column.name in group)
    return {name: group[name][()] for name in there}


def run_in(image: bytes) -> str | None:
    """The run's own name in the bytes of a file; None where they are none that can be read."""
    try:
        with h5py.File(io.BytesIO(image), "r") as file:
            return bytes(file.attrs["run"]).decode()
    except (OSError, LookupError, TypeError, ValueError, RuntimeError):
        return None
