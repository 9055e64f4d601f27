"""Decoded pixels in a file that all processes of a host map: decoded once, looked at whole, then shared.

    .hpcnas-train-<key>.npy    pixels (N, H, W, C), a trailer with the key, a seal: whole or not there at all
    .hpcnas-train-<key>.lock   flock of the process that decodes; its modification time is a sign of life

A key covers the state of what is decoded, so that what has changed is decoded anew; caches of former states are left
alone because a run may still have them mapped. Correct without the lock too (own temporary file, then rename): it only
spares 200 processes the same work, so that a process which cannot have it, or waits in vain, decodes for itself. Every
process reads the whole cache before it uses it; a damaged one is reported and made anew. What is decoded, and how, is a
`Decodable`'s business.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcnas.storage import sealed

log = logging.getLogger(__name__)

STALL_SECONDS = 300.0  # do not wait for a decoding process without a sign of life (NFS shows times late)
LITTER_SECONDS = 3600.0  # a temporary file that old belongs to a process that was killed


class Decodable(Protocol):
    """What can be decoded: `count` images of a type, in a state that has the `key`."""

    @property
    def key(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def type(self) -> str: ...

    @property
    def place(self) -> Path:
        """The folder or file that holds them."""
        ...

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The pixels in order, in blocks (…, H, W, C). Raises DataError."""
        ...


def files(folder: Path, split: str, source: Decodable) -> list[Path]:
    """Where the pixels may be kept, best place first: in the folder, else in the user's cache folder. Need not exist,
    need not be writable."""
    places = [folder / f".hpcnas-{split}-{source.key}.npy"]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        origin = hashlib.blake2b(os.fsencode(source.place.absolute()), digest_size=6).hexdigest()
        places.append(Path(home, "hpcnas", f"{split}-{origin}-{source.key}.npy"))
    return places


def kept(source: Decodable, places: Sequence[Path]) -> NDArray[Any]:
    """The pixels, mapped from the first of the places that serves, or else decoded. Raises DataError for bad images."""
    caches = [Cache(place, source) for place in places]
    for cache in caches:
        pixels = cache.open()
        if pixels is not None:
            return pixels
    in_vain: list[str] = []
    for cache in caches:
        try:
            found = fill_once(source, cache)
        except OSError as error:  # read-only, full, over quota, no sign of life
            in_vain.append(f"{cache.path}: {error.strerror or error}")
            continue
        if in_vain:
            log.warning("cannot keep the decoded images in %s; they are in %s", in_vain[0], cache.path)
        return found
    log.warning(
        "no place for the decoded images: every process decodes %s into memory of its own, which may not suffice (%s)",
        source.place, "; ".join(in_vain),
    )  # fmt: skip
    return _in_memory(source)


def _in_memory(source: Decodable) -> NDArray[Any]:
    """The pixels in this process alone. Raises DataError."""
    pixels, start = np.empty(0, source.type), 0
    for block in source.blocks():
        if not start:
            pixels = np.empty((source.count, *block.shape[1:]), source.type)
        pixels[start : start + len(block)] = block
        start += len(block)
    return pixels


class Cache:
    """A file that the pixels of a source may be kept in. One that is of no use is reported once, passed over, and not
    looked at again while it stays as it is."""

    def __init__(self, path: Path, source: Decodable) -> None:
        self.path = path
        self.trailer = f"hpcnas-pixels {source.key}".encode()
        self.damaged = False  # what was found there is of no use
        self._count, self._type = source.count, np.dtype(source.type)
        self._useless: object = None  # which file that was
        self._told: set[str] = set()

    def open(self) -> NDArray[Any] | None:
        """The pixels, mapped read-only, after a look at all of them; None if there is no file, or none of use."""
        try:
            with sealed.opened(self.path) as file:
                state = os.fstat(file.fileno())
                which = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
                if which == self._useless:
                    return None
                self._useless = which
                pixels = self._mapped(file)
                self._useless = None
                return pixels
        except FileNotFoundError:
            return None
        except sealed.Damaged as damage:
            reason = str(damage)
        except OSError as error:
            reason = error.strerror or str(error)
        self.damaged = True
        if reason not in self._told:
            self._told.add(reason)
            log.warning("not using the decoded images kept in %s: %s", self.path, reason)
        return None

    def _mapped(self, file: IO[bytes]) -> NDArray[Any]:
        """Raises Damaged, also for what is whole but another thing, and OSError."""
        length = sealed.content_length(file)
        if length is None:
            old = self._has_trailer(file, os.fstat(file.fileno()).st_size)
            raise sealed.Damaged(
                "it carries no checksum: an earlier version has written it" if old else "its end is not what it was"
            )
        if not self._has_trailer(file, length):
            raise sealed.Damaged("it is of another state of the images")
        try:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise sealed.Damaged(str(error)) from None
        if dtype != self._type or len(shape) != 4 or shape[0] != self._count:
            raise sealed.Damaged(f"expected {self._type} ({self._count}, H, W, C), got {dtype} {shape}")
        return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)

    def _has_trailer(self, file: IO[bytes], end: int) -> bool:
        length = len(self.trailer)
        return os.pread(file.fileno(), length, max(0, end - length)) == self.trailer


def fill_once(source: Decodable, cache: Cache) -> NDArray[Any]:
    """The pixels out of `cache`, after this process or the one that has the lock filled it.

    Raises OSError where that cannot be, TimeoutError among them, and DataError for bad images.
    """
    cache.path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        pixels = wait_for_lock(lock, cache.open)
        if pixels is None:
            anew = cache.damaged
            _write_cache(source, cache, alive=lambda: os.utime(lock))
            pixels = cache.open()
            if anew and pixels is not None:
                log.warning("made %s anew", cache.path)
        if pixels is None:
            raise OSError("what was just written there reads differently")
        return pixels
    finally:
        os.close(lock)  # and so unlocks; the kernel does the same for a process that is killed


def wait_for_lock(lock: int, look: Callable[[], NDArray[Any] | None]) -> NDArray[Any] | None:
    """Takes the lock, unless `look` finds something first: that, or None with the lock held.

    Raises TimeoutError when the process that has the lock shows no sign of life.
    """
    pause = 0.02
    sign, since = os.fstat(lock).st_mtime_ns, time.monotonic()
    while not _try_lock(lock):
        if pause == 0.02:
            log.info("waiting for the process that decodes the images")
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
        if (pixels := look()) is not None:
            return pixels
        if (latest := os.fstat(lock).st_mtime_ns) != sign:
            sign, since = latest, time.monotonic()
        if time.monotonic() - since > STALL_SECONDS:
            raise TimeoutError(f"no sign of life for {STALL_SECONDS:.0f} s from the process that decodes")
    return look()  # another process may have finished just before


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log.warning("this file system has no locks (%s): other processes may decode the same images", error)
    return True


def _write_cache(source: Decodable, cache: Cache, alive: Callable[[], None]) -> None:
    """Decodes into a temporary file, calling `alive` after each block, and renames it. Raises OSError."""
    path = cache.path
    for litter in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - litter.stat().st_mtime > LITTER_SECONDS:
                litter.unlink()
    log.info("decoding %d images of %s, once, into %s", source.count, source.place, path)
    started = time.monotonic()
    temporary = path.with_name(f"{path.name}.{secrets.randbits(63)}.tmp")

    def fill(file: sealed.Sealing) -> None:
        for number, block in enumerate(source.blocks()):
            if number == 0:
                shape = (source.count, *block.shape[1:])
                header = {"descr": np.lib.format.dtype_to_descr(block.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(block.data)
            alive()
        file.write(cache.trailer)

    try:
        sealed.write(temporary, fill)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    log.info("decoded %d images in %.1f s", source.count, time.monotonic() - started)
