"""Files that are either the old or the new one, whole, whatever is killed and whenever (D1).

The only place that creates, syncs and renames; standard library alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries (names created, renamed, removed) durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Gives `path` new content: `write` fills a temporary file beside it, which is synced and renamed over `path`.

    Readers see the old content or the new, never a part. Raises OSError and leaves the old content.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_halves(folder: Path) -> None:
    """Removes what kills within `replace` have left; nobody else may be writing there. What stays does no harm."""
    for half in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            half.unlink()


def replace_text(path: Path, text: str) -> None:
    """`replace` with a text, UTF-8."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`; raises OSError, possibly after a part was written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
