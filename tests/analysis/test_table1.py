"""The paper's Table 1: which row a retraining belongs to, and what stands beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toolruns import INPUTS, retrained

from hpcnas.analysis import retrainings, table1
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.retraining import SCHEME
from hpcnas.retrain.record import Inputs, Origin

CELL = Skeleton(3, 32, 32, 10, 64, (2, 2, 2), "plain")
CIFAR = replace(INPUTS, skeleton=CELL, class_names=tuple("abcdefghij"))
EVOLVED = Origin("run:7", "hierarchical", "a" * 32, 7, "tournament", 0.9, 90, 7000, True, None, "")


def rows(*folders: Path) -> list[dict[str, object]]:
    return table1.rows([retrainings.load(folder) for folder in folders])


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (EVOLVED, "evolution, 7000"),
        (replace(EVOLVED, max_parameters=500_000, evaluated=900), "parameter-constrained evolution, 900"),
        (replace(EVOLVED, strategy="random", evaluated=200), "random search, 200"),
        (replace(EVOLVED, evaluation=0), "one random architecture"),
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
    first = retrained(tmp_path / "a", [0.96, 0.97], EVOLVED, inputs=CIFAR)
    second = retrained(tmp_path / "b", [0.98], replace(EVOLVED, run="b" * 32), {"training": {"seed": 9}}, CIFAR)
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
        "error": pytest.approx(3.0),
        "error_std": pytest.approx(1.0),
        "top5_error": pytest.approx(1.5),
        "paper": "3.75 ± 0.12",
    }
    assert found.index(row) == 7  # the paper's order


def test_another_recipe_is_another_row_without_a_published_number(tmp_path: Path) -> None:
    other = {"training": {"steps": 500, "drop_path": 0.2}, "run": {"history_every": 3}}
    first = retrained(tmp_path / "a", [0.96], EVOLVED, inputs=CIFAR)
    found = rows(first, retrained(tmp_path / "b", [0.5], EVOLVED, other, CIFAR))
    ours = [(row["departures"], row["error"], row["paper"]) for row in found if row["seeds"]]
    assert ours == [("", pytest.approx(4.0), "3.75 ± 0.12"), ("steps 500, drop_path 0.2", 50.0, None)]


def test_a_search_of_another_kind_is_another_row_without_a_published_number(tmp_path: Path) -> None:
    efficient = replace(EVOLVED, departures="duplicates resample, racing True")
    found = rows(
        retrained(tmp_path / "a", [0.96], EVOLVED, inputs=CIFAR),
        retrained(tmp_path / "b", [0.98], efficient, inputs=CIFAR),
    )
    ours = [(row["search"], row["error"], row["paper"]) for row in found if row["seeds"]]
    assert ours == [
        ("evolution, 7000", pytest.approx(4.0), "3.75 ± 0.12"),
        ("evolution, 7000, duplicates resample, racing True", pytest.approx(2.0), None),
    ]


def test_more_channels_are_no_departure(tmp_path: Path) -> None:
    wide = replace(CIFAR, skeleton=replace(CELL, channels=128))
    folder = retrained(tmp_path / "a", [0.96], EVOLVED, {"network": {"channels": 128}}, wide)
    (row,) = [row for row in rows(folder) if row["seeds"]]
    assert (row["channels"], row["paper"]) == (128, "3.63 ± 0.10")


def test_imagenet_is_what_has_its_classes_and_its_images(tmp_path: Path) -> None:
    thousand = Inputs(Skeleton(3, 299, 299, 1000, 64, (1, 2, 2, 2), "strided"), tuple(map(str, range(1000))),
                      (0.0,) * 3, (1.0,) * 3, 341)  # fmt: skip
    settings = SCHEME.preset("imagenet")
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
