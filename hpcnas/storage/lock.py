"""The lock of a run's folder: one job at a time may write there, for as long as it lives.

    flock                     where the file system has it: the kernel lets go of RUN/lock when the process ends
    fcntl                     else: the same; over NFS by the server
    RUN/heartbeat             else: a file that only one can create, touched every few seconds; a silent job is gone

RUN/lock says who holds it, or held it last. All three notice when their file is removed or replaced while they hold it:
what is about to write asks `Lock.check` first. Standard library alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable

from hpcnas.storage import durable
from hpcnas.storage.folder import RunFolder, StoreError

NAME, HEARTBEAT = "lock", "heartbeat"
_NO_LOCKS = durable.NOT_THERE | {errno.ENOLCK}
_BEAT = 5.0  # seconds between signs of life
_SILENCE = 9 * _BEAT  # seconds without one, by the file server's clock, after which a holder is taken for gone
_LOOK = 0.2  # seconds between two tries, and looks at signals
_FCNTL = (
    "the file system of {} has no flock: its lock is one of fcntl, which keeps a second job out as long as the locks "
    "of all hosts meet at one server"
)
_BEATING = (
    "the file system of {} has neither flock nor fcntl locks: RUN/heartbeat, touched every 5 s, keeps a second job out "
    "that starts while this one lives; not two that start in the same moment after a kill. Do not start two at once"
)
_held: set[tuple[int, int]] = set()  # (device, inode) of the locks of this process: fcntl knows nothing of its own


class LockHeld(StoreError):
    """Another job is at work in the folder."""


class LockLost(StoreError):
    """The lock was removed or replaced while it was held. `replaced`: another job may be at work by now."""

    def __init__(self, text: str, replaced: bool) -> None:
        super().__init__(text)
        self.replaced = replaced


class Interrupted(Exception):
    """The wait for a lock was ended: by what, as text for a person."""


class _Heartbeat(threading.Thread):
    """RUN/heartbeat, created and touched by this process."""

    def __init__(self, folder: RunFolder, said: bytes) -> None:
        """Raises FileExistsError where there is one, another OSError or StoreError where none can be."""
        super().__init__(name="heartbeat of the run's lock", daemon=True)
        self._folder = folder
        self._over = threading.Event()
        self.descriptor = folder.open(HEARTBEAT, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            os.write(self.descriptor, said)
            self.start()
        except BaseException:  # a full disk, say
            os.close(self.descriptor)
            folder.remove(HEARTBEAT)
            raise

    def run(self) -> None:
        while not self._over.wait(_BEAT):
            with contextlib.suppress(OSError):  # a server that does not answer at the moment
                os.utime(self.descriptor)

    def end(self) -> None:
        """Removes the file, unless it is another job's by now."""
        self._over.set()
        self.join()
        with contextlib.suppress(StoreError):
            if self._folder.is_file(HEARTBEAT, self.descriptor):
                self._folder.remove(HEARTBEAT)
        os.close(self.descriptor)


class Lock:
    """A lock that is held. `remark` says what it does not guard against, where that is not all."""

    def __init__(
        self,
        folder: RunFolder,
        descriptor: int,
        said: bytes,
        remark: str | None = None,
        beating: _Heartbeat | None = None,
    ) -> None:
        self.remark = remark
        self._folder, self._descriptor, self._beating = folder, descriptor, beating
        self._said = said  # of this job: the host may get another name
        _held.add(_file_id(os.fstat(descriptor)))

    def check(self) -> None:
        """Raises LockLost unless the lock is still this one's."""
        self._check(NAME, self._descriptor)
        if self._beating is not None:
            self._check(HEARTBEAT, self._beating.descriptor)

    def _check(self, name: str, descriptor: int) -> None:
        path = self._folder.path / name
        if not self._folder.is_file(name, descriptor):
            replaced = self._folder.status(name) is not None
            what = "replaced: another job may be at work there" if replaced else "removed"
            raise LockLost(f"{path} was {what}", replaced)
        said = _holder(self._folder, name, descriptor)
        if said != self._said:  # on a file system whose locks do not reach other hosts
            raise LockLost(f"{path} was taken by another job: {said.decode(errors='replace')}", True)

    def close(self) -> None:
        """Lets go."""
        if self._descriptor < 0:
            return
        if self._beating is not None:
            self._beating.end()
        _held.discard(_file_id(os.fstat(self._descriptor)))
        os.close(self._descriptor)
        self._descriptor = -1


def take(
    folder: RunFolder,
    wait: float = 0.0,
    leave: Callable[[], str | None] = lambda: None,
    say: Callable[[str], object] = lambda text: None,
) -> Lock:
    """The lock of a folder, held. Waits for up to `wait` seconds for another job to let go of it, and says so; asks
    `leave` for a reason not to wait any longer. Raises LockHeld naming the holder, Interrupted, StoreError."""
    ends, waiting = time.monotonic() + wait, False
    while True:
        try:
            return _taken(folder)
        except LockHeld as held:
            if time.monotonic() >= ends:
                after = f"; waited {wait:g} s for it (--lock-wait)" if waiting else ""
                raise LockHeld(f"{held}{after}") from None
            if not waiting:
                say(f"{held}; waiting up to {wait:g} s for it to end (--lock-wait)")
            waiting = True
        if (reason := leave()) is not None:
            raise Interrupted(f"{reason} received while waiting for {folder.path}; start the same command again")
        time.sleep(min(_LOOK, wait))


def _taken(folder: RunFolder) -> Lock:
    """Raises LockHeld or StoreError."""
    path, before = folder.path / NAME, folder.status(NAME)
    if before is not None and _file_id(before) in _held:  # to open it and close it again could let go of it
        raise _held_by(folder, _this_job())
    try:
        descriptor = folder.open(NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        closed = before is not None and error.errno in (errno.EACCES, errno.EPERM)
        way_out = f"; its owner can let others in: chmod g+w {path}" if closed else ""
        raise StoreError(f"expected to write in the run folder {folder.path}: {error.strerror}{way_out}") from None
    lock: Lock | None = None
    try:
        said = _this_job()
        lock = _locked(folder, descriptor, _holder(folder, NAME, descriptor), said)
        if not folder.is_file(NAME, descriptor):  # its last holder has just taken it away
            raise _held_by(folder, b"")
        os.ftruncate(descriptor, 0)
        os.write(descriptor, said + b"\n")
    except BaseException as error:
        if lock is None:
            os.close(descriptor)
        else:
            lock.close()
        if isinstance(error, OSError):  # a full disk, say
            raise StoreError(f"expected to lock {path}: {error.strerror}") from None
        raise
    return lock


def _locked(folder: RunFolder, descriptor: int, holder: bytes, said: bytes) -> Lock:
    """The best lock that there is for an open file, which names its last `holder` and is to say another. Raises
    LockHeld, StoreError, and OSError where there is none."""
    for lock, remark in ((fcntl.flock, None), (fcntl.lockf, _FCNTL)):
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise _held_by(folder, holder) from None
            if error.errno not in _NO_LOCKS:
                raise
            continue
        _end_silent(folder)  # from a host that has no such locks
        return Lock(folder, descriptor, said, None if remark is None else remark.format(folder.path))
    ended = _end_silent(folder)
    try:
        beating = _Heartbeat(folder, said)
    except FileExistsError:  # another job was faster
        raise _held_by(folder, holder) from None
    if ended:
        time.sleep(2 * _LOOK)  # another job may just have ended it as well, and with it this one's
        if not folder.is_file(HEARTBEAT, beating.descriptor):
            beating.end()
            raise _held_by(folder, holder)
    return Lock(folder, descriptor, said, _BEATING.format(folder.path), beating)


def _end_silent(folder: RunFolder) -> bool:
    """Removes the heartbeat of a job that has been silent for long; whether there was one. Raises LockHeld where it is
    alive, and OSError."""
    try:
        descriptor = folder.open(HEARTBEAT, os.O_RDONLY)  # which makes NFS look at it anew
    except FileNotFoundError:
        return False
    try:
        holder = _holder(folder, HEARTBEAT, descriptor)
        touched = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
    if _now_there(folder) - touched < _SILENCE:
        raise _held_by(folder, holder)
    folder.remove(HEARTBEAT)
    return True


def _now_there(folder: RunFolder) -> float:
    """The time by the clock that stamps the folder's files. Raises OSError."""
    name = f".{HEARTBEAT}.{secrets.randbits(63)}.tmp"
    descriptor = folder.open(name, os.O_WRONLY | os.O_CREAT)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        folder.remove(name)


def _holder(folder: RunFolder, name: str, descriptor: int) -> bytes:
    """What a lock says of its holder; raises StoreError where it is no lock but another file of that name."""
    said = os.pread(descriptor, 1000, 0).rstrip(b"\0\n")  # what is left of a text that was cut off is one too
    if said[:5] != b"host "[: len(said)] or len(said) > 500:
        raise StoreError(
            f"{folder.path / name}: expected the lock of a run, which says who holds it, but it is another file; "
            "move it away, then start the same command again"
        )
    return said


def _held_by(folder: RunFolder, holder: bytes) -> LockHeld:
    who = holder.decode(errors="replace") or "another process"
    return LockHeld(f"the run {folder.path} already has a controller: {who}")


def _this_job() -> bytes:
    return f"host {socket.gethostname()}, pid {os.getpid()}".encode()


def _file_id(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
