"""Data: each kind of images, and what may not happen to them.

The archives that torchvision reads are written here, small, and their MD5 sums put in place of the originals'.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import demand
import numpy as np
import pytest
from drawn_folders import write_folder

from hpcnas.config import data_spec
from hpcnas.config.data_spec import DataError
from hpcnas.data import datasets, splits
from hpcnas.data.channel_statistics import channel_statistics
from hpcnas.data.datasets import Images

ROOT = Path(datasets.__file__).parents[2]

_opened: list[str] | None = None  # what the audit hook below notes while it is a list


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event in ("open", "os.scandir", "os.listdir"):
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)  # for good: hooks cannot be taken away


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file opened and every folder listed during the test."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


# Specifications


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("digits", data_spec.Digits()),
        ("cifar10:/data", data_spec.DataFolder("cifar10", Path("/data"))),
        ("imagefolder:a:b", data_spec.DataFolder("imagefolder", Path("a:b"))),
        ("synthetic:500", data_spec.Synthetic(500, (3, 32, 32))),
        ("synthetic:10:1x8x9", data_spec.Synthetic(10, (1, 8, 9))),
    ],
)
def test_a_specification_becomes_a_record(spec: str, expected: data_spec.DataSpec) -> None:
    assert data_spec.parse(spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("cifar:/data", "got 'cifar:/data'; did you mean cifar10:DIR?"),
        ("zzz", "expected data as one of digits, cifar10:DIR, cifar100:DIR, fashion-mnist:DIR, mnist:DIR, svhn:DIR, "),
        ("", "got ''"),
        ("cifar10", "expected cifar10:DIR, got 'cifar10'"),
        ("imagefolder:", "expected imagefolder:DIR, got 'imagefolder:'"),
        ("digits:8", "expected digits, got 'digits:8'"),
        ("synthetic:many", "such as synthetic:2000:3x32x32; got 'synthetic:many'"),
        ("synthetic:9", "expected 10 training images or more"),
        ("synthetic:20:257x32x32", "got 257 channels, 32×32"),
        ("synthetic:20:3x32x7", "got 3 channels, 32×7"),
    ],
)
def test_a_bad_specification_is_refused_in_one_line(spec: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        datasets.load_training(spec)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def python(script: str, **extra: object) -> subprocess.CompletedProcess[str]:
    """What a fresh interpreter makes of it."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, **{"cwd": ROOT, **extra})  # type: ignore[call-overload]


def test_heavy_packages_are_loaded_only_where_needed() -> None:
    script = """
        import sys
        from hpcnas.config import data_spec
        data_spec.parse("synthetic:100")
        assert "numpy" not in sys.modules
        from hpcnas.data import datasets
        datasets.load_training("digits"), datasets.load_test("synthetic:100")
        print(sorted({"torch", "torchvision", "PIL", "sklearn", "h5py", "mpi4py"} & set(sys.modules)))
    """
    assert python(script).stdout == "[]\n"


# Records


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (np.zeros((2, 8, 8, 3), np.float64), np.zeros(2, np.int64)),
        (np.zeros((2, 8, 8, 3), ">u2"), np.zeros(2, np.int64)),
        (np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 8, 8, 257), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32)),
        (np.zeros((2, 8, 8, 1), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64)),
    ],
)
def test_images_of_a_wrong_form_cannot_be_made(pixels: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        Images(pixels, labels)


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_a_label_without_a_class_is_refused(labels: list[int]) -> None:
    images = Images(np.zeros((2, 8, 8, 1), np.uint8), np.array(labels))
    with pytest.raises(DataError, match="expected labels from 0 to 1"):
        datasets.DataSet("x", ("a", "b"), images, "0" * 16)


# Splitting and statistics


def test_the_split_is_a_fixed_permutation_of_all_images() -> None:
    images = Images(np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), np.arange(10))
    training, validation, name = splits.split(images, 0.2, seed=7)
    assert name == ""
    assert validation.labels.tolist() == [8, 0]
    assert training.labels.tolist() == [7, 1, 3, 6, 2, 4, 5, 9]
    assert training.pixels.ravel().tolist() == training.labels.tolist()  # pixels go with their labels
    assert splits.split(images, 0.2, seed=8)[1].labels.tolist() == [0, 7]


def test_the_split_of_cifar_10_has_the_papers_sizes() -> None:
    images = Images(np.zeros((50_000, 1, 1, 1), np.uint8), np.zeros(50_000, np.int64))
    training, validation, _ = splits.split(images, 0.2, seed=0)
    assert (len(training.labels), len(validation.labels)) == (40_000, 10_000)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.99, 1.0, -0.5])
def test_a_split_without_images_on_both_sides_is_refused(fraction: float) -> None:
    images = Images(np.zeros((10, 1, 1, 1), np.uint8), np.zeros(10, np.int64))
    with pytest.raises(DataError, match="splits 10 images in two"):
        splits.split(images, fraction, seed=0)


def test_channel_statistics_are_the_literal_ones() -> None:
    pixels = np.array([[[[0, 7, 1]], [[4, 7, 3]]]], np.uint8)  # one image of 2×1
    mean, deviation = channel_statistics(pixels)
    assert mean.tolist() == [2.0, 7.0, 2.0]
    assert deviation.tolist() == [2.0, 1.0, 1.0]  # the second channel is constant: 1 stands in for 0


def test_channel_statistics_agree_with_numpy_over_many_blocks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 3, 2, 3), dtype=np.uint8)
    mean, deviation = channel_statistics(pixels)
    assert mean.dtype == deviation.dtype == np.float64
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)), rtol=1e-12)


# Fingerprints


def test_the_fingerprint_changes_with_everything_that_matters() -> None:
    pixels, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
    other_pixel = pixels.copy()
    other_pixel[3, 7, 7, 0] = 1
    prints = [
        datasets.fingerprint(("a", "b"), Images(pixels, labels)),
        datasets.fingerprint(("a", "c"), Images(pixels, labels)),
        datasets.fingerprint(("a", "b"), Images(other_pixel, labels)),
        datasets.fingerprint(("a", "b"), Images(pixels, labels[::-1].copy())),
        datasets.fingerprint(("a", "b"), Images(pixels.reshape(4, 4, 16, 1), labels)),
    ]
    assert len(set(prints)) == 5
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)


def test_the_fingerprint_of_large_data_takes_evenly_spaced_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_HASHED_BYTES", 2 * 64)
    pixels, labels = np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64)
    before = datasets.fingerprint((), Images(pixels, labels))
    pixels[1] = 1  # between the images 0 and 2 of the sample
    assert datasets.fingerprint((), Images(pixels, labels)) == before
    pixels[2] = 1
    assert datasets.fingerprint((), Images(pixels, labels)) != before


# Digits


def test_digits_are_scikit_learns_divided_as_documented() -> None:
    source = demand.package("sklearn.datasets").load_digits()
    place = np.array([np.count_nonzero(source.target[:i] == source.target[i]) for i in range(1797)])
    for loaded, part in (
        (datasets.load_training("digits"), place % 5 != 4),
        (datasets.load_test("digits"), place % 5 == 4),
    ):
        np.testing.assert_array_equal(loaded.images.pixels[..., 0], source.images[part])
        np.testing.assert_array_equal(loaded.images.labels, source.target[part])


def test_digits_have_the_published_form() -> None:
    training, test = datasets.load_training("digits"), datasets.load_test("digits")
    assert training.images.pixels.shape == (1442, 8, 8, 1) and test.images.pixels.shape == (355, 8, 8, 1)
    assert training.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert (training.images.pixels.min(), training.images.pixels.max()) == (0, 16)
    assert np.bincount(training.images.labels).min() >= 140 and np.bincount(test.images.labels).min() >= 34
    assert training.fingerprint == "e07a8f81c49b1b95"  # may change only with the data or the fingerprint's definition


# Synthetic images


def test_synthetic_images_never_change() -> None:
    loaded = datasets.load_training("synthetic:50")
    assert loaded.images.pixels.shape == (50, 32, 32, 3)
    assert np.bincount(loaded.images.labels).tolist() == [5] * 10
    assert loaded.fingerprint == "df802353190f486d"  # may change only with their definition


def test_synthetic_images_take_other_shapes() -> None:
    assert datasets.load_training("synthetic:20:1x8x12").images.pixels.shape == (20, 8, 12, 1)
    assert datasets.load_test("synthetic:20:1x8x12").images.pixels.shape == (4, 8, 12, 1)


def test_synthetic_classes_can_be_learnt_and_the_test_images_are_others() -> None:
    training, test = datasets.load_training("synthetic:1000").images, datasets.load_test("synthetic:1000").images
    means = np.stack([training.pixels[training.labels == k].mean(0) for k in range(10)])
    distance = ((test.pixels[:, None].astype(float) - means) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == test.labels).mean() > 0.95
    assert not (test.pixels == training.pixels[:200]).all((1, 2, 3)).any()


# CIFAR-10 and Fashion-MNIST


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, *, side: int = 32) -> np.ndarray:
    """A small archive of the original's form, and its MD5 sums where torchvision looks; the 25 training images."""
    from hpcnas.data.torchvision_shim import import_torchvision

    cifar10 = import_torchvision().datasets.CIFAR10
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(3).integers(0, 256, (30, 3, side, side), dtype=np.uint8)

    def dump(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    sums = []
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        part = pixels[5 * number : 5 * number + 5].reshape(5, -1)
        sums.append([name, dump(name, {"data": part, "labels": [number, 9, 8, 7, 6]})])
    meta = {"filename": "batches.meta", "key": "label_names"}
    meta["md5"] = dump("batches.meta", {"label_names": [f"class {n}" for n in range(10)]})
    monkeypatch.setattr(cifar10, "train_list", sums[:5])
    monkeypatch.setattr(cifar10, "test_list", sums[5:])
    monkeypatch.setattr(cifar10, "meta", meta)
    return pixels.transpose(0, 2, 3, 1)


def test_cifar10_is_read_from_the_original_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar10(tmp_path, monkeypatch)
    training, test = datasets.load_training(f"cifar10:{tmp_path}"), datasets.load_test(f"cifar10:{tmp_path}")
    np.testing.assert_array_equal(training.images.pixels, pixels[:25])
    np.testing.assert_array_equal(test.images.pixels, pixels[25:])
    assert training.images.labels.tolist()[::5] == [0, 1, 2, 3, 4] and test.images.labels.tolist() == [5, 9, 8, 7, 6]
    assert training.classes[9] == "class 9" and training.name == f"cifar10:{tmp_path}"
    assert training.images.pixels.flags.c_contiguous


def test_a_damaged_cifar10_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    with open(tmp_path / "cifar-10-batches-py" / "data_batch_3", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match="batches-py: missing or damaged; put it there or ask for the download"):
        datasets.load_training(f"cifar10:{tmp_path}")


def test_cifar10_of_a_wrong_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch, side=16)
    with pytest.raises(DataError, match="expected the original archive"):
        datasets.load_training(f"cifar10:{tmp_path}")


def test_the_download_unpacks_an_archive_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar10(tmp_path / "made", monkeypatch)
    archive = tmp_path / "data" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="ask for the download"):
        datasets.load_training(f"cifar10:{archive.parent}")
    loaded = datasets.load_training(f"cifar10:{archive.parent}", download=True)
    np.testing.assert_array_equal(loaded.images.pixels, pixels[:25])


def write_fashion_mnist(root: Path) -> np.ndarray:
    """Six training and four test images in idx files; the pixels of all."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(4).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    for prefix, part in (("train", slice(0, 6)), ("t10k", slice(6, 10))):
        count = len(pixels[part])
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels[part].tobytes())
        labels = struct.pack(">II", 0x801, count) + bytes(range(count))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    return pixels


def test_fashion_mnist_is_read_from_the_original_files(tmp_path: Path) -> None:
    pixels = write_fashion_mnist(tmp_path)
    training, test = (
        datasets.load_training(f"fashion-mnist:{tmp_path}"),
        datasets.load_test(f"fashion-mnist:{tmp_path}"),
    )
    np.testing.assert_array_equal(training.images.pixels[..., 0], pixels[:6])
    np.testing.assert_array_equal(test.images.pixels[..., 0], pixels[6:])
    assert training.images.labels.tolist() == [0, 1, 2, 3, 4, 5] and len(training.classes) == 10


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("size", [0, 3, 11])
def test_a_truncated_fashion_mnist_file_is_refused(tmp_path: Path, name: str, size: int) -> None:
    write_fashion_mnist(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError) as caught:
        datasets.load_training(f"fashion-mnist:{tmp_path}")
    assert str(caught.value).startswith(f"fashion-mnist:{tmp_path}: expected ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["cifar10", "fashion-mnist"])
def test_a_missing_archive_says_where_it_belongs(tmp_path: Path, kind: str) -> None:
    with pytest.raises(
        DataError, match=f"{kind}:{tmp_path}: expected the original .* in {tmp_path}/.*missing or damaged"
    ):
        datasets.load_training(f"{kind}:{tmp_path}")


def test_torchvision_is_whole_after_the_remedy() -> None:
    from hpcnas.data.torchvision_shim import import_torchvision

    torchvision = import_torchvision()
    parts = [name.split(".")[1] for name in sys.modules if name.count(".") == 1 and name.startswith("torchvision.")]
    assert {"datasets", "transforms", "models", "extension"} <= set(parts)
    assert [part for part in parts if not hasattr(torchvision, part)] == []


def test_torchvision_is_left_alone_where_it_imports() -> None:
    script = """
        import sys, types
        sys.modules["torchvision"] = there = types.ModuleType("torchvision")
        from hpcnas.data.torchvision_shim import import_torchvision
        assert import_torchvision() is there
        print("torch" in sys.modules)
    """
    assert python(script).stdout == "False\n"


def test_another_fault_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('another fault')")
    script = "from hpcnas.data import datasets; datasets.load_training('cifar10:.')"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = python(script, env=environment, cwd=tmp_path)
    assert "expected a torchvision that fits the torch beside it: RuntimeError: another fault" in done.stderr


# The test split stays shut


@pytest.mark.parametrize("kind", ["cifar10", "fashion-mnist", "imagefolder"])
def test_loading_for_training_opens_no_test_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    root = tmp_path / "data"
    write_cifar10(root, monkeypatch), write_fashion_mnist(root), write_folder(root)
    inside = f"{root}{os.sep}"

    def parts_opened() -> set[str]:
        names = {path.removeprefix(inside) for path in opened if path.startswith(inside)}
        return {part for name in names for part in ("train", "data_batch", "test", "t10k") if part in name}

    opened.clear()
    datasets.load_training(f"{kind}:{root}")
    assert parts_opened() == {"data_batch" if kind == "cifar10" else "train"}
    datasets.load_test(f"{kind}:{root}")
    assert parts_opened() & {"test", "t10k"}  # the hook would have noticed


def test_training_digits_are_loaded_without_the_test_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = np.lib.npyio.NpzFile.__getitem__

    def note(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
        read.append(name)
        return original(arrays, name)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", note)
    datasets.load_training("digits")
    assert read == ["train_pixels", "train_labels"]


def test_training_needs_no_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch), write_fashion_mnist(tmp_path), write_folder(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    (tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte").unlink()
    (tmp_path / "test").rename(tmp_path / "elsewhere")
    for kind in ("cifar10", "fashion-mnist", "imagefolder"):
        datasets.load_training(f"{kind}:{tmp_path}")
        with pytest.raises(DataError):
            datasets.load_test(f"{kind}:{tmp_path}")
