"""retrain.h5: what is written is read back, and is what hpcnas/FORMAT.md says; damage is told in one line."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import FACTS
from test_format import PAGE, section, tables, type_of

from hpcnas.architecture import genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.retraining import SCHEME
from hpcnas.evolution.individuals import Birth
from hpcnas.retrain import record_file
from hpcnas.retrain.progress import final_table
from hpcnas.retrain.record import Inputs, Origin, Record, RetrainingSession, Row, State, Trained, Validation
from hpcnas.storage.folder import StoreError

SEARCHED = Origin(
    "runs/a:17", "6x4/1x5", "0f" * 16, 17, "tournament", 0.875, 40, 41, True, 500_000, "racing True", Birth.MUTATION
)
INPUTS = Inputs(
    skeleton=Skeleton(3, 299, 299, 3, channels=64, cells=(1, 2, 2, 2), stem="strided"),
    class_names=("ape", "bee", "gnu"),
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    resize=342,
)
COMPLETE = Trained(
    3, State.COMPLETE, 80_000, 900.5, 22_750.0, 0.015, 10_000, 0.9625, 0.999, 0.25, 1000.5, 2000.5, 2**33, 3
)
RECORD = Record(
    run="ab" * 16,
    recipe=SCHEME.build(SCHEME.preset("imagenet"), {"training": {"runs": 2, "seed": 3}}),
    genotype=genotype.named("paper"),
    origin=SEARCHED,
    inputs=INPUTS,
    parameters=62_832_520,
    flops=30_834_380_544,
    trainings=[COMPLETE, Trained(4)],
    history=[Row(3, 100, 2.25, 0.125, 0.1, 1000.5, 0.25), Row(3, 200, 2.0, 0.25, 0.1, 1100.5, 0.125)],
    sessions=[
        RetrainingSession(1000.5, "node-1", 4321, 8, {"hpcnas": "0", "torch": "2.13"}, FACTS, "cuda:0", "bfloat16")
    ],
    broken=["train/gnu/1.jpg", "train/gnu/ünlesbar.jpg"],
    validations=[Validation(3, 100, 500, 0.25, 2.125, 1.5), Validation(3, 200, 499, 0.375, None, 1.25)],
    weights="0123456789abcdef",
    micro_batch=16,
)


def test_pixels_of_another_type_are_told(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, inputs=dataclasses.replace(INPUTS, type="float16", mean=(-2e4, 0.5, 1e9)))
    record_file.write(tmp_path, record)
    assert record_file.read(tmp_path) == record
    record_file.write(tmp_path, dataclasses.replace(record, inputs=dataclasses.replace(INPUTS, type="double")))
    with pytest.raises(StoreError, match="expected one of uint8, uint16, int16, float16, float32, got 'double'"):
        record_file.read(tmp_path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    record_file.write(tmp_path, RECORD)
    assert record_file.read(tmp_path) == RECORD
    assert RECORD.test_accuracies == [0.9625]


def test_trainings_that_diverged_are_in_no_mean_and_told() -> None:
    trainings = [COMPLETE, Trained(4, State.DIVERGED, 70_000), Trained(5, State.DIVERGED, 9)]
    record = dataclasses.replace(RECORD, trainings=trainings, validations=[])
    assert (record.test_accuracies, record.diverged) == ([0.9625], [4, 5])
    table = final_table(record)
    assert "\n  test accuracy  96.25 % (one run)\n" in table
    assert "\n  diverged       seed 4, 5, not in the means\n" in table


def test_names_that_are_not_utf8_are_read_back_too(tmp_path: Path) -> None:
    inputs = dataclasses.replace(INPUTS, class_names=("ape", "bee", "gn\udcfc"))  # b"gn\xfc", as Python reads it
    record = dataclasses.replace(RECORD, inputs=inputs, broken=["train/gn\udcfc/1.jpg"])
    record_file.write(tmp_path, record)
    assert record_file.read(tmp_path) == record
    with h5py.File(tmp_path / "retrain.h5") as file:
        assert file["network/class_names"][2] == b"gn\xfc" and file["broken/file"][0] == b"train/gn\xfc/1.jpg"


def test_what_is_not_known_is_read_back_as_none(tmp_path: Path) -> None:
    bare = dataclasses.replace(RECORD, origin=Origin("paper", "6x4/1x5"), trainings=[Trained(0)], history=[], broken=[])
    record_file.write(tmp_path, bare)
    assert record_file.read(tmp_path) == bare


def test_an_older_file_lacks_what_came_later(tmp_path: Path) -> None:
    record_file.write(tmp_path, RECORD)
    with h5py.File(tmp_path / "retrain.h5", "r+") as file:
        del file["trainings/peak_memory"], file["trainings/test_broken"], file["sessions/numbers"], file["origin/birth"]
        del file["validations"]
    older = [dataclasses.replace(training, peak_memory=None, test_broken=None) for training in RECORD.trainings]
    sessions = [dataclasses.replace(session, numbers="") for session in RECORD.sessions]
    assert record_file.read(tmp_path) == dataclasses.replace(
        RECORD, trainings=older, sessions=sessions, origin=dataclasses.replace(SEARCHED, birth=None), validations=[]
    )


def test_the_folder_of_a_search_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "population.h5").write_bytes(b"")
    with pytest.raises(StoreError, match=r"but there is no retrain\.h5; it holds a search$"):
        record_file.read(tmp_path)


def test_a_folder_without_one_and_a_damaged_file_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a retraining in .*, but there is no retrain.h5"):
        record_file.read(tmp_path)
    record_file.write(tmp_path, RECORD)
    path = tmp_path / "retrain.h5"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="expected a whole file of a retraining"):
        record_file.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", b"hpcnas run", "expected the format 'hpcnas retraining'"),
        ("format_version", 9, "format version 1, got 9"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, name: str, value: object, message: str) -> None:
    record_file.write(tmp_path, RECORD)
    with h5py.File(tmp_path / "retrain.h5", "r+") as file:
        file.attrs[name] = value
    with pytest.raises(StoreError, match=message):
        record_file.read(tmp_path)


def test_the_page_says_what_is_written(tmp_path: Path) -> None:
    record_file.write(tmp_path, dataclasses.replace(RECORD, inputs=dataclasses.replace(INPUTS, type="float16")))
    sizes = {"trainings": 2, "history": 2, "validations": 2, "sessions": 1, "broken": 2}
    sizes |= {"groups": 4, "image channels": 3, "classes": 3}
    written, documented = {}, {}
    with h5py.File(tmp_path / "retrain.h5") as file:
        for group in ("/", "/origin", "/network", "/trainings", "/history", "/validations", "/sessions", "/broken"):
            (table,) = tables(section(f"### retrain.h5: {group}"))
            documented |= {f"{group.strip('/')}/{row['dataset']}".strip("/"): row for row in table}

        def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                written[path] = item

        file.visititems(visit)
        assert sorted(documented) == sorted(written)
        for path, row in documented.items():
            dataset = written[path]
            assert row["type"] == type_of(dataset.dtype).split("(")[0], path
            names = re.findall(r"[a-z ]+", row["shape"].replace("scalar", ""))
            assert dataset.shape == tuple(sizes[name.strip()] for name in names), path
            attributes = {name: value.decode() for name, value in dataset.attrs.items()}
            assert attributes == {"description": row["description"], "unit": row["unit"]}, path
            if row["none"] and path.startswith("trainings/"):
                np.testing.assert_array_equal(dataset[1], float(row["none"]), path)
        (table,) = tables(section("### Attributes of retrain.h5"))
        assert {row["attribute"] for row in table} == set(file.attrs)
        names = h5py.check_enum_dtype(written["trainings/state"].dtype)
        (row,) = tables(section("### Enumerations of retrain.h5"))[0]
        ordered = sorted(names.items(), key=lambda pair: pair[1])
        assert row["names and numbers"] == ", ".join(f"{name} {number}" for name, number in ordered)
    assert "weights-SEED.pt" in PAGE
