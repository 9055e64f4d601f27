"""A folder of images (DIR/train/<class>/*, DIR/test/<class>/* or DIR/val) as one array: decoded once, then mapped.

    DIR/.hpcnas-train-<key>.npy    pixels (N, H, W, C), a trailer with the key, a seal: whole or not there at all
    DIR/.hpcnas-train-<key>.lock   flock of the process that decodes; its modification time is a sign of life

The layout and its order are those of `class_folders`; images are decoded by `image_file`. The key covers name,
size and modification time of every image, so a changed folder is decoded anew; caches of former states are left
alone because a run may still have them mapped. Correct without the lock too (own temporary
file, then rename): the lock only spares 200 processes the same work, so that a process which cannot have it, or
waits in vain, decodes for itself. Where DIR cannot be written, the cache is in the user's cache folder; if that
fails, each process decodes for itself. Every process reads the whole cache before it uses it; a damaged one is
reported and made anew.

Reading a split must not open anything of the other. Needs numpy, and pillow where something is decoded.

Measured with 50,000 JPEGs of 32×32 (2 cores of an x86 virtual machine beside much other work, local disk,
Pillow 13, n = 3): 14 to 22 s the first time, 0.9 to 1.6 s afterwards, nearly all of it for looking at 50,000
files, which costs more on a network file system. The look at the cache's 146 MiB takes 0.18 s of a processor's
time, which threads share.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import SMALLEST_SIDE, DataError
from hpcnas.data import class_folders, image_file
from hpcnas.storage import sealed

log = logging.getLogger(__name__)

STALL_SECONDS = 300.0  # do not wait for a decoding process without a sign of life (NFS shows times late)
LITTER_SECONDS = 3600.0  # a temporary file that old belongs to a process that was killed
_BLOCK = 1024  # images between two signs of life
_THREADS = 8  # decoding itself gains nothing beyond two; more hide the latency of a network file system


@dataclass(frozen=True)
class Listing:
    """What a split's folder holds: N files relative to `folder`, their labels, and the key of that state."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]
    key: str


def load(root: Path, split: str) -> tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64]]:
    """Classes, pixels (N, H, W, C) uint8, as a rule mapped from the cache, and labels (N,) of `root/split`; for `test`,
    where there is no such folder, of `root/val`.

    C is 1 if every image is greyscale, else 3. Raises DataError for a missing folder, an empty class, classes
    that differ from those of `root/train`, an unreadable image, and images of differing sizes (naming the
    first odd one).
    """
    folder, training = split_folder(root, split), root / "train"
    if split != "train" and training.is_dir():  # before anything is decoded
        class_folders.require_same(training, folder)
    listing = list_split(folder)
    return listing.classes, _pixels(listing, _cache_files(root, folder.name, listing)), listing.labels


def split_folder(root: Path, split: str) -> Path:
    """Where the images of `train`, `validation` or `test` lie. Raises DataError."""
    return root / split if split != "test" else class_folders.test_folder(root, "test", "val")


def first_in_colour(folder: Path) -> str | None:
    """The first image of a split that is not grey; None where all are. Raises DataError."""
    listing = list_split(folder)
    paths = (os.path.join(folder, file) for file in listing.files)
    return next((path for path in paths if not _is_grey(path)), None)


def list_split(folder: Path) -> Listing:
    """The images below `folder`, by class and then by path; raises DataError."""
    images = class_folders.images_by_class(folder)
    files = tuple(file for found in images.values() for file in found)
    key = hashlib.blake2b(b"2", digest_size=12)  # the number: version of the cache's content
    try:
        for file in files:
            state = os.stat(os.path.join(folder, file))
            key.update(os.fsencode(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0"))
    except OSError as error:
        raise DataError(f"cannot look through {folder}: {error}") from error
    labels = np.repeat(np.arange(len(images), dtype=np.int64), [len(found) for found in images.values()])
    return Listing(folder, tuple(images), files, labels, key.hexdigest())


# ── the cache ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _cache_files(root: Path, split: str, listing: Listing) -> list[Path]:
    """Where the pixels may be kept, best place first. Need not exist, need not be writable."""
    places = [root / f".hpcnas-{split}-{listing.key}.npy"]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(home):
        origin = hashlib.blake2b(os.fsencode(listing.folder.absolute()), digest_size=6).hexdigest()
        places.append(Path(home, "hpcnas", f"{split}-{origin}-{listing.key}.npy"))
    return places


def _pixels(listing: Listing, places: list[Path]) -> NDArray[np.uint8]:
    caches = [_Cache(place, listing) for place in places]
    for cache in caches:
        pixels = cache.open()
        if pixels is not None:
            return pixels
    for cache in caches:
        try:
            return _decode_once(listing, cache)
        except OSError as error:  # read-only, full, over quota, no sign of life
            log.warning("cannot keep the decoded images in %s: %s", cache.path, error.strerror or error)
    log.warning("no place for decoded images: every process decodes %s for itself", listing.folder)
    return np.concatenate(list(_decode(listing)))


class _Cache:
    """A file that the pixels of a listing may be kept in. One that is of no use is reported once, passed over, and not
    looked at again while it stays as it is."""

    def __init__(self, path: Path, listing: Listing) -> None:
        self.path = path
        self.trailer = f"hpcnas-pixels {listing.key}".encode()
        self.damaged = False  # what was found there is of no use
        self._count = len(listing.files)
        self._useless: object = None  # which file that was
        self._told: set[str] = set()

    def open(self) -> NDArray[np.uint8] | None:
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

    def _mapped(self, file: IO[bytes]) -> NDArray[np.uint8]:
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
        if dtype != np.uint8 or len(shape) != 4 or shape[0] != self._count:
            raise sealed.Damaged(f"expected uint8 ({self._count}, H, W, C), got {dtype} {shape}")
        return np.memmap(file, dtype, "r", offset=file.tell(), shape=shape)

    def _has_trailer(self, file: IO[bytes], end: int) -> bool:
        length = len(self.trailer)
        return os.pread(file.fileno(), length, max(0, end - length)) == self.trailer


def _decode_once(listing: Listing, cache: _Cache) -> NDArray[np.uint8]:
    """The pixels out of `cache`, after this process or the one that has the lock filled it.

    Raises OSError where that cannot be, TimeoutError among them, and DataError for bad images.
    """
    cache.path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(cache.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        pixels = _wait_for_lock(lock, cache.open)
        if pixels is None:
            anew = cache.damaged
            _write_cache(listing, cache, alive=lambda: os.utime(lock))
            pixels = cache.open()
            if anew and pixels is not None:
                log.warning("made %s anew", cache.path)
        if pixels is None:
            raise OSError("what was just written there reads differently")
        return pixels
    finally:
        os.close(lock)  # and so unlocks; the kernel does the same for a process that is killed


def _wait_for_lock(lock: int, look: Callable[[], NDArray[np.uint8] | None]) -> NDArray[np.uint8] | None:
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


def _write_cache(listing: Listing, cache: _Cache, alive: Callable[[], None]) -> None:
    """Decodes into a temporary file, calling `alive` after each block, and renames it. Raises OSError."""
    path = cache.path
    for litter in path.parent.glob(f"{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - litter.stat().st_mtime > LITTER_SECONDS:
                litter.unlink()
    log.info("decoding %d images of %s, once, into %s", len(listing.files), listing.folder, path)
    started = time.monotonic()
    temporary = path.with_name(f"{path.name}.{secrets.randbits(63)}.tmp")

    def fill(file: sealed.Sealing) -> None:
        for number, block in enumerate(_decode(listing)):
            if number == 0:
                shape = (len(listing.files), *block.shape[1:])
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(block.data)
            alive()
        file.write(cache.trailer)

    try:
        sealed.write(temporary, fill)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    log.info("decoded %d images in %.1f s", len(listing.files), time.monotonic() - started)


# ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _decode(listing: Listing) -> Iterator[NDArray[np.uint8]]:
    """The pixels in order, in blocks (≤ 1024, H, W, C); raises DataError naming the first odd image."""
    paths = [os.path.join(listing.folder, file) for file in listing.files]
    size = image_file.read(paths[0]).size
    if min(size) < SMALLEST_SIDE:
        raise DataError(f"{paths[0]}: expected sides of {SMALLEST_SIDE} pixels or more, got {_sides(size)}")
    with ThreadPoolExecutor(_THREADS) as pool:
        grey = _is_grey(paths[0]) and all(pool.map(_is_grey, paths))

        def pixels(path: str) -> NDArray[np.uint8]:
            with image_file.opened(path) as image:
                if sorted(image.size) != sorted(size):  # before it is decoded, since it may be large
                    raise _odd(path, image.size)
                shown = image_file.shown(image)
            if shown.size != size:
                raise _odd(path, shown.size)
            return image_file.pixels(shown if grey else shown.convert("RGB"))

        def _odd(path: str, found: tuple[int, int]) -> DataError:
            return DataError(
                f"{path} is {_sides(found)} pixels, {paths[0]} is {_sides(size)}: "
                "expected images of one size; resize or remove the odd ones"
            )

        for start in range(0, len(paths), _BLOCK):
            yield np.stack(list(pool.map(pixels, paths[start : start + _BLOCK])))


def _is_grey(path: str) -> bool:
    with image_file.opened(path) as image:
        return image_file.is_grey(image)


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
