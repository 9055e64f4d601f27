"""`hpcnas predict` with images whose classes are known: class-wise accuracies, and the confusion matrix as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from hpcnas.analysis import prediction
from hpcnas.analysis.confusion import Confusion
from hpcnas.analysis.prediction import Model
from hpcnas.command import predict
from hpcnas.errors import Error

NAMES = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is a stand-in: grey of 0, 1 or 2 is cat, dog or owl."""

    def scores(pixels: np.ndarray) -> np.ndarray:
        return 9.0 * np.eye(3)[pixels[:, 0, 0, 0].astype(int)]

    model = Model(scores, 1, 8, 8, 8, NAMES)
    monkeypatch.setattr(prediction, "model", lambda text: model)


def image(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("L", (8, 8), grey).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cats, one of them seen as a dog; a dog; and a broken owl."""
    for name, grey in (("cat/a", 0), ("cat/b", 1), ("dog/c", 1), ("elsewhere/d", 2)):
        image(tmp_path / "test" / f"{name}.png", grey)
    (tmp_path / "test" / "owl").mkdir()
    (tmp_path / "test" / "owl" / "e.png").write_text("no image")
    return tmp_path / "test"


def test_folders_of_classes_give_accuracies_of_classes_and_confusion(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["network", str(folder), "--confusion", str(tmp_path / "c.csv")]
    assert predict.main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-5:]] == [
        ["class", "images", "correct", "%"],
        ["cat", "2", "1", "50.0"],
        ["dog", "1", "1", "100.0"],
        [],
        "accuracy 0.6667: 2 of 3 images are of their class".split(),
    ]
    assert (tmp_path / "c.csv").read_text() == "class,cat,dog,owl\ncat,1,1,0\ndog,0,1,0\nowl,0,0,0\n"
    assert predict.main([*arguments, "--json"]) == 1
    assert capsys.readouterr().err.splitlines()[-2] == "accuracy 0.6667: 2 of 3 images are of their class"


def test_a_list_may_say_of_which_class_its_images_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_bytes(
        b"\xef\xbb\xbfid,file,label\r\n"  # as spreadsheets write it
        + f'1,"{folder}/cat/b.png",dog\r\n2,{folder}/elsewhere/d.png,\r\n3,{folder}/dog,cat\r\n'.encode()
    )
    assert predict.main(["network", "--list", str(tmp_path / "labels.csv"), "--csv", str(tmp_path / "found.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "accuracy 0.5000: 1 of 2 images are of their class"
    with open(tmp_path / "found.csv", newline="") as stream:
        assert [(row["label"], row["class_1"]) for row in csv.DictReader(stream)] == [
            ("dog", "dog"), ("", "owl"), ("cat", "dog"),
        ]  # fmt: skip
    again = ["network", "--list", str(tmp_path / "found.csv")]  # what --csv has written is such a list
    assert predict.main(again) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "accuracy 0.5000: 1 of 2 images are of their class"


def test_names_of_any_bytes_are_kept_in_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = image(tmp_path / "odd.png", 0).rename(tmp_path / "odd\udcff.png")
    (tmp_path / "list.csv").write_text(f"file,label\n{odd},cat\n", errors="surrogateescape")
    assert predict.main(["network", "--list", str(tmp_path / "list.csv")]) == 0
    assert "accuracy 1.0000: 1 of 1 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,label\na.png,cat\n", "expected columns file and, if known, label in its first line"),
        ("", "expected columns file and, if known, label in its first line"),
        ("file,label\na.png,frog\n", "a.png: expected a class of the network, such as cat, got frog"),
        (f"file,label\n{'a' * 2000},cat\n", r"list.csv: expected CSV: line \d: field larger than field limit"),
    ],
)
def test_lists_that_are_none(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    before = csv.field_size_limit(1000)
    try:
        with pytest.raises(Error, match=told):
            predict.main(["network", "--list", str(tmp_path / "list.csv")])
    finally:
        csv.field_size_limit(before)


def test_confusion_needs_classes_that_are_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.main(["network", str(folder / "cat" / "a.png"), "--confusion", "c.csv"])
    assert "--confusion: expected images in folders of classes, or a list" in capsys.readouterr().err


def test_of_many_classes_the_worst_are_told() -> None:
    numbers = np.arange(30)
    predicted = np.stack([numbers, (numbers + (numbers > 27)) % 30], axis=1).ravel()
    counts = Confusion.of(np.repeat(numbers, 2), predicted, 30)
    table = predict.class_table(counts, SimpleNamespace(class_names=tuple(map(str, numbers))))  # type: ignore[arg-type]
    header, first, second, third, *others = table.splitlines()
    assert header.split() == ["worst", "of", "30", "classes", "images", "correct", "%"]
    assert [line.split() for line in (first, second, third)] == [
        ["28", "2", "1", "50.0"], ["29", "2", "1", "50.0"], ["0", "2", "2", "100.0"],
    ]  # fmt: skip
    assert len(others) == 17
