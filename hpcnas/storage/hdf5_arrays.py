"""HDF5 files of other people, as arrays by their names: what lies in the file itself, and nothing that it asks for.

A link to another file, data that lie in another one, or a filter that HDF5 would load a library for is refused before
anything of it is opened: a file must not make its reader open or run what nobody named. Writes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcnas.storage.hdf5 import DAMAGE as DAMAGE

_OWN_FILTERS = (  # deflate, shuffle, Fletcher-32, szip, n-bit, scale-offset, and h5py's LZF: all of them are built in
    *range(1, 7),
    32000,
)


class NotInFile(ValueError):
    """What is named does not lie in the file itself, or needs code that is not here: one sentence."""


class Hdf5Array:
    """A dataset: its shape and type, and its values some rows at a time."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = dataset.shape or ()
        self.dtype: np.dtype = dataset.dtype
        self.rows_together: int = dataset.chunks[0] if dataset.chunks else 1  # that lie together, and are read together

    def attribute(self, name: str) -> object:
        """An attribute of the dataset, or else of the file; None where there is none."""
        for attributes in (self._dataset.attrs, self._dataset.file.attrs):
            if name in attributes:
                return attributes[name]
        return None

    def rows(self, first: int, count: int) -> np.ndarray:
        """Those of the first axis. Raises one of DAMAGE."""
        found: np.ndarray = self._dataset[first : first + count]
        return found

    def mapped(self) -> np.ndarray | None:
        """The values, mapped read-only from the file; None where they lie there in pieces or packed."""
        dataset = self._dataset
        place = None if dataset.chunks or dataset.file.userblock_size else dataset.id.get_offset()
        if place is None or not self.dtype.isnative:
            return None
        return np.memmap(dataset.file.filename, self.dtype, "r", offset=place, shape=self.shape)

    def whole(self) -> np.ndarray:
        """All values, texts of any kind as text. Raises one of DAMAGE."""
        if h5py.check_string_dtype(self._dataset.dtype) is not None:
            return np.asarray(self._dataset.asstr("utf-8", "surrogateescape")[()], dtype=np.str_)
        found: np.ndarray = self._dataset[()]
        return found


class Hdf5Arrays:
    """The datasets of a file."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def find(self, name: str) -> Hdf5Array | None:
        """The dataset `a/b`; None where there is none. Raises NotInFile."""
        item: Any = self._file
        for part in name.split("/"):
            if not isinstance(item, h5py.Group) or part not in item.id:
                return None
            if item.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
                raise NotInFile(f"expected {name} in the file itself, got a link")
            item = item[part]
        if not isinstance(item, h5py.Dataset):
            return None
        made = item.id.get_create_plist()
        if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count() > 0:
            raise NotInFile(f"expected {name} in the file itself, but its values lie in other files")
        for number in range(made.get_nfilters()):
            code, _, _, called = made.get_filter(number)
            if code not in _OWN_FILTERS:
                told = called.decode(errors="replace") or "without a name"
                raise NotInFile(
                    f"expected {name} compressed by gzip, LZF or not at all, got filter {code} ({told:.60}), which "
                    "needs a library that HDF5 would load; h5repack -f GZIP=1 writes it anew"
                )
        return Hdf5Array(item)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Hdf5Arrays]:
    """A file, to be read; also on a file system without locks. Raises OSError, one that says so where another process
    writes it."""
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except BlockingIOError:
        raise OSError("another process has it open for writing") from None
    except OSError as error:
        if "lock" not in str(error) or isinstance(error, FileNotFoundError | PermissionError):
            raise
        file = h5py.File(path, "r", locking=False)
    with file:
        yield Hdf5Arrays(file)
