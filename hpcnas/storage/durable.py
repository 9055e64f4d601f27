"""Files that are either the old or the new one, whole, whatever is killed and whenever (D1).

The only place that creates, syncs and renames; standard library alone. `at` is the descriptor of a folder that is held
open (`folder`): then only the path's last part counts, and what is meant is the file of that name in just this folder,
wherever it has been moved.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

NOT_THERE = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems answer to a call that they do not have."""

_NO_SYNC = NOT_THERE | {errno.EACCES, errno.EPERM, errno.EROFS}  # likewise, and what may not be listed or changed


def sync_folder(folder: Path | int) -> bool:
    """Makes the folder's entries (names created, renamed, removed) durable; returns whether it could. `folder` may be a
    descriptor. Where a folder may not be listed, or its file system cannot sync folders, a power cut may leave names
    as they were some seconds before. Raises OSError where syncing fails."""
    try:
        descriptor = folder if isinstance(folder, int) else os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            if descriptor != folder:
                os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        return False
    return True


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Gives `path` new content: `write` fills a temporary file beside it, which is synced and renamed over `path`.

    Readers see the old content or the new, never a part. Raises OSError and leaves the old content.
    """
    temporary = path.with_name(_half(path.name))
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


def put(path: Path, data: bytes | memoryview, at: int | None = None, ready: Callable[[], object] | None = None) -> None:
    """Likewise, from bytes. `ready` is called when all but the renaming is done, and may raise to prevent that."""
    name = place(path, at)
    temporary = path.with_name(_half(path.name)) if at is None else Path(_half(path.name))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=at)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if ready is not None:
            ready()
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=at)
        raise
    sync_folder(path.parent if at is None else at)


def place(path: Path, at: int | None) -> str:
    """The name by which functions of `os` find a file together with dir_fd=at."""
    return str(path) if at is None else path.name


def replace_text(path: Path, text: str, at: int | None = None) -> None:
    """`put` with a text, UTF-8."""
    put(path, text.encode(), at)


def _half(name: str) -> str:
    """A temporary name with a random number: containers and hosts that share a folder may have the same process ids."""
    return f".{name}.{secrets.randbits(63)}.tmp"


def whole_name(half: str) -> str | None:
    """The name of the file that a temporary file of `replace` or `put` was to become; None for any other file."""
    match = re.fullmatch(r"\.(.+)\.\d+\.tmp", half, re.DOTALL)
    return None if match is None else match[1]


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Writes all of `data`; raises OSError, possibly after a part was written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
