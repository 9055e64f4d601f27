"""Arrays by their names, out of FILE.h5, FILE.npz or a folder of .npy files: shapes first, values some rows at a time.

    FILE.h5, FILE.hdf5     datasets train/images, train/labels, …
    FILE.npz               arrays of these names
    DIR                    DIR/train/images.npy, …

Nothing is unpickled, and HDF5 opens no other file (`storage.hdf5_arrays`). What arrays mean is `arrays`' business.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from hpcnas.config.data_spec import DataError

_HDF5 = (".h5", ".hdf5", ".hdf")
_SMALL = 4096  # bytes
DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, EOFError, zlib.error,
          zipfile.BadZipFile, NotImplementedError)  # fmt: skip
"""What h5py, numpy and zip files raise on damaged bytes, and on files that another process has just changed."""


class Array(Protocol):
    """An array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    rows_together: int  # that are best read together

    def attribute(self, name: str) -> object:
        """What is said beside the array or, if nothing is, for all of the file; None where nothing is."""
        ...

    def rows(self, first: int, count: int) -> np.ndarray:
        """Those of the first axis; asked for in their order, each once. Raises one of DAMAGE."""
        ...

    def whole(self) -> np.ndarray:
        """All values; texts as text. Raises one of DAMAGE."""
        ...

    def mapped(self) -> np.ndarray | None:
        """The values, mapped read-only from where they lie; None where they are packed, or in other bytes than this
        machine's."""
        ...


class ArrayFile(Protocol):
    """The arrays of a file or folder."""

    def find(self, name: str) -> Array | None:
        """The array of that name; None where there is none. Raises one of DAMAGE."""
        ...


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """The arrays in a file or folder. Raises DataError where it is none of the three kinds, and for what is damaged."""
    try:
        if path.is_dir():
            yield _Folder(path)
        elif path.suffix.lower() == ".npz" and path.exists():
            with zipfile.ZipFile(path) as archive:
                yield _Npz(archive)
        elif path.suffix.lower() in _HDF5 and path.exists():
            from hpcnas.storage import hdf5_arrays  # h5py: where it is needed alone

            with hdf5_arrays.opened(path) as file:
                yield file
        else:
            what = "FILE.h5, FILE.npz or a folder of .npy files"
            raise DataError(f"expected {what}, got {path if path.exists() else f'{path}, which is not there'}")
    except DAMAGE as error:
        raise DataError(f"{path}: cannot be read: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:300] or type(error).__name__


class _Npy:
    """An array of numpy's format, mapped from its file."""

    rows_together = 1

    def __init__(self, values: np.ndarray, layout: str | None) -> None:
        self._values, self._layout = values, layout
        self.shape, self.dtype = values.shape, values.dtype

    def attribute(self, name: str) -> object:
        return self._layout if name == "layout" else None

    def rows(self, first: int, count: int) -> np.ndarray:
        return self._values[first : first + count]

    def whole(self) -> np.ndarray:
        return np.array(self._values)

    def mapped(self) -> np.ndarray | None:
        values = self._values
        plain = isinstance(values, np.memmap) and values.flags.c_contiguous and values.dtype.isnative
        return values if plain else None


class _Folder:
    """DIR/train/images.npy, … and DIR/layout.npy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, name: str) -> Array | None:
        file = self._path / f"{name}.npy"
        if not file.is_file():
            return None
        layout = self._path / "layout.npy"
        told = str(np.load(layout, allow_pickle=False)) if layout.is_file() else None
        small = file.stat().st_size < _SMALL  # an empty array cannot be mapped
        return _Npy(np.load(file, mmap_mode=None if small else "r", allow_pickle=False), told)


class _Npz:
    """A zip file of arrays, those of `numpy.savez` and `numpy.savez_compressed`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def find(self, name: str) -> Array | None:
        if f"{name}.npy" not in self._archive.namelist():
            return None
        told = None
        if name != "layout" and (layout := self.find("layout")) is not None:
            told = str(layout.whole())
        return _Packed(self._archive, f"{name}.npy", told)


class _Packed:
    """An array in a zip file. It is unpacked as rows are asked for, from the first to the last."""

    rows_together = 1

    def __init__(self, archive: zipfile.ZipFile, name: str, layout: str | None) -> None:
        """Raises ValueError unless the file is as long as it says that its array is."""
        self._archive, self._name, self._layout = archive, name, layout
        with archive.open(name) as stream:
            self.shape, self._columns_first, self.dtype = _header(stream)
            begins = stream.tell()
        if self.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects, which are not read")
        self._row_bytes = int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
        length = (self.shape[0] if self.shape else 1) * self._row_bytes
        if archive.getinfo(name).file_size - begins != length:
            raise ValueError(f"{name} is not as long as its shape {self.shape} says")
        self._stream: IO[bytes] | None = None
        self._next = 0
        self._all: np.ndarray | None = None

    def attribute(self, name: str) -> object:
        return self._layout if name == "layout" else None

    def rows(self, first: int, count: int) -> np.ndarray:
        if self._columns_first:  # no row of it lies in one piece
            self._all = self.whole() if self._all is None else self._all
            return self._all[first : first + count]
        if self._stream is None or first != self._next:
            self._stream = self._archive.open(self._name)
            _header(self._stream)
            self._stream.seek(first * self._row_bytes, 1)
        count = min(count, self.shape[0] - first)
        self._next = first + count
        data = self._stream.read(count * self._row_bytes)
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def mapped(self) -> np.ndarray | None:
        return None

    def whole(self) -> np.ndarray:
        with self._archive.open(self._name) as stream:
            found: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        return found


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis varies fastest, and type of the array that follows. Raises ValueError."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(stream)
    return shape, columns_first and len(shape) > 1, dtype
