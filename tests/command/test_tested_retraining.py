"""What a retraining says of test images, as `summary`, `plot` and `export` tell it: literal predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from toolruns import INPUTS, retrained

from hpcnas.analysis import mistakes, retrainings, tested
from hpcnas.analysis.figures import mistakes as figures
from hpcnas.analysis.figures import style, training
from hpcnas.analysis.figures.confusion import short
from hpcnas.analysis.mistakes import Mistake, NoPictures
from hpcnas.command import export, plot, summary
from hpcnas.data import datasets
from hpcnas.errors import Error
from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import Row

NAMES = INPUTS.class_names  # cat, dog, owl, emu
COLOURS = {"cat": (255, 0, 0), "dog": (0, 255, 0), "owl": (0, 0, 255), "emu": (255, 255, 0)}


def said(labels: list[int], predicted: list[int], shares: list[float], files: bool = True) -> Predictions:
    """Of each image its label, what it was taken for, and the probability of that; the next class is the second."""
    first, share = np.array(predicted, dtype=np.int32), np.array(shares, dtype=np.float32)
    rest = (1 - share) / 3
    return Predictions(
        images=np.arange(len(labels)),
        labels=np.array(labels, dtype=np.int32),
        label_probabilities=np.where(first == labels, share, rest).astype(np.float32),
        classes=np.stack([(first + more) % 4 for more in range(4)], axis=1),
        probabilities=np.stack([share, rest, rest, rest], axis=1),
        files=np.array([f"val/{NAMES[label]}/{number}.png" for number, label in enumerate(labels)]).astype("S")
        if files
        else None,
    )


#                   cat cat dog dog dog owl; no emu
FIRST = said([0, 0, 1, 1, 1, 2], [0, 1, 1, 0, 0, 2], [0.9, 0.75, 0.5, 0.875, 0.625, 1.0])
SECOND = said([0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 0, 2], [0.5] * 6)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The test images: each of the colour of its class."""
    for number, label in enumerate(FIRST.labels.tolist()):
        path = tmp_path / "data" / "val" / NAMES[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (16, 16), COLOURS[NAMES[label]]).save(path)
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path: Path, data: Path) -> Path:
    """Two complete trainings that have kept their predictions."""
    path = retrained(tmp_path / "large", [0.5, 5 / 6], settings={"data": {"source": f"imagefolder:{data}"}})
    record = record_file.read(path)
    record.history = [Row(0, 100, 2.25, 0.125, 0.1, 1000.5, 0.25)]
    record_file.write(path, record)
    for seed, each in enumerate((FIRST, SECOND)):
        predictions.write(path, record, seed, each)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in tmp_path; of curves nothing is drawn, which takes time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "training_curves_picture", lambda found: style.new_figure(1, 1))


def test_summary_names_the_worst_and_the_best_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[7:10] == [
        "  worst classes  dog (50.0 %), cat (75.0 %)",
        "  best classes   owl (100.0 %), cat (75.0 %)",
        "  confused most  dog as cat (50.0 %), cat as dog (25.0 %)",
    ]
    assert summary.main([str(folder), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["classes"]["trainings"] == 2
    assert told["classes"]["worst"][0] == {"class": "dog", "images": 6, "accuracy": 0.5}
    assert told["classes"]["confused"][0] == {"label": "dog", "predicted": "cat", "images": 3, "share": 0.5}


def test_an_older_retraining_and_damaged_predictions_do_without(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    predictions.path(folder, 1).write_bytes(b"damaged")
    assert summary.main([str(folder)]) == 0
    assert "predictions-1.h5: expected predictions for test images, but" in capsys.readouterr().out
    assert plot.main([str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "written: learning-curves.png\n" and "predictions-1.h5: expected" in shown.err
    for seed in (0, 1):
        predictions.path(folder, seed).unlink()
    assert summary.main([str(folder)]) == 0 and "classes" not in capsys.readouterr().out.split("validated on")[1]
    assert plot.main([str(folder)]) == 0
    assert capsys.readouterr() == ("written: learning-curves.png\n", "")
    with pytest.raises(Error, match="expected what seed 0 says of the test images, but that is not kept: an earlier"):
        export.main(["classes", str(folder)])
    with pytest.raises(Error, match="expected what it says of the test images, but that is not kept"):
        plot.main([str(folder), "--confusion-matrix", "c.png"])
    new = retrained(tmp_path / "new", [])
    with pytest.raises(Error, match="says of the test images, but no training is complete yet"):
        plot.main([str(new), "--mistakes", "m.png"])


def test_plot_draws_confusion_and_mistakes_of_one_retraining(
    folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    assert plot.main([str(folder)]) == 0
    shown = capsys.readouterr()
    names = ("learning-curves", "confusion-matrix", "mistakes")
    assert shown.out == "".join(f"written: {name}.png\n" for name in names) and shown.err == ""
    assert all((tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    shutil.rmtree(data)  # moved, say
    assert plot.main([str(folder)]) == 0
    shown = capsys.readouterr()
    assert "mistakes" not in shown.out and shown.err == (
        f"no pictures of mistakes: expected the test images in imagefolder:{data}\n"
    )
    with pytest.raises(Error, match="no pictures of mistakes"):
        plot.main([str(folder), "--mistakes", "m.png"])
    for wrong, told in (
        ([str(folder), str(folder), "--mistakes", "m.png"], "--mistakes: expected one retraining, got 2"),
        ([str(tmp_path), "--confusion-matrix", "c.png"], "--confusion-matrix: expected the folder of a retraining"),
    ):
        with pytest.raises(SystemExit):
            plot.main(wrong)
        assert told in capsys.readouterr().err


def test_mistakes_are_the_images_that_the_network_saw(folder: Path, data: Path) -> None:
    kept = tested.require(retrainings.load(folder))[0]
    worst = mistakes.worst(kept.predictions, 2)
    assert worst[0] == Mistake(3, 1, 0, 0.875, pytest.approx(0.125 / 3))  # type: ignore[arg-type]
    assert [(one.row, one.label, one.predicted) for one in worst] == [(3, 1, 0), (1, 0, 1)]
    dog, cat = mistakes.pictures(kept, worst)
    assert not isinstance(dog, str) and not isinstance(cat, str)
    assert dog.shape == (8, 8, 3) and (dog == (0, 255, 0)).all() and (cat == (255, 0, 0)).all()
    (data / "val" / "dog" / "3.png").unlink()
    dog, cat = mistakes.pictures(kept, worst)
    assert isinstance(dog, str) and "3.png: No such file" in dog and not isinstance(cat, str)
    with pytest.raises(NoPictures, match="every test image was classified correctly"):
        mistakes.pictures(kept, [])


def test_files_of_predictions_lead_to_no_image_elsewhere(folder: Path, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    for name in ("../private.png", str(tmp_path / "private.png")):
        record = record_file.read(folder)
        found = Predictions(*(getattr(FIRST, item) for item in (
            "images", "labels", "label_probabilities", "classes", "probabilities")),
            files=np.array([name.encode()] * 6))  # fmt: skip
        predictions.write(folder, record, 0, found)
        kept = tested.require(retrainings.load(folder))[0]
        with pytest.raises(NoPictures, match="expected a file below"):
            mistakes.pictures(kept, [Mistake(1, 0, 1, 0.75, 0.25)])


def test_images_that_are_no_files_come_out_of_the_data_where_these_are_the_same(tmp_path: Path) -> None:
    found = retrainings.load(retrained(tmp_path / "digits", [0.5], settings={"data": {"source": "digits"}}))
    images = datasets.load_test("digits").images
    labels = images.labels[:3].tolist()
    kept = tested.KeptPredictions(found, 0, said(labels, [0] * 3, [0.5] * 3, files=False))
    (seen,) = mistakes.pictures(kept, [Mistake(2, labels[2], 0, 0.5, 0.25)])
    assert np.array_equal(seen, images.pixels[2])
    others = said([(label + 1) % 10 for label in labels], [0] * 3, [0.5] * 3, files=False)
    other = tested.KeptPredictions(found, 0, others)
    with pytest.raises(NoPictures, match="digits: the test images are others than those that were tested"):
        mistakes.pictures(other, [Mistake(2, 1, 0, 0.5, 0.25)])


def test_tables_of_tests(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["classes", str(folder)]) == 0
    assert capsys.readouterr().out == (
        "class,images,correct,accuracy,most_often_taken_for,as_often\n"
        "cat,2,1,0.5,dog,1\n"
        "dog,3,1,0.3333333333333333,cat,2\n"
        "owl,1,1,1.0,,\n"
        "emu,0,0,,,\n"
    )
    assert export.main(["confusion", f"{folder}:1"]) == 0
    assert capsys.readouterr().out == "class,cat,dog,owl,emu\ncat,2,0,0,0\ndog,1,2,0,0\nowl,0,0,1,0\nemu,0,0,0,0\n"
    assert export.main(["predictions", str(folder), "-o", str(tmp_path / "p.csv")]) == 0
    assert "seed 0, rows 6" in capsys.readouterr().out
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0].startswith("image,file,label,label_probability,class_1,probability_1,class_2,")
    assert lines[4].startswith("3,val/dog/3.png,dog,0.0416") and ",cat,0.875,dog,0.0416" in lines[4]


def test_dark_images_are_brightened_alike() -> None:
    worst = [Mistake(row, 0, 1, 0.75, 0.25) for row in range(3)]
    seen = [np.full((8, 8, 1), 16, np.uint8), "cannot be read", np.full((8, 8, 1), 4, np.uint8)]
    drawn = figures.mistakes_picture(worst, seen, NAMES, "whose they are")
    shown = [image.get_array().max() for axes in drawn.axes for image in axes.images]
    assert shown == [255, 63]
    seen[0] = np.full((8, 8, 1), 200, np.uint8)
    drawn = figures.mistakes_picture(worst, seen, NAMES, "whose they are")
    assert [image.get_array().max() for axes in drawn.axes for image in axes.images] == [200, 4]


def test_long_names_of_classes_keep_their_ends() -> None:
    assert short("tailed frog, bell toad, ribbed 32", 14) == "tailed …bed 32" and short("cat") == "cat"
