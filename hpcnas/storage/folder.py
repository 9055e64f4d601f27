"""The folder of a run, held open by the one job that writes there.

    RUN ──► descriptor ──► population.h5, journal, log …    opened, renamed and removed by this descriptor alone

So nothing is ever written into another folder that has come to stand at the same path, and what goes on after RUN was
moved goes on in RUN. What a run keeps are plain files of its own: a link, a pipe or a folder under one of their names
is not, and refused in words. Which job the folder belongs to is `lock`'s business; standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from hpcnas.errors import Error
from hpcnas.storage import durable

_NO_SYNC = (
    "the file system of {} cannot sync folders: a power cut may leave the run as it was some seconds before; "
    "a kill costs nothing"
)


class StoreError(Error):
    """A run that cannot be opened, read or written: one line for the person who runs it."""


def holds(folder: Path, name: str) -> bool:
    """Whether the folder has that file, which makes it what it is. Raises StoreError where that cannot be seen."""
    try:
        return (folder / name).is_file()
    except OSError as error:  # a folder closed to us, a name that is too long, a server that is gone
        raise StoreError(f"expected a folder that can be looked into, got {folder}: {error.strerror}") from None


class RunFolder:
    """A folder held open. Names are those of files directly in it."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError where there is no folder, or it may not be written to."""
        self.path = path
        self.new = False  # whether it was made here
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"expected to write in the run folder {path}: {error.strerror}") from None

    @classmethod
    def make(cls, path: Path) -> RunFolder:
        """That of a path where there may be none yet. Raises StoreError."""
        try:
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            for made in missing or [path]:
                durable.sync_folder(made.parent)
        except OSError as error:
            raise StoreError(f"expected to create the run folder {path}: {error.strerror}") from None
        folder = cls(path)
        folder.new = bool(missing)
        return folder

    def close(self) -> None:
        """Lets go of it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    # ── what and where it is ────────────────────────────────────────────────────────────────────────────────────────
    def check(self, names: Iterable[str], links: Iterable[str] = ()) -> None:
        """Raises StoreError where one of these names is there and not that of a plain file; `links` may be folders, or
        links to where folders are."""
        for name in (*names, *links):
            found = self.status(name)
            if found is None or stat.S_ISREG(found.st_mode) and name not in links:
                continue
            if name in links and (stat.S_ISDIR(found.st_mode) or self._leads_to_a_folder(name)):
                continue
            expected = "a folder, or a link to one," if name in links else "a file of the run's own"
            raise StoreError(
                f"{self.path / name}: expected {expected} or nothing, but it is {self._kind(name, found)}; "
                "move it away, then start the same command again"
            )

    def _leads_to_a_folder(self, name: str) -> bool:
        """Whether a link leads to a folder, or to nothing here: on the hosts of the workers it may."""
        try:
            found = os.stat(name, dir_fd=self.descriptor)
        except OSError:
            return self._is_link(name)
        return stat.S_ISDIR(found.st_mode)

    def _is_link(self, name: str) -> bool:
        found = self.status(name)
        return found is not None and stat.S_ISLNK(found.st_mode)

    def _kind(self, name: str, found: os.stat_result) -> str:
        if stat.S_ISLNK(found.st_mode):
            return f"a link to {os.readlink(name, dir_fd=self.descriptor)}"
        kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        return kinds.get(stat.S_IFMT(found.st_mode), "a device")

    def status(self, name: str) -> os.stat_result | None:
        """That of a file, or of a link itself; None where nothing has that name."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"expected to look at {self.path / name}: {error.strerror}") from None

    def is_file(self, name: str, descriptor: int) -> bool:
        """Whether that name is still the open file's."""
        found = self.status(name)
        return found is not None and os.path.samestat(found, os.fstat(descriptor))

    def problem(self) -> str | None:
        """What has become of a folder that its path does not lead to any more; None where it still does, or where that
        cannot be found out."""
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self.descriptor)):
                return None
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:  # a server that does not answer at the moment
            return None
        now = self.where()
        if now is None:
            return f"{self.path} was removed while this job was at work on it"
        return f"{self.path} was moved to {now} while this job was at work on it"

    def where(self) -> Path | None:
        """Its path by now; None where the folder is gone, or it cannot be found out."""
        try:
            found = Path(os.readlink(f"/proc/self/fd/{self.descriptor}"))
            return found if os.path.samestat(os.stat(found), os.fstat(self.descriptor)) else None
        except OSError:
            return None

    def remark(self) -> str | None:
        """What a person should know about its file system; None where there is nothing."""
        return None if durable.sync_folder(self.descriptor) else _NO_SYNC.format(self.path)

    # ── its files ───────────────────────────────────────────────────────────────────────────────────────────────────
    def open(self, name: str, flags: int) -> int:
        """The descriptor of a plain file, made if need be where `flags` say so, with the permissions that the umask
        leaves. Raises OSError, StoreError for what is no plain file."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe's open would wait for its other end
        self.check([name])
        descriptor = os.open(name, flags, 0o666, dir_fd=self.descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it has become another thing since
            os.close(descriptor)
            self.check([name])
            raise StoreError(f"{self.path / name}: expected a file of the run's own")
        return descriptor

    def read(self, name: str) -> bytes | None:
        """All of a small file; None where there is none. Raises OSError or StoreError."""
        try:
            with open(self.open(name, os.O_RDONLY), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def open_log(self) -> IO[str]:
        """RUN/log, to be appended to. Raises StoreError."""
        try:
            self.own("log")
            return os.fdopen(self.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"expected to write {self.path / 'log'}: {error.strerror}") from None

    def put(self, name: str, data: bytes | memoryview, ready: Callable[[], object] | None = None) -> None:
        """Gives a file new content, as `durable.put`. Raises OSError, and what `ready` raises."""
        durable.put(Path(name), data, self.descriptor, ready)

    def own(self, name: str) -> None:
        """Makes a file that has a second name elsewhere (a hard link) one of the run's own: what is appended to it
        reaches no other file. Raises OSError or StoreError."""
        found = self.status(name)
        if found is not None and found.st_nlink > 1 and (content := self.read(name)) is not None:
            self.put(name, content)

    def remove(self, name: str) -> None:
        """Removes a file that is not needed; one that stays does no harm. The folder in a `name` may be a link."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)

    def tidy(self, mine: Callable[[str], bool], useless: Callable[[str], bool], inside: str = ".") -> None:
        """Removes, in it or in a folder inside, plain files that are `mine` by their names and `useless`, and what
        kills have left of half-written ones that are `mine`. Whatever stays does no harm."""
        with contextlib.suppress(OSError):
            descriptor = os.open(inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
            try:
                for name in os.listdir(descriptor):
                    whole = durable.whole_name(name)
                    if not (mine(whole) if whole is not None else mine(name) and useless(name)):
                        continue
                    with contextlib.suppress(OSError):
                        if stat.S_ISREG(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                            os.unlink(name, dir_fd=descriptor)
            finally:
                os.close(descriptor)
