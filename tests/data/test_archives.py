"""CIFAR-100, MNIST and SVHN out of files of the originals' form, with their MD5 sums put in place of the originals'."""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path

import demand
import numpy as np
import pytest
from test_datasets import write_fashion_mnist

from hpcnas.config import data_spec
from hpcnas.config.data_spec import DataError
from hpcnas.data import archives, datasets


def test_mnist_lies_as_fashion_mnist_does_in_a_folder_of_its_name(tmp_path: Path) -> None:
    pixels = write_fashion_mnist(tmp_path)
    (tmp_path / "FashionMNIST").rename(tmp_path / "MNIST")
    for name in (tmp_path / "MNIST" / "raw").glob("t10k-*"):
        name.write_bytes(b"")  # a search opens none of it
    found = datasets.load_training(f"mnist:{tmp_path}")
    np.testing.assert_array_equal(found.images.pixels[..., 0], pixels[:6])
    assert found.classes[3] == "3 - three"


def test_cifar100_is_read_from_the_original_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcnas.data.torchvision_shim import import_torchvision

    cifar100 = import_torchvision().datasets.CIFAR100
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)

    def dump(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    names = [f"class {number}" for number in range(100)]
    meta = {"filename": "meta", "key": "fine_label_names", "md5": dump("meta", {"fine_label_names": names})}
    train = dump("train", {"data": pixels[:5].reshape(5, -1), "fine_labels": [9, 99, 0, 1, 2]})
    monkeypatch.setattr(cifar100, "train_list", [["train", train]])
    monkeypatch.setattr(cifar100, "test_list", [["test", "0" * 32]])
    monkeypatch.setattr(cifar100, "meta", meta)
    found = datasets.load_training(f"cifar100:{tmp_path}")
    np.testing.assert_array_equal(found.images.pixels, pixels[:5].transpose(0, 2, 3, 1))
    assert found.images.labels.tolist() == [9, 99, 0, 1, 2] and found.classes[99] == "class 99"
    with pytest.raises(DataError, match="expected the original archive, unpacked, in .*cifar-100-python: missing"):
        datasets.load_test(f"cifar100:{tmp_path}")


def test_svhn_is_read_from_the_original_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io = demand.package("scipy.io")
    from hpcnas.data.torchvision_shim import import_torchvision

    svhn = import_torchvision().datasets.SVHN
    pixels = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    file = tmp_path / "train_32x32.mat"
    io.savemat(file, {"X": pixels.transpose(1, 2, 3, 0), "y": np.array([[1], [10], [5], [9]])})  # 10 stands for 0
    listed = ["http://nowhere", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(svhn, "split_list", {**svhn.split_list, "train": listed})
    found = datasets.load_training(f"svhn:{tmp_path}")
    np.testing.assert_array_equal(found.images.pixels, pixels)
    assert found.images.labels.tolist() == [1, 0, 5, 9] and found.classes == tuple("0123456789")


def test_svhn_without_scipy_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=f"svhn:{tmp_path}: expected to import what reads it: .*scipy.*install"):
        datasets.load_training(f"svhn:{tmp_path}")


@pytest.mark.parametrize("kind", ["cifar100", "mnist", "svhn"])
def test_a_missing_archive_says_where_it_belongs(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=f"^expected the original .* in {tmp_path}.*missing or damaged; put it there"):
        archives.load(kind, tmp_path, "test", download=False)
    assert data_spec.title(f"{kind}:{tmp_path}", 10, "0" * 16) == data_spec.ARCHIVES[kind]
