"""A folder of images as one array: what is read, and what many processes at once make of its cache.

Processes are real ones. Pictures are PNG, so what is read must equal what was drawn.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcnas import data, imagefolder
from hpcnas.dataspec import DataError

ROOT = Path(data.__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


def draw(seed: int, height: int = 8, width: int = 10, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path)


def write_folder(root: Path, *, channels: int = 3) -> Path:
    """Classes `cat` and `dog` of 3 images; the training image n is draw(n), the test image n is draw(1000 + n)."""
    for split, first in (("train", 0), ("test", 1000)):
        for number in range(6):
            name = ("cat", "dog")[number // 3]
            save(root / split / name / f"{number:04}.png", draw(first + number, channels=channels))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def drawn(*seeds: int, channels: int = 3) -> np.ndarray:
    return np.stack([draw(seed, channels=channels) for seed in seeds])


def pixels_of(root: Path) -> np.ndarray:
    return data.load_training(f"imagefolder:{root}").images.pixels


def caches(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


# What is read


def test_both_splits_are_read_in_order(root: Path) -> None:
    training, test = data.load_training(f"imagefolder:{root}"), data.load_test(f"imagefolder:{root}")
    np.testing.assert_array_equal(training.images.pixels, drawn(0, 1, 2, 3, 4, 5))
    np.testing.assert_array_equal(test.images.pixels, drawn(1000, 1001, 1002, 1003, 1004, 1005))
    assert training.images.labels.tolist() == test.images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert training.classes == ("cat", "dog")


def test_more_images_than_a_block_keep_their_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefolder, "_BLOCK", 4)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_the_order_is_torchvisions(root: Path) -> None:
    save(root / "train" / "cat" / "deeper" / "9.PNG", draw(9))
    save(root / "train" / "cat" / "0001-b.jpeg", draw(8))
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    from hpcnas.torchvision_shim import import_torchvision

    theirs = import_torchvision().datasets.ImageFolder(root / "train")
    ours = imagefolder.list_split(root / "train")
    assert [str(root / "train" / file) for file in ours.files] == [path for path, _ in theirs.samples]
    assert ours.labels.tolist() == theirs.targets and list(ours.classes) == theirs.classes


def test_hidden_files_and_folders_are_no_images(root: Path) -> None:
    (root / "train" / "cat" / "._0000.png").write_bytes(b"what a Mac leaves behind")
    save(root / "train" / ".checkpoints" / "x.png", draw(7))
    save(root / "train" / "dog" / ".thumbnails" / "x.png", draw(7))
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def test_grey_images_keep_one_channel_if_all_are_grey(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "grey", channels=1)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5, channels=1))


@pytest.mark.parametrize("odd", ["cat/0000.png", "dog/0005.png"])
def test_one_coloured_image_among_grey_ones_makes_three_channels(tmp_path: Path, odd: str) -> None:
    root = write_folder(tmp_path / "mixed", channels=1)
    save(root / "train" / odd, draw(42))
    expected = np.repeat(drawn(0, 1, 2, 3, 4, 5, channels=1), 3, axis=3)
    expected[int(odd[-5])] = draw(42)
    np.testing.assert_array_equal(pixels_of(root), expected)


# What is refused


def save_16_bit(path: Path) -> None:
    Image.fromarray(np.zeros((8, 10), np.uint16)).save(path)


def empty_class(root: Path) -> None:
    for path in (root / "train" / "dog").iterdir():
        path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda t: save(t / "dog" / "0004.png", draw(0, height=9)), r"dog/0004.png is 10×9 pixels, .*0000.png is 10×8"),
        (lambda t: empty_class(t.parent), r"expected images \(.jpg, .* in .*train/dog, got none"),
        (lambda t: shutil.rmtree(t / "dog"), "expected two class folders or more in .*train, got 1"),
        (lambda t: shutil.rmtree(t), "expected .*train to hold a folder of images for each class: No such file"),
        (lambda t: truncate(t / "dog" / "0003.png"), "cannot read the image .*dog/0003.png: .*; replace or remove it"),
        (lambda t: (t / "cat" / "0001.png").write_bytes(b""), "cannot read the image .*cat/0001.png"),
        (lambda t: (t / "cat" / "broken.png").symlink_to("nowhere"), "cannot look through .*train: .*broken.png"),
        (lambda t: save_16_bit(t / "cat" / "0002.png"), "cat/0002.png: expected 8 bits a channel, got mode I"),
    ],
)
def test_unusable_images_are_refused_in_one_line(root: Path, spoil: Callable[[Path], object], expected: str) -> None:
    spoil(root / "train")
    with pytest.raises(DataError, match=expected) as caught:
        pixels_of(root)
    assert str(caught.value).startswith(f"imagefolder:{root}: ") and "\n" not in str(caught.value)
    assert not caches(root) and not list(root.glob("*.tmp"))


def test_a_folder_that_cannot_be_listed_is_not_passed_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(root / "train" / "dog" / "locked" / "9.png", draw(9))
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="cannot look through .*train: .*Permission denied: .*locked"):
        pixels_of(root)


def test_images_below_eight_pixels_are_refused(root: Path) -> None:
    for path in (root / "train").rglob("*.png"):
        save(path, draw(0, height=12, width=7))
    with pytest.raises(DataError, match="0000.png: expected sides of 8 pixels or more, got 7×12"):
        pixels_of(root)


def test_the_first_odd_image_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefolder, "_BLOCK", 2)
    for number in (5, 3, 4):
        save(root / "train" / "dog" / f"{number:04}.png", draw(0, width=20))
    with pytest.raises(DataError, match=r"dog/0003.png is 20×8"):
        pixels_of(root)


def test_other_classes_in_the_test_split_are_refused(root: Path) -> None:
    (root / "test" / "dog").rename(root / "test" / "horse")
    with pytest.raises(DataError, match="expected the same class folders"):
        data.load_test(f"imagefolder:{root}")


# The cache


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(listing: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(imagefolder, "_decode", fail)


def test_images_are_decoded_once_and_then_mapped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.load_training(f"imagefolder:{root}")
    forbid_decoding(monkeypatch)
    second = data.load_training(f"imagefolder:{root}")
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
    copy = data.load_training(f"imagefolder:{tmp_path}/copy")
    assert copy.fingerprint == data.load_training(f"imagefolder:{root}").fingerprint


def cut(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-100])


def cut_in_the_middle(cache: Path) -> None:
    content = cache.read_bytes()
    cache.write_bytes(content[:300] + content[310:])


def empty(cache: Path) -> None:
    cache.write_bytes(b"")


def foreign(cache: Path) -> None:
    np.save(cache, drawn(0, 1, 2, 3, 4, 6))


def of_another_state(cache: Path) -> None:
    content = cache.read_bytes()
    cache.write_bytes(content[:-4] + b"0123")


def spoil_the_header(cache: Path) -> None:
    content = cache.read_bytes()
    cache.write_bytes(b"#" * 20 + content[20:])


def make_a_folder(cache: Path) -> None:
    cache.unlink()
    cache.mkdir()


@pytest.mark.parametrize(
    "damage", [cut, cut_in_the_middle, empty, foreign, of_another_state, spoil_the_header, make_a_folder]
)
def test_a_bad_cache_is_noticed_and_made_again(
    root: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels_of(root)
    damage(caches(root)[0])
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))


def make_read_only(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As far as `imagefolder` can tell; permissions would not stop a root user who runs this test."""
    original = os.open

    def refuse(path: object, *arguments: int, **extra: int) -> int:
        if any(Path(str(path)).is_relative_to(folder) for folder in folders) and arguments[0] & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, *arguments, **extra)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)


def test_a_read_only_folder_has_its_cache_at_the_users(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_read_only(monkeypatch, root)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    assert not caches(root) and len(caches(tmp_path / "user-cache" / "hpcnas")) == 1
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
    assert "every process decodes" in caplog.text and "Read-only file system" in caplog.text


def test_a_full_disk_leaves_nothing_behind(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    assert [path.suffix for path in root.iterdir() if path.is_file()] == [".lock"]


def test_a_file_system_without_locks_will_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
    assert len(caches(root)) == 1


def test_a_process_that_decodes_without_a_sign_of_life_is_not_waited_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(imagefolder, "STALL_SECONDS", 0.0)
    key = imagefolder.list_split(root / "train").key
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
    found = imagefolder._decode_once(imagefolder.list_split(root / "train"), caches(root)[0])
    np.testing.assert_array_equal(found, drawn(0, 1, 2, 3, 4, 5))


@pytest.mark.parametrize("alive", [True, False])
def test_waiting_lasts_as_long_as_there_are_signs_of_life(
    root: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """A clock of its own; the process that has the lock finishes after three times the limit."""
    now = 0.0
    finished = 3 * imagefolder.STALL_SECONDS
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
            assert imagefolder._wait_for_lock(lock.fileno(), lambda: found if now > finished else None) is found
        else:
            with pytest.raises(TimeoutError):
                imagefolder._wait_for_lock(lock.fileno(), lambda: found if now > finished else None)


def test_a_process_that_decodes_shows_life_after_every_block(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[int] = []
    monkeypatch.setattr(imagefolder, "_BLOCK", 2)
    monkeypatch.setattr(os, "utime", signs.append)
    pixels_of(root)
    assert len(signs) == 3  # six images


def test_litter_of_killed_processes_is_removed(root: Path) -> None:
    key = imagefolder.list_split(root / "train").key
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
    from hpcnas import data, imagefolder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root, go_on = sys.argv[1:]
    decode = imagefolder._decode
    def held(listing):  # stops after the first of six blocks
        for block in decode(listing):
            yield block
            while not Path(go_on).exists():
                time.sleep(0.01)
    imagefolder._decode, imagefolder._BLOCK = held, 1
    print("ready", flush=True)
    sys.stdin.readline()
    print(data.load_training("imagefolder:" + root).fingerprint)
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
    assert fingerprints(processes) == {data.load_training(f"imagefolder:{root}").fingerprint}
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
    assert fingerprints(others) == {data.load_training(f"imagefolder:{root}").fingerprint}
    assert len(caches(root)) == 1
    np.testing.assert_array_equal(pixels_of(root), drawn(0, 1, 2, 3, 4, 5))
