"""Images out of HDF5 files, npz files and folders of npy files: the same arrays, and one line for whatever is odd."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from array_content import Content, content, in_folder, in_hdf5, in_npz

from hpcnas.config.data_spec import ArrayData, DataError, parse
from hpcnas.data import array_files, arrays, datasets
from hpcnas.storage import hdf5_arrays

KEEPERS: list[Callable[[Path, Content], Path]] = [in_hdf5, in_npz, in_folder]
each_kind = pytest.mark.parametrize("keep", KEEPERS)


@each_kind
def test_the_same_arrays_out_of_every_kind_of_file(
    keep: Callable[[Path, Content], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_BLOCK", 2 * 8 * 9 * 4 * 4)  # bytes: two images
    data = content(train_images=content()["train_images"].astype(">f4"))
    path = keep(tmp_path, data)
    found = datasets.load_training(f"arrays:{path}")
    assert found.classes == ("oak", "elm", "ash") and found.images.pixels.dtype == np.float32
    np.testing.assert_array_equal(found.images.pixels, data["train_images"])
    assert found.images.labels.tolist() == data["train_labels"].tolist()
    assert found.images.groups is not None and found.images.groups.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    np.testing.assert_array_equal(datasets.load_test(f"arrays:{path}").images.pixels, data["test_images"])
    assert arrays.form(path, None) == arrays.Form(12, 8, 9, 4, "float32", 3, None)


@each_kind
@pytest.mark.parametrize("kind", arrays.TYPES)
def test_channels_first_as_the_file_or_the_option_says(
    keep: Callable[[Path, Content], Path], kind: str, tmp_path: Path
) -> None:
    images = np.random.default_rng(1).integers(0, 200, (12, 8, 9, 5)).astype(kind)
    turned = content(train_images=images.transpose(0, 3, 1, 2), groups=None)
    path = keep(tmp_path, turned)
    if keep is not in_hdf5:
        path = keep(tmp_path, turned | {"layout": np.array("NCHW")})
        spec = f"arrays:{path}"
    else:
        spec = f"arrays:{path}:nchw"
    found = datasets.load_training(spec).images.pixels
    assert found.dtype == kind and found.flags.c_contiguous
    np.testing.assert_array_equal(found, images)


def test_an_attribute_says_how_axes_lie(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = in_hdf5(tmp_path, content(train_images=np.arange(12 * 8 * 8 * 9, dtype="i2").reshape(12, 8, 8, 9)))
    for place in ("/", "train/images"):
        with h5py.File(path, "r+") as file:
            file[place].attrs["layout"] = "NCHW"
        assert arrays.form(path, None).channels == 8
        assert arrays.form(path, "nhwc").channels == 9  # what is said for this start comes first
        (message,) = caplog.messages
        assert message.endswith("train/images: taken as nhwc, as is asked for, though the file says nchw")
        caplog.clear()
        with h5py.File(path, "r+") as file:
            del file[place].attrs["layout"]
    assert arrays.form(path, None).channels == 9


def test_validation_images_of_their_own_and_classes_without_names(tmp_path: Path) -> None:
    data = content(classes=None, validation_images=content()["test_images"], validation_labels=np.array([2, 0, 0]))
    found = datasets.load_training(f"arrays:{in_npz(tmp_path, data)}")
    assert found.classes == ("0", "1", "2") and found.validation is not None
    assert found.validation.labels.tolist() == [2, 0, 0]
    other = data | {"validation_labels": np.array([2, 0, 1])}
    assert datasets.load_training(f"arrays:{in_npz(tmp_path, other)}").fingerprint != found.fingerprint


def test_the_fingerprint_tells_groups_and_types_apart(tmp_path: Path) -> None:
    whole = np.arange(12 * 8 * 9 * 4).reshape(12, 8, 9, 4) % 200
    prints = set()
    for changes in (
        {"train_images": whole.astype("u1")},
        {"train_images": whole.astype("u1"), "groups": None},
        {"train_images": whole.astype("u1"), "groups": np.arange(12) // 2},
        {"train_images": whole.astype("u2")},
        {"train_images": whole.astype("i2")},
    ):
        prints.add(datasets.load_training(f"arrays:{in_npz(tmp_path, content(**changes))}").fingerprint)
    assert len(prints) == 5


def with_value(value: float) -> np.ndarray:
    images = content()["train_images"]
    images[7, 3, 8, 2] = value
    return images


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_images": with_value(np.nan)},
         "train/images[7], row 3, column 8, channel 2: expected finite values, got nan"),
        ({"train_images": with_value(-np.inf)}, "train/images[7], row 3, column 8, channel 2: expected finite"),
        ({"train_images": np.ones((12, 8, 9, 4))}, "train/images: expected values of uint8, uint16, int16, float16, "),
        ({"train_images": np.ones((12, 8, 9), "f4")}, "train/images: expected images (N, H, W, C) or (N, C, H, W)"),
        ({"train_images": np.ones((12, 8, 9, 300), "f4")}, "got 300 channels, 8×9; where the axes are "),
        ({"train_images": np.ones((12, 7, 9, 4), "f4")}, "sides of 8 pixels or more, got 4 channels, 7×9"),
        ({"train_images": np.ones((12, 12, 64, 64), "u1")}, "train/images: expected to be told whether (12, 12"),
        ({"train_images": np.ones((0, 8, 9, 4), "f4")}, "train/images: expected images (N, H, W, C) or"),
        ({"train_images": None}, "train/images: expected this array, but there is none"),
        ({"layout": np.array("chwn")}, "train/images: expected nhwc or nchw as its layout, got 'chwn'"),
        ({"train_labels": np.arange(11) % 3}, "train/labels: expected 12 labels, one an image, got 11"),
        ({"train_labels": np.array([0, 1, 2, 0, 1, 7, 0, 1, 2, 0, 1, -3])},
         "train/labels[5]: expected a class from 0 to 2, got 7, and 1 more like it"),
        ({"train_labels": np.arange(12) % 2}, "train/labels: expected images of every class, got none of"),
        ({"train_labels": np.arange(12) % 3 * 1.0}, "train/labels: expected whole numbers (N,), got float"),
        ({"train_labels": np.full(12, 2**63, "u8"), "classes": None}, "train/labels[0]: expected the number"),
        ({"train_labels": np.full(12, 900), "classes": None}, "train/labels[0]: expected the number"),
        ({"train_labels": None, "classes": None}, "train/labels: expected this array, but there is none"),
        ({"classes": np.array(["oak", "elm", "oak"])}, "classes: expected names that differ"),
        ({"classes": np.array([["oak"]])}, "classes: expected names in a row, got <U3 (1, 1)"),
        ({"groups": np.arange(3)}, "groups: expected 12 groups, one an image, got 3"),
        ({"groups": np.arange(12) / 2}, "groups: expected whole numbers or texts (N,), got float64"),
        ({"train_groups": np.arange(12)}, "groups: expected train/groups or groups, got both"),
        ({"validation_images": np.ones((2, 8, 9, 4), "f2"), "validation_labels": np.arange(2)},
         "expected validation images of float32 (8, 9, 4), as for training, got float16 (8, 9, 4)"),
        ({"validation_labels": np.arange(2)}, "validation/images: expected this array, but there is none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line_with_its_place(
    changes: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = in_npz(tmp_path, content(**changes))
    with pytest.raises(DataError) as caught:
        datasets.load_training(f"arrays:{path}")
    assert str(caught.value).startswith(f"arrays:{path}: ") and "\n" not in str(caught.value)
    assert expected in str(caught.value)


def test_test_arrays_stay_shut(tmp_path: Path) -> None:
    """They may be as wrong as they like, until they are asked for."""
    path = in_folder(tmp_path, content())
    (path / "test" / "images.npy").write_bytes(b"nothing")
    datasets.load_training(f"arrays:{path}")
    with pytest.raises(DataError, match=r"data: cannot be read: "):
        datasets.load_test(f"arrays:{path}")


# Files


@pytest.mark.parametrize("name", ["data.h5", "data.npz", "data.txt", "folder"])
def test_what_is_not_there_or_is_no_such_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"arrays:{tmp_path}/{name}: .*(o such file|not there)"):
        datasets.load_training(f"arrays:{tmp_path / name}")
    (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match=f"^arrays:{tmp_path}/{name}: "):
        datasets.load_training(f"arrays:{tmp_path / name}")


@pytest.mark.parametrize("keep", [in_hdf5, in_npz])
def test_a_file_that_was_cut_short_or_damaged(keep: Callable[[Path, Content], Path], tmp_path: Path) -> None:
    path = keep(tmp_path, content())
    whole = path.read_bytes()
    half = len(whole) // 2
    for damaged in (whole[:-100], whole[:2000], whole[:5000] + bytes(half - 5000) + whole[half:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"^arrays:{path}: "):
            datasets.load_training(f"arrays:{path}")


class Trap:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("keep", [in_npz, in_folder])
def test_nothing_is_unpickled(keep: Callable[[Path, Content], Path], tmp_path: Path) -> None:
    trap = np.empty(12, object)
    trap[:] = [Trap()] * 12
    for name in ("train_images", "groups"):
        path = keep(tmp_path, content(**{name: trap}))
        with pytest.raises(DataError, match=r"cannot be read: .*[Oo]bject"):
            datasets.load_training(f"arrays:{path}")
    assert pickle.dumps(1)


def test_an_npz_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    path = in_npz(tmp_path, content(train_images=None))
    import io
    import zipfile

    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 64, 64, 3)}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("train/images.npy", head.getvalue() + bytes(100))
    with pytest.raises(DataError, match=r"is not as long as its shape \(1099511627776, 64, 64, 3\) says"):
        datasets.load_training(f"arrays:{path}")


def test_columns_first_in_an_npz(tmp_path: Path) -> None:
    images = content()["train_images"]
    path = in_npz(tmp_path, content(train_images=np.asfortranarray(images)))
    np.testing.assert_array_equal(datasets.load_training(f"arrays:{path}").images.pixels, images)


def test_hdf5_opens_no_other_file_and_loads_no_filter(tmp_path: Path) -> None:
    other, path = in_hdf5(tmp_path, content()), tmp_path / "odd.h5"
    images, shape = content()["train_images"], (12, 8, 9, 4)
    source = h5py.VirtualSource(other, "train/images", shape=shape)
    virtual = h5py.VirtualLayout(shape, "f4")
    virtual[:] = source

    def unknown(file: h5py.File) -> None:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk(shape)
        made.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"train/images", h5py.h5t.NATIVE_FLOAT, space, made)

    name, raw = "train/images", [(str(tmp_path / "raw"), 0, images.nbytes)]
    fills: list[tuple[Callable[[h5py.File], object], str]] = [
        (lambda file: file.update({name: h5py.ExternalLink(other, name)}), "in the file itself, got a link"),
        (lambda file: file.update({name: h5py.SoftLink("/elsewhere")}), "in the file itself, got a link"),
        (lambda file: file.create_virtual_dataset(name, virtual), "but its values lie in other files"),
        (lambda file: file.create_dataset(name, shape, "f4", external=raw), "but its values lie in other files"),
        (unknown, "expected train/images compressed by gzip, LZF or not at all, got filter 32015"),
    ]
    for fill, expected in fills:
        with h5py.File(path, "w") as file:
            file["train/labels"] = np.arange(12) % 3
            fill(file)
        with pytest.raises(DataError) as caught:
            datasets.load_training(f"arrays:{path}")
        assert expected in str(caught.value)


def test_a_file_without_locks_is_read_and_one_that_is_written_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_hdf5(tmp_path, content())
    writing = f"import h5py, sys; file = h5py.File({str(path)!r}, 'r+'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", writing], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None and child.stdout.read(1)
        with pytest.raises(DataError, match="cannot be read: another process has it open for writing"):
            datasets.load_training(f"arrays:{path}")
        child.communicate(b"")
    real = h5py.File

    def without_locks(*given: Any, locking: object = None) -> h5py.File:
        if locking is not False:
            raise OSError("unable to lock file, errno = 37, error message = 'No locks available'")
        return real(*given, locking=locking)

    monkeypatch.setattr(hdf5_arrays.h5py, "File", without_locks)
    assert len(datasets.load_training(f"arrays:{path}").images.labels) == 12


def test_array_files_are_chosen_by_their_names(tmp_path: Path) -> None:
    with array_files.opened(in_npz(tmp_path, content())) as found:
        array = found.find("train/images")
        assert array is not None and array.shape == (12, 8, 9, 4) and found.find("train") is None
    assert parse("arrays:~/a:NCHW") == ArrayData(Path("~/a").expanduser(), "nchw")
    assert parse("arrays:a:b.h5") == ArrayData(Path("a:b.h5"), None)


def test_images_alone_are_read_to_be_classified(tmp_path: Path) -> None:
    images = content()["train_images"]
    pixels, labels, name = arrays.unlabelled(in_folder(tmp_path, {"images": images}), None)
    assert labels is None and name == "images" and np.array_equal(pixels, images)
    pixels, labels, name = arrays.unlabelled(in_npz(tmp_path, content()), None)
    assert labels is not None and labels.tolist() == [0, 1, 2] and name == "test/images" and len(pixels) == 3


@each_kind
def test_large_arrays_are_mapped_from_where_they_lie_or_from_a_cache(
    keep: Callable[[Path, Content], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_SHARED", 0)
    images = np.tile(content()["train_images"], (8, 1, 1, 1))
    data = content(train_images=images, train_labels=np.arange(96) % 3, groups=None)
    path = keep(tmp_path, data)
    first, again = (datasets.load_training(f"arrays:{path}").images.pixels for _ in range(2))
    assert isinstance(first, np.memmap) and first.filename == again.filename
    np.testing.assert_array_equal(first, images)
    (kept,) = list(tmp_path.glob(".hpcnas-*.npy")) or [path / "train" / "images.npy"]
    assert Path(first.filename) == kept and (keep is in_folder) == (kept.parent.name == "train")
    if keep is not in_folder:
        os.utime(path, ns=(1, 1))
        monkeypatch.setattr(arrays, "_BLOCK", 5)
        other = datasets.load_training(f"arrays:{path}").images.pixels
        assert isinstance(other, np.memmap) and other.filename != first.filename
        np.testing.assert_array_equal(other, images)
    np.testing.assert_array_equal(datasets.load_test(f"arrays:{path}").images.pixels, data["test_images"])


def test_litter_beside_arrays_of_any_name_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_SHARED", 0)
    path = in_npz(tmp_path, content()).rename(tmp_path / "data[1].npz")
    datasets.load_training(f"arrays:{path}")
    (kept,) = tmp_path.glob(".hpcnas-*.npy")
    litter = kept.rename(f"{kept}.1.tmp")
    os.utime(litter, (1, 1))
    datasets.load_training(f"arrays:{path}")
    assert kept.exists() and not litter.exists()


def test_plain_hdf5_is_mapped_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_SHARED", 0)
    images = content()["train_images"]
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["train/images"], file["train/labels"] = images, np.arange(12) % 3
    found = datasets.load_training(f"arrays:{tmp_path}/plain.h5").images.pixels
    assert isinstance(found, np.memmap) and found.filename == str(tmp_path / "plain.h5")
    np.testing.assert_array_equal(found, images)
