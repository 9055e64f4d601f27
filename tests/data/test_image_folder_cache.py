"""What is kept of a folder of images, and what many processes at once make of it. Processes are real ones."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import caches, draw, drawn, pixels_of, save, write_folder

from hpcnas.data import datasets, image_folder, pixel_cache
from hpcnas.storage import sealed

ROOT = Path(datasets.__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(listing: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_folder, "_decode", fail)


def test_images_are_decoded_once_and_then_mapped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = datasets.load_training(f"imagefolder:{root}")
    forbid_decoding(monkeypatch)
    second = datasets.load_training(f"imagefolder:{root}")
    assert isinstance(first.images.pixels, np.memmap) and isinstance(second.images.pixels, np.memmap)
    np.testing.assert_array_equal(second.images.pixels, drawn(0, 1, 2, 3, 4, 5))
    assert first.fingerprint == second.fingerprint
    assert [path.parent for path in caches(root)] == [root]


def add(train: Path) -> None:
    save(train / "dog" / "0006.png", draw(6))


def remove(train: Path) -> None:
    (train / "cat" / "0001.png").unlink()


def rename(train: Path) -> None:
    (train / "cat" / "0001.png").rename(train / "cat" / "0000-a.png")


def move(train: Path) -> None:
    (train / "dog" / "0003.png").rename(train / "cat" / "0003.png")


def touch(train: Path) -> None:
    os.utime(train / "cat" / "0001.png", ns=(1, 1))


def resize(train: Path) -> None:
    path = train / "cat" / "0001.png"
    before = path.stat()
    path.write_bytes(path.read_bytes() + b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [add, remove, rename, move, touch, resize])
def test_a_changed_folder_is_decoded_anew(root: Path, change: Callable[[Path], None]) -> None:
    pixels_of(root)
    change(root / "train")
    pixels_of(root)
    assert len(caches(root)) == 2


def test_a_copied_folder_has_the_same_fingerprint(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "train", tmp_path / "copy" / "train", copy_function=shutil.copyfile)
    copy = datasets.load_training(f"imagefolder:{tmp_path}/copy")
    assert copy.fingerprint == datasets.load_training(f"imagefolder:{root}").fingerprint


def sealed_again(cache: Path, content: bytes) -> None:
    cache.unlink()
    sealed.write(cache, lambda file: file.write(content))


def cut(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-200])


def cut_in_the_middle(cache: Path) -> None:
    content = cache.read_bytes()
    cache.write_bytes(content[:300] + content[310:])


def empty(cache: Path) -> None:
    cache.write_bytes(b"")


def foreign(cache: Path) -> None:
    np.save(cache, drawn(0, 1, 2, 3, 4, 6))


def of_an_earlier_version(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[: -sealed.SEAL_BYTES])


def of_another_state(cache: Path) -> None:
    content = cache.read_bytes()[: -sealed.SEAL_BYTES]
    sealed_again(cache, content[:-4] + b"0123")


def of_other_images(cache: Path) -> None:
    content = cache.read_bytes()
    trailer = content[-sealed.SEAL_BYTES - 38 : -sealed.SEAL_BYTES]
    np.save(cache, drawn(0, 1, 2))
    sealed_again(cache, cache.read_bytes() + trailer)


def spoil_the_header(cache: Path) -> None:
    content = cache.read_bytes()
    cache.write_bytes(b"#" * 20 + content[20:])


def spoil_the_header_under_its_seal(cache: Path) -> None:
    sealed_again(cache, b"#" * 20 + cache.read_bytes()[20 : -sealed.SEAL_BYTES])


def turn_a_pixel_over(cache: Path) -> None:
    content = cache.read_bytes()
    cache.write_bytes(content[:400] + bytes([content[400] ^ 128]) + content[401:])


def make_a_folder(cache: Path) -> None:
    cache.unlink()
    cache.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "its end is not what it was"),
        (cut_in_the_middle, "it was written with 1606 bytes and now has 1596"),
        (empty, "it is empty"),
        (foreign, "its end is not what it was"),
        (of_an_earlier_version, "it carries no checksum: an earlier version has written it"),
        (of_another_state, "it is of another state of the images"),
        (of_other_images, "expected uint8 (6, H, W, C), got uint8 (3, 8, 10, 3)"),
        (spoil_the_header, "its checksum does not fit its 1606 bytes"),
        (spoil_the_header_under_its_seal, "the magic string is not correct"),
        (turn_a_pixel_over, "its checksum does not fit its 1606 bytes"),
        (make_a_folder, "Is a directory"),
    ],
)
def test_a_bad_cache_is_named_and_made_again(
    root: Path, damage: Callable[[Path], None], reason: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    pixels_of(root)
    (cache,) = caches(root)
    damage(cache)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    assert warned(caplog)[0].startswith(f"not using the decoded images kept in {cache}: {reason}")
    last = f"cannot keep the decoded images in {cache}: Is a directory; " if cache.is_dir() else f"made {cache} anew"
    (told,) = warned(caplog)[1:]
    assert told.startswith(last)
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_no_bit_of_a_cache_turns_over_unnoticed(root: Path) -> None:
    """Of 160 in pixels 101 were trained on, of 1,024 in the header 112 ended every worker."""
    pixels_of(root)
    (path,) = caches(root)
    listing, whole, draw = image_folder.list_split(root / "train"), path.read_bytes(), random.Random(0)
    header, rest = range(8 * 128), range(8 * 128, 8 * len(whole))
    for bit in [*header, *draw.sample(rest, 600)]:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        cache = pixel_cache.Cache(path, listing)
        assert cache.open() is None and cache.damaged, f"bit {bit}"


def test_what_is_of_no_use_is_looked_at_and_told_of_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those who wait for another process look again and again; many look at gigabytes."""
    pixels_of(root)
    (path,) = caches(root)
    whole = path.read_bytes()
    turn_a_pixel_over(path)
    cache, looks = pixel_cache.Cache(path, image_folder.list_split(root / "train")), []
    look = sealed.content_length
    monkeypatch.setattr(sealed, "content_length", lambda file: (looks.append(file), look(file))[1])
    assert [cache.open() for _ in range(3)] == [None, None, None]
    assert len(looks) == len(warned(caplog)) == 1
    os.replace(path, path.with_name("old"))
    path.write_bytes(whole)  # another process has made it anew
    assert cache.open() is not None


def test_an_unreadable_cache_is_told_of_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pixels_of(root)
    (path,) = caches(root)
    cache = pixel_cache.Cache(path, image_folder.list_split(root / "train"))

    def broken(file: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sealed, "content_length", broken)
    assert [cache.open() for _ in range(3)] == [None, None, None]
    assert warned(caplog) == [f"not using the decoded images kept in {path}: Input/output error"]


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said to the user, whatever the logger's level is: other tests of the process may have set it."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def make_read_only(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As far as `image_folder` can tell; permissions would not stop a root user who runs this test."""
    original = os.open

    def refuse(path: object, *arguments: int, **extra: int) -> int:
        if any(Path(str(path)).is_relative_to(folder) for folder in folders) and arguments[0] & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, *arguments, **extra)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)


def test_a_read_only_folder_has_its_cache_at_the_users(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_read_only(monkeypatch, root)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    (kept,) = caches(tmp_path / "user-cache" / "hpcnas")
    (said,) = warned(caplog)
    assert not caches(root) and said.startswith(f"cannot keep the decoded images in {root}/.hpcnas-train-")
    assert said.endswith(f".npy: Read-only file system; they are in {kept}")
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_two_read_only_folders_that_look_alike_share_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black, white = tmp_path / "black", tmp_path / "white"
    for root, value in ((black, 0), (white, 255)):
        for name in ("cat", "dog"):
            save(root / "train" / name / "0.bmp", np.full((8, 8, 3), value, np.uint8))
            os.utime(root / "train" / name / "0.bmp", ns=(1, 1))
    make_read_only(monkeypatch, black, white)
    assert (pixels_of(black).max(), pixels_of(white).min()) == (0, 255)


def test_without_any_place_every_process_decodes_and_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_read_only(monkeypatch, root, tmp_path / "user-cache")
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    (said,) = warned(caplog)  # the same words in every process: the log has them once
    assert said.startswith(
        f"no place for the decoded images: every process decodes {root}/train into memory of its own, which may not "
    )
    first, second = said.partition("(")[2].rstrip(")").split("; ")
    assert first.startswith(str(root / ".hpcnas-train-")) and first.endswith(".npy: Read-only file system")
    assert second.startswith(str(tmp_path / "user-cache")) and second.endswith(".npy: Read-only file system")


def test_a_full_disk_leaves_nothing_behind(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of the pixels, too: what is written then is a part of them."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for place in ((os, "fsync"), (sealed.Sealing, "write")):
        with monkeypatch.context() as patched:
            patched.setattr(*place, full)
            found = pixels_of(root)
        np.testing.assert_array_equal(found, drawn(0, 1, 2, 3, 4, 5))
        assert not isinstance(found, np.memmap)
        assert [path.suffix for path in root.iterdir() if path.is_file()] == [".lock"]
        (said,) = warned(caplog)
        assert said.count("No space left on device") == 2 and "into memory of its own" in said
        caplog.clear()


def test_a_file_system_without_locks_will_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    assert len(caches(root)) == 1


def test_a_process_that_decodes_without_a_sign_of_life_is_not_waited_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pixel_cache, "STALL_SECONDS", 0.0)
    key = image_folder.list_split(root / "train").key
    with open(root / f".hpcnas-train-{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    assert not caches(root) and len(caches(tmp_path / "user-cache" / "hpcnas")) == 1
    assert "no sign of life" in caplog.text


def test_what_another_process_finished_meanwhile_is_not_decoded_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels_of(root)
    forbid_decoding(monkeypatch)
    listing = image_folder.list_split(root / "train")
    found = pixel_cache.fill_once(listing, pixel_cache.Cache(caches(root)[0], listing))
    np.testing.assert_array_equal(found, drawn(0, 1, 2, 3, 4, 5))


@pytest.mark.parametrize("alive", [True, False])
def test_waiting_lasts_as_long_as_there_are_signs_of_life(
    root: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """A clock of its own; the process that has the lock finishes after three times the limit."""
    now = 0.0
    finished = 3 * pixel_cache.STALL_SECONDS
    with open(root / "lock", "w") as held, open(root / "lock", "w") as lock:

        def sleep(pause: float) -> None:
            nonlocal now
            now += 100.0
            if alive:
                os.utime(held.fileno(), (now, now))

        monkeypatch.setattr(time, "monotonic", lambda: now)
        monkeypatch.setattr(time, "sleep", sleep)
        fcntl.flock(held, fcntl.LOCK_EX)
        found = drawn(0)
        if alive:
            assert pixel_cache.wait_for_lock(lock.fileno(), lambda: found if now > finished else None) is found
        else:
            with pytest.raises(TimeoutError):
                pixel_cache.wait_for_lock(lock.fileno(), lambda: found if now > finished else None)


def test_a_process_that_decodes_shows_life_after_every_block(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[int] = []
    monkeypatch.setattr(image_folder, "_BLOCK", 2)
    monkeypatch.setattr(os, "utime", signs.append)
    pixels_of(root)
    assert len(signs) == 3  # six images


def test_litter_of_killed_processes_is_removed(root: Path) -> None:
    key = image_folder.list_split(root / "train").key
    old, fresh = (root / f".hpcnas-train-{key}.npy.{name}.tmp" for name in ("host-1", "host-2"))
    old.touch()
    fresh.touch()
    os.utime(old, (1, 1))
    pixels_of(root)
    assert not old.exists() and fresh.exists()  # the fresh one's process may still be at work


# Many processes

LOADER = """
    import logging, sys, time
    from pathlib import Path
    from hpcnas.data import datasets, image_folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root, go_on = sys.argv[1:]
    decode = image_folder._decode
    def held(listing):  # stops after the first of six blocks
        for block in decode(listing):
            yield block
            while not Path(go_on).exists():
                time.sleep(0.01)
    image_folder._decode, image_folder._BLOCK = held, 1
    print("ready", flush=True)
    sys.stdin.readline()
    print(datasets.load_training("imagefolder:" + root).fingerprint)
"""
DECODING, WAITING = "decoding 6 images", "waiting for the process that decodes"

Loaders = Callable[[int], list[subprocess.Popen[str]]]


@pytest.fixture
def loaders(root: Path, tmp_path: Path) -> Iterator[Loaders]:
    """Starts processes that load the folder at once; one that decodes holds until `go-on` exists."""
    processes: list[subprocess.Popen[str]] = []

    def start(count: int) -> list[subprocess.Popen[str]]:
        command = [sys.executable, "-c", textwrap.dedent(LOADER), str(root), str(tmp_path / "go-on")]
        pipe = subprocess.PIPE
        started = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) for _ in range(count)
        ]
        processes.extend(started)
        assert [process.stdout.readline() for process in started] == ["ready\n"] * count  # type: ignore[union-attr]
        for process in started:
            process.stdin.write("go\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
        return started

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def message(process: subprocess.Popen[str]) -> str:
    """The next line that the process logs."""
    assert process.stderr is not None
    return process.stderr.readline()


def fingerprints(processes: list[subprocess.Popen[str]]) -> set[str]:
    return {process.communicate()[0].strip() for process in processes}


def test_of_eight_processes_at_once_one_decodes(root: Path, tmp_path: Path, loaders: Loaders) -> None:
    processes = loaders(8)
    messages = [message(process) for process in processes]
    assert sum(line.startswith(DECODING) for line in messages) == 1
    assert sum(line.startswith(WAITING) for line in messages) == 7
    assert len(list(root.glob("*.tmp"))) == 1 and not caches(root)
    (tmp_path / "go-on").touch()
    assert fingerprints(processes) == {datasets.load_training(f"imagefolder:{root}").fingerprint}
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_when_the_process_that_decodes_is_killed_another_takes_over(
    root: Path, tmp_path: Path, loaders: Loaders
) -> None:
    (first,) = loaders(1)
    assert message(first).startswith(DECODING)
    others = loaders(3)
    assert all(message(process).startswith(WAITING) for process in others)
    first.kill()
    first.wait()
    (tmp_path / "go-on").touch()
    assert fingerprints(others) == {datasets.load_training(f"imagefolder:{root}").fingerprint}
    assert len(caches(root)) == 1
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
