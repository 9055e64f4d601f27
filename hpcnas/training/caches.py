"""Where compiled kernels are cached: in the user's cache folder; if that fails, in a private temporary one.

A folder serves if files in it can be written, kept and executed. If there is no home or no name for the user id, if the
disk is full, or the mount read-only or without execution, the next folder is tried. Standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # beside TMPDIR
_BEING_WRITTEN = "tmp.pid_"  # what Triton's folders are called until their files are moved
_ROOM = 1 << 20  # bytes that a folder must have room for


class DoesNotServe(Exception):
    """A folder cannot be used as a cache: why, in a few words."""


def folders() -> Iterator[Path]:
    """Folders to try, best first: the user's, where there is a home, then temporary ones."""
    of_user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(of_user):  # else there is no home, or the variable names no place
        yield Path(of_user, "hpcnas")
    yield from temporary_folders()


def temporary_folders() -> Iterator[Path]:
    """Folders for this user alone, in places where all users may write. Another user may have made one of that name:
    `look_into` finds out."""
    for place in dict.fromkeys((os.environ.get("TMPDIR"), *_TEMPORARY)):
        if place and os.path.isabs(place):
            yield Path(place, _own_name())


def look_into(folder: Path) -> None:
    """Raises DoesNotServe where the folder is not there, or what lies in it is not to be trusted."""
    try:
        found = folder.lstat() if folder.name == _own_name() else folder.stat()
    except OSError as error:
        raise DoesNotServe(error.strerror or str(error)) from None
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o002:
        raise DoesNotServe("others may write there")
    if folder.name == _own_name() and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise DoesNotServe("it is not this user's alone")


def prepare(folder: Path) -> None:
    """Makes the folder if need be. Raises DoesNotServe where what is compiled cannot be kept and executed in it."""
    try:
        folder.mkdir(mode=0o700 if folder.name == _own_name() else 0o755, parents=True, exist_ok=True)
        look_into(folder)
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            raise DoesNotServe("nothing may be executed there")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
    except OSError as error:
        raise DoesNotServe(error.strerror or str(error)) from None


def cut_short(folder: Path) -> Path | None:
    """A shared library below the folder that ends before its own headers say: loading it can end the process, as after
    a power cut. None where there is none."""
    for path in _libraries(folder):
        with contextlib.suppress(OSError), path.open("rb") as file:
            head = file.read(64)
            if len(head) < 64:
                return path
            if head[:6] == b"\x7fELF\x02\x01":  # 64 bits, little-endian: where its table of sections is, at its end
                (begin,), (size, count) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
                if begin + size * count > os.fstat(file.fileno()).st_size:
                    return path
    return None


def _libraries(folder: Path) -> Iterator[Path]:
    """Shared libraries below a folder of Triton's, without those that other workers are writing."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(_BEING_WRITTEN)]
        yield from (Path(place, name) for name in files if name.endswith(".so"))


def _own_name() -> str:
    return f"hpcnas-{os.getuid()}"
