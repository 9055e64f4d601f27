"""The paper's Table 1: which row a retraining belongs to, and what stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toolruns import INPUTS, retrained

from hpcnas.analysis import retrainings, table1
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.retraining import SCHEME
from hpcnas.evolution.individuals import Birth
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Inputs, Origin

CELL = Skeleton(3, 32, 32, 10, 64, (2, 2, 2), "plain")
CIFAR = replace(INPUTS, skeleton=CELL, class_names=tuple("abcdefghij"))
WHOLE: dict[str, dict[str, object]] = {"training": {"micro_batch": 256}}  # batch statistics of all images of a step
EVOLVED = Origin("run:7", "hierarchical", "a" * 32, 7, "tournament", 0.9, 90, 7000, True, None, "")


def whole(**training: object) -> dict[str, dict[str, object]]:
    """WHOLE with other settings of the training."""
    return {"training": WHOLE["training"] | training}


def rows(*folders: Path) -> list[dict[str, object]]:
    return table1.rows([retrainings.load(folder) for folder in folders])


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (EVOLVED, "evolution, 7000"),
        (
            replace(EVOLVED, max_parameters=500_000, departures="racing True"),
            "parameter-constrained evolution, 7000, fewer than 500,000 parameters, racing True",
        ),
        (replace(EVOLVED, strategy="random", evaluated=200), "random search, 200"),
        (replace(EVOLVED, evaluation=0), "one random architecture"),
        (replace(EVOLVED, evaluation=0, birth=Birth.GIVEN), "one given architecture"),
        (replace(EVOLVED, fittest=False), "evolution, 7000, individual 7"),
        (replace(EVOLVED, strategy="aging"), "aging, 7000"),
        (replace(EVOLVED, departures="racing True, data digits"), "evolution, 7000, racing True, data digits"),
        (replace(EVOLVED, departures=None), "evolution, 7000, settings unknown"),
        (Origin("paper", "hierarchical"), "evolution, 7000"),
        (Origin("cell.toml", "flat"), "the genotype cell.toml"),
    ],
)
def test_how_a_genotype_was_found(origin: Origin, expected: str) -> None:
    assert table1.search(origin) == expected


def test_all_published_errors_are_there() -> None:
    experiments = list(table1.PAPER)
    assert len(experiments) == 17
    assert [each.data for each in experiments].count("ImageNet") == 8
    evolved = table1.Experiment("CIFAR-10", "hierarchical", "evolution, 7000", 64)
    assert table1.PAPER[evolved] == "3.75 ± 0.12"


def test_retrainings_by_the_papers_recipe_stand_beside_its_numbers(tmp_path: Path) -> None:
    first = retrained(tmp_path / "a", [0.96, 0.97], EVOLVED, WHOLE, CIFAR)
    second = retrained(tmp_path / "b", [0.98], replace(EVOLVED, run="b" * 32), whole(seed=9), CIFAR)
    found = rows(first, second)
    assert [row["data"] for row in found] == ["CIFAR-10"] * 9
    (row,) = [row for row in found if row["seeds"]]
    assert row == {
        "data": "CIFAR-10",
        "representation": "hierarchical",
        "search": "evolution, 7000",
        "channels": 64,
        "departures": "",
        "parameters": 15_727_306,
        "retrainings": [str(first), str(second)],
        "seeds": 3,
        "diverged": 0,
        "error": pytest.approx(3.0),
        "error_std": pytest.approx(1.0),
        "top5_error": pytest.approx(1.5),
        "paper": "3.75 ± 0.12",
    }
    assert found.index(row) == 7  # the paper's order


def test_another_recipe_is_another_row_without_a_published_number(tmp_path: Path) -> None:
    other = whole(steps=500, drop_path=0.2) | {"run": {"history_every": 3}}
    first = retrained(tmp_path / "a", [0.96], EVOLVED, WHOLE, CIFAR)
    found = rows(first, retrained(tmp_path / "b", [0.5], EVOLVED, other, CIFAR))
    ours = [(row["departures"], row["error"], row["paper"]) for row in found if row["seeds"]]
    assert ours == [("", pytest.approx(4.0), "3.75 ± 0.12"), ("steps 500, drop_path 0.2", 50.0, None)]


def measured(folder: Path) -> dict[str, object]:
    """The row in which that retraining is."""
    (row,) = [row for row in rows(folder) if row["retrainings"]]
    return row


@pytest.mark.parametrize(
    ("settings", "departures"),
    [
        ({}, ""),
        ({"training": {"batch_statistics": "micro-batch"}}, "batch statistics of 32 images"),
        ({"training": {"batch_statistics": "micro-batch", "micro_batch": 256}}, ""),
        ({"training": {"micro_batch": 64}}, ""),
        ({"training": {"batch_size": 64, "batch_statistics": "micro-batch"}},
         "batch_size 64, batch statistics of 32 images"),
        (whole(precision="fp32"), ""),
        (whole(precision="bf16"), "precision bf16"),
        (whole(schedule="cosine", milestones=(0.5,)), "schedule cosine"),
        (whole(milestones=(0.5,)), "milestones (0.5,)"),
        (WHOLE | {"augmentation": {"brightness": 0.0}, "data": {"image_size": 64}}, ""),
        (WHOLE | {"augmentation": {"cutout": 16}}, "cutout 16"),
        (whole(epochs=409.6), ""),  # as many steps as the paper's
        (whole(epochs=1.0), "steps 195"),
        (whole(warm_up=0.05), "warm_up 0.05"),
        (whole(class_weights="balanced"), "class_weights balanced"),
        (WHOLE | {"augmentation": {"rand_augment_magnitude": 5}}, ""),
        (
            WHOLE | {"augmentation": {"rand_augment": 2, "rand_augment_magnitude": 5, "mixup": 0.2}},
            "rand_augment 2, rand_augment_magnitude 5, mixup 0.2",
        ),
    ],
)
def test_a_recipe_departs_by_what_changes_the_result(
    settings: dict[str, dict[str, object]], departures: str, tmp_path: Path
) -> None:
    row = measured(retrained(tmp_path / "a", [0.96], EVOLVED, settings, CIFAR))
    assert (row["departures"], row["paper"]) == (departures, None if departures else "3.75 ± 0.12")


def test_weights_to_start_from_are_a_departure_wherever_they_lie(tmp_path: Path) -> None:
    settings = WHOLE | {"network": {"weights": "a.pt"}}
    stored = record_file.read(retrained(tmp_path / "a", [0.96], EVOLVED, settings, CIFAR))
    record_file.write(tmp_path / "a", replace(stored, weights="5f2e9c0112345678"))
    row = measured(tmp_path / "a")
    assert (row["departures"], row["paper"]) == ("weights 5f2e9c01", None)


@pytest.mark.parametrize(
    ("numbers", "departures"),
    [("float32", ""), ("bfloat16", "precision bf16"), ("", "")],  # "": older; its device is a CPU
)
def test_the_numbers_are_those_that_the_device_had(numbers: str, departures: str, tmp_path: Path) -> None:
    row = measured(retrained(tmp_path / "a", [0.96], EVOLVED, WHOLE, CIFAR, numbers=numbers))
    assert row["departures"] == departures


def test_older_retrainings_on_gpus_do_not_tell_their_numbers(tmp_path: Path) -> None:
    stored = record_file.read(retrained(tmp_path / "a", [0.96], EVOLVED, WHOLE, CIFAR, numbers=""))
    on_gpu = replace(stored.sessions[0], device="cuda:0")
    assert table1.departures(replace(stored, sessions=[on_gpu]), "cifar-large") == "precision unknown"
    later = replace(on_gpu, numbers="bfloat16")
    told = table1.departures(replace(stored, sessions=[stored.sessions[0], later]), "cifar-large")
    assert told == "precision fp32 and bf16"


@pytest.mark.parametrize(
    ("changes", "search"),
    [
        ({"birth": Birth.GIVEN, "departures": "initial given"}, "one given architecture"),
        (
            {"birth": Birth.INITIAL, "max_parameters": 300_000, "departures": "initial_mutations 3"},
            "one architecture drawn with max_parameters 300000, initial_mutations 3",
        ),
    ],
)
def test_a_first_architecture_of_another_kind_has_a_row_without_a_published_number(
    changes: dict[str, Any], search: str, tmp_path: Path
) -> None:
    row = measured(retrained(tmp_path / "a", [0.96], replace(EVOLVED, evaluation=0, **changes), WHOLE, CIFAR))
    assert (row["search"], row["paper"]) == (search, None)
    drawn = replace(EVOLVED, evaluation=0, birth=Birth.INITIAL)
    row = measured(retrained(tmp_path / "b", [0.96], drawn, WHOLE, CIFAR))
    assert (row["search"], row["paper"]) == ("one random architecture", "4.21 ± 0.11")


def test_what_diverged_is_counted_and_not_averaged(tmp_path: Path) -> None:
    row = measured(retrained(tmp_path / "a", [0.96, 0.98], EVOLVED, WHOLE, CIFAR, diverged=1))
    assert (row["seeds"], row["diverged"], row["error"]) == (2, 1, pytest.approx(3.0))


def test_a_search_of_another_kind_is_another_row_without_a_published_number(tmp_path: Path) -> None:
    efficient = replace(EVOLVED, departures="duplicates resample, racing True")
    found = rows(
        retrained(tmp_path / "a", [0.96], EVOLVED, WHOLE, CIFAR),
        retrained(tmp_path / "b", [0.98], efficient, WHOLE, CIFAR),
    )
    ours = [(row["search"], row["error"], row["paper"]) for row in found if row["seeds"]]
    assert ours == [
        ("evolution, 7000", pytest.approx(4.0), "3.75 ± 0.12"),
        ("evolution, 7000, duplicates resample, racing True", pytest.approx(2.0), None),
    ]


def test_more_channels_are_no_departure(tmp_path: Path) -> None:
    wide = replace(CIFAR, skeleton=replace(CELL, channels=128))
    folder = retrained(tmp_path / "a", [0.96], EVOLVED, WHOLE | {"network": {"channels": 128}}, wide)
    (row,) = [row for row in rows(folder) if row["seeds"]]
    assert (row["channels"], row["paper"]) == (128, "3.63 ± 0.10")


def test_imagenet_is_what_has_its_classes_and_its_images(tmp_path: Path) -> None:
    thousand = Inputs(Skeleton(3, 299, 299, 1000, 64, (1, 2, 2, 2), "strided"), tuple(map(str, range(1000))),
                      (0.0,) * 3, (1.0,) * 3, 341)  # fmt: skip
    preset = SCHEME.preset("imagenet")
    settings = {**preset, "training": {**preset["training"], "micro_batch": 1024}}
    facts = DataFacts(3, 299, 299, 1000, 1_281_167, 0, "1a9e0e7000000000")
    found = rows(retrained(tmp_path / "a", [0.8], Origin("paper", "hierarchical"), settings, thousand, facts=facts))
    assert [row["data"] for row in found] == ["ImageNet"] * 8
    (row,) = [row for row in found if row["seeds"]]
    assert (row["paper"], row["error"], row["top5_error"]) == ("20.3 / 5.2", pytest.approx(20.0), pytest.approx(10.0))
    tenth = replace(facts, training_images=128_000)
    part = retrained(tmp_path / "part", [0.8], EVOLVED, settings, thousand, facts=tenth)
    assert [row["data"] for row in rows(part)] == ["imagefolder of 1000 classes (1a9e0e70)"]


def test_images_of_a_folder_are_told_by_their_fingerprint_and_not_by_where_a_job_has_put_them(tmp_path: Path) -> None:
    def folder(name: str, place: str, fingerprint: str) -> Path:
        facts = DataFacts(3, 32, 32, 102, 1020, 0, fingerprint)
        return retrained(tmp_path / name, [0.75], EVOLVED, {"data": {"source": place}}, CIFAR, facts=facts)

    found = rows(
        folder("a", "imagefolder:/tmp/hpcnas-7", "f10e750000000000"),
        folder("b", "imagefolder:/tmp/hpcnas-8", "f10e750000000000"),
        folder("c", "imagefolder:/tmp/hpcnas-8", "bad0000000000000"),
    )
    assert [(row["data"], row["seeds"]) for row in found] == [
        ("imagefolder of 102 classes (f10e7500)", 2),
        ("imagefolder of 102 classes (bad00000)", 1),
    ]
