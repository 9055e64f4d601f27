"""Trained weights to start from: what a file must hold, what any number of ranks makes of it, and cells that stay."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_threads import ThreadGroup, on_ranks
from small_retraining import GRAPH, STEPS, assert_close, made, run
from small_retraining import recipe as plain
from test_expansion import build
from torch import Tensor

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain import trained_weights
from hpcnas.retrain.loop import DistributedTraining
from hpcnas.retrain.trained_weights import UnusableWeights
from hpcnas.training import checkpoints
from hpcnas.training.network import Network

SKELETON = Skeleton(3, 8, 8, 10, 4, (1, 1), "plain")


def given(classes: int = 10, seed: int = 1) -> dict[str, Tensor]:
    """The state_dict of some network, whose statistics are its own too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = Network(GRAPH, Skeleton(3, 8, 8, classes, 4, (1, 1), "plain")).double().state_dict()
        for name, value in found.items():
            if name.endswith("running_mean"):
                value.uniform_(-0.2, 0)  # few ReLUs are dead
            elif name.endswith("running_var"):
                value.uniform_(0.1, 0.5)
    return found


def saved(folder: Path, content: Any) -> Path:
    checkpoints.save(folder / "given.pt", content)
    return folder / "given.pt"


def read(file: Path) -> dict[str, Tensor]:
    return trained_weights.read(file, GRAPH, SKELETON)


def test_weights_are_read_as_they_were_saved(tmp_path: Path) -> None:
    weights = given()
    found = read(saved(tmp_path, weights))
    assert found.keys() == {name for name in weights if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(value, weights[name]) for name, value in found.items())
    assert not trained_weights.classes_differ(found)


def test_of_another_number_of_classes_the_classifier_is_left_out(tmp_path: Path) -> None:
    found = read(saved(tmp_path, given(classes=7)))
    assert trained_weights.classes_differ(found)
    assert {name for name in given() if name not in found and "num_batches" not in name} == {
        "classifier.weight", "classifier.bias"
    }  # fmt: skip


def changed(**values: object) -> dict[str, object]:
    return {**given(), **{name.replace("_", "."): value for name, value in values.items()}}


def without_a_name() -> dict[str, Tensor]:
    found = given()
    del found["stem.0.weight"]
    return found


def of_another_cell() -> dict[str, Tensor]:
    return Network(expand(build("1x3", ["1-2 sep, 2-3 dw"])), SKELETON).state_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without_a_name(), "the 51 tensors of this cell in this network; missing are 1, such as stem.0.weight"),
        (of_another_cell(), "; missing are 10, such as blocks.0.edges.4.0.weight; that is another cell"),
        (changed(own_layer=torch.zeros(1)), "; beside them are 1, such as own.layer; that is another cell"),
        ({}, "; missing are 51, such as blocks"),
        (Network(GRAPH, Skeleton(3, 8, 8, 10, 6, (1, 1), "plain")).state_dict(), "other --channels"),
        (Network(GRAPH, Skeleton(1, 8, 8, 10, 4, (1, 1), "plain")).state_dict(), "images with other channels"),
        (changed(classifier_bias=torch.zeros(3)), "a classifier of as many weights as biases, got 10 and 3"),
        (changed(classifier_bias=torch.tensor(0.0)), r"classifier.bias of shape \(10,\), got \(\)"),
        (changed(classifier_bias=torch.zeros(10, dtype=torch.int64)), "expected finite numbers in classifier.bias"),
        (changed(classifier_bias=torch.full((10,), float("nan"))), "expected finite numbers in classifier.bias"),
        ([1, 2], "expected a state_dict, as `hpcnas export weights` writes it"),
        ({3: torch.zeros(1)}, "expected a state_dict, as `hpcnas export weights` writes it"),
        (changed(classifier_bias=torch.zeros(10).to_sparse()), "expected finite numbers in classifier.bias"),
        ({"step": 3}, "expected a state_dict, as `hpcnas export weights` writes it"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableWeights, match=message):
        read(saved(tmp_path, content))


class Touches:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("executed",)


def test_damaged_files_and_programs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, given())
    file.write_bytes(file.read_bytes()[:-300] + b"x" * 204 + file.read_bytes()[-96:])
    with pytest.raises(UnusableWeights, match="is damaged: its checksum does not fit"):
        read(file)
    torch.save({"weight": Touches()}, "program.pt")
    (tmp_path / "text.pt").write_text("weights")
    for name in ("program.pt", "text.pt", "nothing.pt"):
        with pytest.raises(UnusableWeights, match="expected weights that torch.save has written: .+"):
            read(Path(name))
    assert not Path("executed").exists()


# ── trainings ───────────────────────────────────────────────────────────────────────────────────────────────────────
def recipe(**training: object) -> RetrainingConfig:
    return SCHEME.build(SCHEME.settings(plain()), {"network": {"weights": "a.pt"}, "training": training})


def begun(settings: RetrainingConfig, group: ThreadGroup, weights: dict[str, Tensor]) -> DistributedTraining:
    training = made(settings, group)
    if group.rank == 0:
        training.start_from(weights)
    training.resume(None)
    return training


def fitting(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}


def test_a_training_begins_with_the_weights_and_their_statistics() -> None:
    weights = fitting(given())

    def work(group: ThreadGroup) -> None:
        found = begun(recipe(auxiliary_weight=0.4), group, weights).weights()
        assert all(torch.equal(found[name], value) for name, value in weights.items())

    on_ranks(2, work)
    of_others = fitting(given(classes=7))
    del of_others["classifier.weight"], of_others["classifier.bias"]

    def other_classes(group: ThreadGroup) -> None:
        drawn = made(recipe(), group).weights()
        found = begun(recipe(), group, of_others).weights()
        assert all(torch.equal(found[name], value) for name, value in of_others.items())
        assert torch.equal(found["classifier.weight"], drawn["classifier.weight"])

    on_ranks(1, other_classes)


PARTS = [
    {"freeze_cell": True, "auxiliary_weight": 0.4, "weight_averaging": 0.9},
    {"drop_path": 0.4, "warm_up": 0.5},
]


@pytest.mark.parametrize("parts", PARTS, ids=["frozen", "free"])
def test_any_number_of_ranks_and_a_continued_training_compute_the_same(parts: dict[str, object]) -> None:
    settings, weights = recipe(**parts), fitting(given())

    def whole(group: ThreadGroup) -> dict[str, Tensor]:
        training = begun(settings, group, weights)
        assert run(training)
        return training.weights()

    (alone,) = on_ranks(1, whole)
    assert_close(alone, on_ranks(3, whole)[0])

    def first_part(group: ThreadGroup) -> dict[str, Any]:
        training = begun(settings, group, weights)
        assert not run(training, until=3)
        return copy.deepcopy(training.state())

    state = on_ranks(2, first_part)[0]

    def second_part(group: ThreadGroup) -> dict[str, Tensor]:
        training = made(settings, group)  # the file is not asked for again
        training.resume(state if group.rank == 0 else None)
        assert run(training) and training.step == STEPS
        return training.weights()

    assert_close(alone, on_ranks(2, second_part)[0])


def test_frozen_cells_stay_bit_for_bit_and_the_first_and_last_layer_learn() -> None:
    settings, weights = recipe(freeze_cell=True, weight_decay=0.1), fitting(given())
    held_out: dict[str, dict[str, object]] = {"data": {"validation_fraction": 0.2}, "run": {"validate_every": 2}}
    settings = SCHEME.build(SCHEME.settings(settings), held_out)

    def work(group: ThreadGroup) -> dict[str, Tensor]:
        training = begun(settings, group, weights)
        assert run(training) and len(training.validations) == 3  # which the training mode comes back from
        return training.weights()

    found = on_ranks(2, work)[0]
    stayed = {name for name, value in weights.items() if torch.equal(value, found[name])}
    assert stayed == {name for name in weights if name.startswith("blocks.")}
    assert stayed < set(weights)
