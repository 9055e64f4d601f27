"""A run that is there with all that it holds, or not at all: what `hpcnas merge` and `hpcnas verify --repair` write.

    PARENT/.NAME.HEX.tmp/   journal, population.h5, lock: written and synced, while the lock is held
    PARENT/NAME/            is this folder renamed: no reader sees half of it

A kill in between leaves a hidden folder that is no run; the next writer of NAME removes it. How a search begins and
keeps its run is `file_store`'s business.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import uuid
from pathlib import Path

from hpcnas.search import run_file
from hpcnas.search.file_store import FileStore
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import durable
from hpcnas.storage.folder import StoreError


def write(folder: Path, stored: StoredRun) -> None:
    """A new run in `folder`, which must not exist, or be empty, with the tables and settings of `stored` and a name of
    its own. Raises StoreError and leaves that as it was."""
    _refuse_what_is_there(folder)
    target = Path(os.path.realpath(folder))  # of a link to an empty folder, that one
    try:
        new = [parent for parent in target.parents if not parent.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        _appear(target, stored)
        for parent in [target, *new]:
            durable.sync_folder(parent.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
            _refuse_what_is_there(folder)
        raise StoreError(f"expected to write a run into {folder}: {error.strerror}") from None


def contained(stored: StoredRun) -> list[str]:
    """Names of the runs whose individuals are in this one: its own, and those that it was merged or repaired from."""
    told = (session.software.get(key, "") for session in stored.sessions for key in ("merged", "repaired"))
    return list(dict.fromkeys([stored.run, *" ".join(told).split()]))


def _appear(target: Path, stored: StoredRun) -> None:
    """Writes the run beside its place and moves it there. Raises StoreError, OSError."""
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        store = FileStore.create(unfinished, stored.config)
        try:
            store.population, store.sessions, store.workers = stored.population, stored.sessions, stored.workers
            store.compact()
            _take_over_permissions(unfinished, target)
            os.rename(unfinished, target)
        finally:
            store.close()
    except BaseException:
        _remove(unfinished)
        raise


def _refuse_what_is_there(folder: Path) -> None:
    """Raises StoreError unless the folder may be put in place of what is there: nothing, or an empty one."""
    if run_file.exists(folder):
        raise StoreError(f"expected a folder without a run, but {folder} holds one")
    try:
        found = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"expected a folder that does not exist or is empty, got {folder}: {error.strerror}") from None
    if found:
        names = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise StoreError(f"expected a folder that does not exist or is empty, but {folder} holds {names}")


def _take_over_permissions(unfinished: Path, target: Path) -> None:
    """Gives the run the group and the mode of an empty folder that was made for it, as far as that is allowed."""
    with contextlib.suppress(OSError):
        state = target.stat()
        with contextlib.suppress(OSError):  # of a group that is not ours
            os.chown(unfinished, -1, state.st_gid)
        os.chmod(unfinished, state.st_mode & 0o7777)


def _remove_leftovers(target: Path) -> None:
    """What kills have left of earlier tries; not what another process is filling, nor what may be so."""
    form = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}\.tmp")
    for path in [found for found in target.parent.iterdir() if form.fullmatch(found.name)]:
        try:
            with open(path / "lock", "r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
        except FileNotFoundError:  # it was killed before there was anything
            with contextlib.suppress(OSError):
                path.rmdir()
        except OSError:  # held, or that cannot be found out
            pass


def _remove(unfinished: Path) -> None:
    """Removes such a folder, in which there are files alone; last its lock, by which it is known for what it is."""
    with contextlib.suppress(OSError):
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "lock"):
            path.unlink()
        unfinished.rmdir()
