"""Measures against scikit-learn's: literal scores and labels, odd ones, and what each replicate keeps of them."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics
from test_cpu_program import flat

from hpcnas import plugins
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import measures
from hpcnas.config.data_spec import DataError
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.messages import Evaluation
from hpcnas.training import measuring
from hpcnas.training.cpu.compiled import CompiledTraining
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData
from hpcnas.training.plain import PlainTraining

DRAW = np.random.default_rng(3)
SCORES = {
    "random": (DRAW.normal(size=(40, 4)), DRAW.integers(0, 4, 40)),
    "two classes": (DRAW.normal(size=(30, 2)), DRAW.integers(0, 2, 30)),
    "unbalanced": (DRAW.normal(size=(50, 3)), np.array([0] * 45 + [1] * 4 + [2])),
    "ties": (DRAW.integers(0, 2, size=(60, 3)).astype(float), DRAW.integers(0, 3, 60)),
    "constant": (np.zeros((12, 3)), np.arange(12) % 3),
    "certain": (np.array([[900.0, 0.0], [900.0, 0.0], [0.0, 900.0]]), np.array([0, 1, 1])),
}


@pytest.mark.parametrize("name", SCORES)
def test_every_measure_is_that_of_scikit_learn(name: str) -> None:
    scores, labels = SCORES[name]
    classes, predicted, chances = scores.shape[1], scores.argmax(axis=1), measuring.probabilities(scores)
    ranked = metrics.roc_auc_score(labels, chances[:, 1] if classes == 2 else chances, multi_class="ovr")
    expected = (
        metrics.accuracy_score(labels, predicted),
        metrics.balanced_accuracy_score(labels, predicted),
        metrics.f1_score(labels, predicted, average="macro", zero_division=0.0),
        ranked,
        metrics.log_loss(labels, chances),
        *metrics.recall_score(labels, predicted, average=None, labels=range(classes)),
    )
    found = measuring.every(scores, labels)
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    fitnesses = [measuring.fitness(one, scores, labels) for one in measures.NAMES]
    assert fitnesses == [*found[:4], -found[4]]  # type: ignore[operator]


def test_literal_values() -> None:
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.5, 0.2]]))
    found = measuring.every(scores, np.array([0, 1, 1, 2]))
    losses = math.fsum(-math.log(one) for one in (0.7, 0.3, 0.7, 0.2)) / 4
    assert found == pytest.approx((2 / 4, (1 + 1 / 2 + 0) / 3, (2 / 3 + 2 / 4 + 0) / 3, (1 + 3 / 4 + 1) / 3, losses,
                                   1, 1 / 2, 0))  # fmt: skip


def test_a_class_without_images_is_left_out() -> None:
    scores, labels = SCORES["random"][0], np.minimum(SCORES["random"][1], 2)
    found = measuring.every(scores, labels)
    predicted, chances = scores.argmax(axis=1), measuring.probabilities(scores)
    assert 3 in predicted and found[-1] is None
    with warnings.catch_warnings(action="ignore"):
        balanced = metrics.balanced_accuracy_score(labels, predicted)
    assert found[1:5] == pytest.approx((
        balanced,
        metrics.f1_score(labels, predicted, average="macro", zero_division=0.0),
        np.mean([metrics.roc_auc_score(labels == one, chances[:, one]) for one in range(3)]),
        metrics.log_loss(labels, chances, labels=range(4)),
    ))  # fmt: skip


NAMES = ("reed", "water", "roof", "road")


@pytest.mark.parametrize("name", ["balanced-accuracy", "macro-f1", "auroc"])
def test_a_class_that_is_not_validated_on_is_told_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    measuring.check(name, np.arange(40) % 4, NAMES)
    measuring.check("accuracy", np.arange(40) % 2, NAMES)
    assert caplog.messages == []
    measuring.check(name, np.arange(40) % 2, NAMES)
    told = "is a mean over classes, and there are no validation images of 2 (roof), 3 (road)"
    assert caplog.messages == [f"--fitness {name} {told}"]
    measuring.check(name, np.arange(40) % 2, [str(number) for number in range(20)])
    assert caplog.messages[1].endswith("of 2 (2), 3 (3), 4 (4), 5 (5), 6 (6) and 13 more")


def test_where_there_is_no_measure() -> None:
    scores, one_class = SCORES["random"][0], np.zeros(40, dtype=np.int64)
    assert measuring.every(scores, one_class)[3] is None
    with pytest.raises(DataError, match="two classes or more for --fitness auroc"):
        measuring.check("auroc", one_class, NAMES)
    measuring.check("log-loss", one_class, NAMES)
    scores = scores.copy()
    scores[5, 1] = np.nan
    with pytest.raises(measuring.NoMeasure, match="scores of the validation images were not finite: there is no auroc"):
        measuring.fitness("auroc", scores, SCORES["random"][1])
    found = measuring.every(scores, one_class)
    assert found[3:5] == (None, None) and found[0] == (scores.argmax(axis=1) == 0).mean() == found[5]
    assert len(measuring.every(np.zeros((3, 201)), np.array([0, 1, 2]))) == 5  # too many classes to keep each


def own(answer: object, larger: bool = True) -> plugins.Plugin:
    return plugins.Plugin(measures={"own": plugins.Measure(lambda scores, labels: answer, larger)})  # type: ignore[arg-type,return-value]


def test_a_plugins_measure() -> None:
    scores, labels = SCORES["two classes"]
    with plugins.alone("mine", own(np.float32(-70.5), larger=False)):
        assert measuring.fitness("own", scores.copy(), labels.copy()) == 70.5
        assert measures.named("own").words == "negative validation own"
    with plugins.alone("mine", own(math.nan)), pytest.raises(measuring.NoMeasure, match="expected a finite number"):
        measuring.fitness("own", scores.copy(), labels.copy())
    for wrong in ("high", None, 2e6):
        fault = pytest.raises(plugins.PluginFault, match="plugin 'mine': measure 'own'")
        with plugins.alone("mine", own(wrong)), fault:
            measuring.fitness("own", scores.copy(), labels.copy())
    with pytest.raises(plugins.PluginError, match=r"measures\['own'\]: expected a Measure, got int"):
        plugins._check("mine", plugins.Plugin(measures={"own": 3}))  # type: ignore[dict-item]
    assert measures.named("gone").told(-1.5) == "-1.5000"


@pytest.fixture(scope="module")
def evaluations() -> dict[tuple[type, str], Evaluation]:
    """Fitnesses of two ways and measures, of the same two trainings with a rung."""
    torch.set_num_threads(1)
    data = TrainingData.prepare(load_training("digits"), DataSettings(), torch.device("cpu"))
    settings = TrainingSettings(replicates=2, steps=8, batch_size=20, crop=1.0, flip=False, rungs=(0.5,))
    found = {}
    for way, name in ((PlainTraining, "accuracy"), (PlainTraining, "log-loss"), (CompiledTraining, "log-loss")):
        chosen = dataclasses.replace(settings, fitness=name)
        genotype, skeleton = flat("1-2 sep", 2), Skeleton(1, 8, 8, 10, 4, (1,))
        run = FitnessInProgress(genotype, (5, 6), skeleton, data, chosen, way)
        half: list[dict[str, object]] = []
        evaluation = run.run(lambda: None, lambda: half.append(run.state()))  # noqa: B023
        again = FitnessInProgress(genotype, (5, 6), skeleton, data, chosen, way)
        again.resume(half[0])
        resumed = again.run(lambda: None, lambda: None)
        assert isinstance(evaluation, Evaluation) and isinstance(resumed, Evaluation)
        assert (resumed.measures, resumed.curves) == (evaluation.measures, evaluation.curves)
        found[way, name] = evaluation
    return found


def test_each_replicate_keeps_all_measures(evaluations: dict[tuple[type, str], Evaluation]) -> None:
    by_accuracy, by_loss = evaluations[PlainTraining, "accuracy"], evaluations[PlainTraining, "log-loss"]
    assert by_accuracy.measures == by_loss.measures and [len(row) for row in by_loss.measures] == [15, 15]
    assert by_accuracy.accuracies == tuple(row[0] for row in by_loss.measures)
    assert by_loss.accuracies == tuple(-(row[4] or 0.0) for row in by_loss.measures)
    assert all(curve[0] < 0 for curve in by_loss.curves) and all(0 <= curve[0] <= 1 for curve in by_accuracy.curves)


def test_compiled_trainings_have_the_same_measures(evaluations: dict[tuple[type, str], Evaluation]) -> None:
    plain, compiled = (evaluations[way, "log-loss"] for way in (PlainTraining, CompiledTraining))
    assert compiled.accuracies == pytest.approx(plain.accuracies, rel=0.02)
    assert [row[4] for row in compiled.measures] == [-one for one in compiled.accuracies]
