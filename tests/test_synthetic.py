"""The synthetic fitness: a plain function of the graph, noise from the seeds, durations by the clock."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
from test_canonical import build

from hpcnas import config, counting, synthetic
from hpcnas.canonical import expand, is_valid
from hpcnas.genotype import Genotype, named
from hpcnas.messages import Evaluation, Outcome, Task
from hpcnas.mutation import diversified
from hpcnas.skeleton import Skeleton
from hpcnas.space import HIERARCHICAL
from hpcnas.synthetic import FACTS, SyntheticEvaluator, true_fitness


def evaluator(**settings: object) -> SyntheticEvaluator:
    return SyntheticEvaluator(config.build({"evaluation": {"evaluator": "synthetic", **settings}}))


def outcome(of: SyntheticEvaluator, genotype: Genotype, seeds: tuple[int, ...]) -> Outcome | None:
    of.start(Task(individual=0, attempt=1, genotype=genotype, seeds=seeds))
    return of.poll(0.0)


def accuracies(genotype: Genotype, seeds: tuple[int, ...], **settings: object) -> tuple[float, ...]:
    found = outcome(evaluator(**settings), genotype, seeds)
    assert isinstance(found, Evaluation)
    return found.accuracies


# The fitness


@pytest.mark.parametrize(
    ("edges", "depth", "separable", "identity"),
    [
        ("1-3 id", 0, 0, 1),
        ("1-3 sep", 1, 1, 0),
        ("1-3 avg", 0, 0, 0),
        ("1-2 1x1, 2-3 dw", 2, 0, 0),
        ("1-2 sep, 2-3 sep, 1-3 id", 2, 2 / 3, 1 / 3),
        ("1-2 sep, 2-3 max, 1-3 1x1", 1, 1 / 3, 0),
    ],
)
def test_the_fitness_by_hand(edges: str, depth: int, separable: float, identity: float) -> None:
    balance = math.exp(-8 * (separable - 0.5) ** 2 - 8 * (identity - 0.2) ** 2)
    expected = 0.80 + 0.06 * (1 - math.exp(-depth / 5)) + 0.04 * balance
    assert true_fitness(expand(build("1x3", [edges]))) == pytest.approx(expected, rel=1e-12)


def test_the_fitness_lies_between_080_and_090_and_tells_genotypes_apart() -> None:
    generator = np.random.default_rng(0)
    genotypes = (diversified(HIERARCHICAL, 100, generator) for _ in range(100))
    found = [true_fitness(expand(genotype)) for genotype in genotypes if is_valid(genotype)]
    assert 0.80 < min(found) and max(found) < 0.90
    assert len(set(found)) > 90


# Its evaluation


def test_without_noise_every_accuracy_is_the_fitness() -> None:
    paper = named("paper")
    assert accuracies(paper, (1, 2, 3), synthetic_noise=0.0) == (true_fitness(expand(paper)),) * 3


def test_the_noise_is_that_of_the_seed() -> None:
    forwards, backwards = accuracies(named("paper"), (1, 2, 3)), accuracies(named("paper"), (3, 2, 1))
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 3


def test_the_noise_has_the_deviation_that_was_set() -> None:
    found = accuracies(named("paper"), tuple(range(2000)), synthetic_noise=0.01)
    fitness = true_fitness(expand(named("paper")))
    assert statistics.fmean(found) == pytest.approx(fitness, abs=5 * 0.01 / math.sqrt(2000))
    assert statistics.stdev(found) == pytest.approx(0.01, rel=5 / math.sqrt(2 * 2000))


def test_an_accuracy_stays_between_0_and_1() -> None:
    found = accuracies(named("paper"), tuple(range(200)), synthetic_noise=1.0)
    assert min(found) == 0.0 and max(found) == 1.0


def test_parameters_are_those_of_the_network_on_cifar10() -> None:
    found = outcome(SyntheticEvaluator(config.build({"network": {"channels": 16}})), named("paper"), (1,))
    assert isinstance(found, Evaluation)
    assert found.parameters == 542_138
    assert counting.size(expand(named("paper")), Skeleton.of(config.Network(), FACTS)).parameters == 542_138


def test_an_evaluation_lasts_as_long_as_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(synthetic.time, "monotonic", lambda: now)
    monkeypatch.setattr(synthetic.time, "sleep", sleep)
    one = evaluator(synthetic_seconds=5.0)
    one.start(Task(individual=0, attempt=1, genotype=named("paper"), seeds=(1,)))
    assert [one.poll(2.0), one.poll(2.0)] == [None, None]
    last = one.poll(2.0)
    assert isinstance(last, Evaluation) and last.training_seconds == 5.0
    assert now == 105.0


def test_it_needs_neither_torch_nor_hdf5() -> None:
    program = "import sys, hpcnas.synthetic; print(sorted({'torch', 'h5py', 'mpi4py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
