"""A run's folder in the hands of one job: opened, looked through for what is not the run's own, and locked.

    RunFolder ─► its own files are plain files ─► lock ─► HeldFolder        all of it let go of where one step fails

What is in the folder is not looked at. Standard library alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.storage.lock import Lock, LockHeld

Take = Callable[[RunFolder], Lock]
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class HeldFolder:
    """A folder and its lock, both held until `close`."""

    place: RunFolder
    lock: Lock

    @classmethod
    def take(cls, place: RunFolder, take: Take, files: Iterable[str], links: Iterable[str] = ()) -> HeldFolder:
        """Locks an open folder in which `files` and `links` are as `RunFolder.check` wants them; closes it where that
        cannot be. Raises StoreError and what `take` raises."""
        try:
            place.check(files, links)
            return cls(place, take(place))
        except BaseException:
            place.close()
            raise

    @property
    def remarks(self) -> list[str]:
        """What a person should know about the lock and the file system, a line each."""
        return [text for text in (self.lock.remark, self.place.remark()) if text is not None]

    def close(self) -> None:
        """Lets go of both."""
        self.lock.close()
        self.place.close()


def once_more_if_gone(open: Callable[[], Opened], is_there: Callable[[], bool]) -> Opened:
    """What `open` gives. It is called a second time where it raises StoreError and the run is gone: the job that began
    the run and was refused has removed it while its lock was waited for."""
    try:
        return open()
    except LockHeld:
        raise
    except StoreError:
        if is_there():
            raise
    return open()
