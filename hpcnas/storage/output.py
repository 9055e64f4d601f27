"""Files that a person asks a command for: each is there as a whole, or as it was before, wherever its writer ends.

That takes a file beside it for a moment. Where there can be none, and into what is no ordinary file, as a terminal or a
pipe, it is written as it comes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from hpcnas.storage import durable

# Why a file cannot be made beside another and take its place, though it can be written: its own name is too long; the
# folder's access list or sticky bit forbids it; the file is mounted by itself, as containers do, or on another system.
_NOT_BESIDE = frozenset({errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV})


def write_output(path: Path, content: str | bytes) -> None:
    """Gives `path`, or what it is a link to, new content; text as UTF-8, names of any bytes in it as they are. Raises
    OSError, and ValueError for a path that no file can have."""
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode if target.exists() else None
    may_be_replaced = mode is None or (stat.S_ISREG(mode) and os.access(target, os.W_OK))
    if not (may_be_replaced and os.access(target.parent, os.W_OK)):
        path.write_bytes(data)
        return
    try:
        durable.put(target, data)
    except OSError as error:
        if error.errno not in _NOT_BESIDE:
            raise
        path.write_bytes(data)
    if mode is not None:
        with contextlib.suppress(OSError):
            os.chmod(target, stat.S_IMODE(mode))
