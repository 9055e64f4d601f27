"""Synthetic evaluations: noise from the seeds, durations by the clock, failures as often as was set."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest

from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype, named
from hpcnas.config import search as search_config
from hpcnas.messages import Evaluation, Failure, FailureKind, Outcome, Stopped, Task, mean_curve
from hpcnas.search import synthetic
from hpcnas.search.landscape import true_fitness
from hpcnas.search.synthetic import FACTS, Foreseen, Foresight, SyntheticEvaluator


def evaluator(**settings: object) -> SyntheticEvaluator:
    return SyntheticEvaluator(search_config.build({"evaluation": {"evaluator": "synthetic", **settings}}))


def outcome(of: SyntheticEvaluator, genotype: Genotype, seeds: tuple[int, ...]) -> Outcome | None:
    of.start(Task(individual=0, attempt=1, genotype=genotype, seeds=seeds))
    return of.poll(0.0)


def accuracies(genotype: Genotype, seeds: tuple[int, ...], **settings: object) -> tuple[float, ...]:
    found = outcome(evaluator(**settings), genotype, seeds)
    assert isinstance(found, Evaluation)
    return found.accuracies


# An evaluation


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
    found = outcome(SyntheticEvaluator(search_config.build({"network": {"channels": 16}})), named("paper"), (1,))
    assert isinstance(found, Evaluation)
    assert found.parameters == 542_138
    assert sizes.size(expand(named("paper")), search_config.SearchConfig().skeleton(FACTS)).parameters == 542_138


def test_an_evaluation_lasts_as_long_as_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(synthetic.time, "monotonic", lambda: now)
    monkeypatch.setattr(synthetic.time, "sleep", sleep)
    one = evaluator(synthetic_seconds=5.0)
    one.start(Task(individual=0, attempt=1, genotype=named("paper"), seeds=(1, 2, 3, 4)))
    assert [one.poll(2.0), one.poll(2.0)] == [None, None]
    last = one.poll(2.0)
    assert isinstance(last, Evaluation) and last.training_seconds == 5.0
    assert now == 105.0


# Failures and durations, foreseen


def foreseen(count: int, attempt: int = 1, **settings: object) -> list[Foreseen]:
    """The fates of so many individuals at that attempt."""
    evaluation = {"evaluator": "synthetic", **settings}
    of = Foresight(
        search_config.build({"evaluation": evaluation, "run": {"hang_timeout": 900.0}, "training": {"replicates": 2}})
    )
    return [of.of(Task(id, attempt, named("paper"), (2 * id, 2 * id + 1))) for id in range(count)]


def kinds(fates: list[Foreseen]) -> list[FailureKind | None]:
    return [fate.outcome.kind if isinstance(fate.outcome, Failure) else None for fate in fates]


RATES = {"synthetic_crashes": 0.1, "synthetic_hangs": 0.05, "synthetic_nans": 0.2}


def test_nothing_fails_unless_it_is_asked_to() -> None:
    assert set(kinds(foreseen(50))) == {None}


def test_failures_are_as_frequent_as_was_set() -> None:
    found = kinds(foreseen(2000, **RATES))
    expected = {FailureKind.NAN: 0.36, FailureKind.CRASH: 0.064, FailureKind.HANG: 0.032, None: 0.544}  # of 2 trainings
    for kind, share in expected.items():
        assert found.count(kind) / 2000 == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 2000))


def test_a_training_diverges_whichever_task_it_is_part_of() -> None:
    of = Foresight(search_config.build({"evaluation": {"synthetic_nans": 0.2}, "training": {"replicates": 2}}))
    whole = kinds([of.of(Task(id, 1, named("paper"), (2 * id, 2 * id + 1))) for id in range(100)])
    parts = kinds([of.of(Task(seed // 2, 1, named("paper"), (seed,), seed % 2)) for seed in range(200)])
    assert whole == [parts[2 * id] or parts[2 * id + 1] for id in range(100)]
    assert 20 < whole.count(FailureKind.NAN) < 50


def test_what_diverges_does_so_again_and_what_crashes_may_not() -> None:
    first, again = (kinds(foreseen(400, attempt, **RATES)) for attempt in (1, 2))
    diverged = [[kind is FailureKind.NAN for kind in found] for found in (first, again)]
    assert diverged[0] == diverged[1]
    crashed = [id for id, kind in enumerate(first) if kind is FailureKind.CRASH]
    assert {again[id] for id in crashed} > {None}


def test_a_fate_is_the_same_whenever_it_is_asked_for() -> None:
    assert foreseen(100, synthetic_spread=0.5, **RATES) == foreseen(100, synthetic_spread=0.5, **RATES)


def test_a_crash_takes_a_part_of_the_time_and_a_hang_its_timeout_more() -> None:
    fates = foreseen(300, synthetic_seconds=100.0, **RATES)
    bounds = {None: (100, 100), FailureKind.NAN: (0, 100), FailureKind.CRASH: (0, 100), FailureKind.HANG: (900, 1000)}
    for fate, kind in zip(fates, kinds(fates), strict=True):
        assert bounds[kind][0] <= fate.seconds <= bounds[kind][1]


def test_durations_spread_around_their_mean() -> None:
    found = [fate.seconds for fate in foreseen(2000, synthetic_seconds=60.0, synthetic_spread=0.5)]
    assert statistics.fmean(found) == pytest.approx(60.0, abs=5 * 30 / math.sqrt(2000))
    assert statistics.stdev(found) == pytest.approx(30.0, rel=0.15)
    assert min(found) > 0.0


def test_it_needs_neither_torch_nor_hdf5() -> None:
    program = "import sys, hpcnas.search.synthetic; print(sorted({'torch', 'h5py', 'mpi4py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Learning curves


def rising(task: Task, **training: object) -> Foreseen:
    made = {"training": {"replicates": 2, "rungs": [0.1, 0.5], **training}, "evaluation": {"synthetic_seconds": 10.0}}
    return Foresight(search_config.build({"evaluation": {"evaluator": "synthetic"}}, made)).of(task)


def with_rungs(floors: tuple[float, ...] = (), count: int = 2) -> Task:
    return Task(0, 1, named("paper"), tuple(range(count)), 0, 2, floors)


def test_a_task_with_rungs_is_evaluated_as_without_and_has_a_curve_for_each_seed() -> None:
    plain, found = rising(Task(0, 1, named("paper"), (0, 1))).outcome, rising(with_rungs()).outcome
    assert isinstance(plain, Evaluation) and isinstance(found, Evaluation)
    assert (plain.accuracies, plain.curves, plain.judged) == (found.accuracies, (), 0)
    assert [len(curve) for curve in found.curves] == [2, 2] and found.judged == 0
    assert all(0.0 <= one <= 1.0 for curve in found.curves for one in curve)
    assert found.curves[0] != found.curves[1]


def test_a_curve_is_that_of_its_seed_in_whatever_task() -> None:
    whole, part = rising(with_rungs()).outcome, rising(with_rungs(count=1)).outcome
    assert isinstance(whole, Evaluation) and isinstance(part, Evaluation)
    assert part.curves == whole.curves[:1]


def test_what_is_below_a_floor_ends_there_and_takes_the_time_until_then() -> None:
    whole = rising(with_rungs()).outcome
    assert isinstance(whole, Evaluation)
    means = mean_curve(whole.curves)
    judged = rising(with_rungs(means))
    assert judged.outcome == replace(whole, judged=2) and judged.seconds == 10.0
    for rung, share in ((0, 0.1), (1, 0.5)):
        floors = tuple(math.nextafter(one, 2.0) if place == rung else one for place, one in enumerate(means))
        ended = rising(with_rungs(floors))
        assert isinstance(ended.outcome, Stopped)
        assert ended.outcome.curves == tuple(curve[: rung + 1] for curve in whole.curves)
        assert (ended.seconds, ended.outcome.training_seconds) == (pytest.approx(10.0 * share), ended.seconds)
        assert ended.outcome.parameters == whole.parameters


def test_the_nearer_the_end_the_nearer_to_the_final_accuracy() -> None:
    config = search_config.build({"training": {"rungs": [0.1, 0.9]}, "evaluation": {"evaluator": "synthetic"}})
    curves = [Foresight(config).curve(named("paper"), 0.6, seed) for seed in range(300)]
    early, late = (statistics.fmean(abs(curve[rung] - 0.6) for curve in curves) for rung in (0, 1))
    assert late < early / 4


def test_what_would_fail_after_it_is_stopped_does_not_fail() -> None:
    rates = {"synthetic_crashes": 0.4, "synthetic_hangs": 0.2, "synthetic_nans": 0.3, "synthetic_seconds": 100.0}
    made = {"training": {"replicates": 2, "rungs": [0.1, 0.5]}, "evaluation": {"evaluator": "synthetic", **rates}}
    of = Foresight(search_config.build(made, {"run": {"hang_timeout": 900.0}}))
    stopped = 0
    for id in range(200):
        task = Task(id, 1, named("paper"), (2 * id, 2 * id + 1), 0, 2)
        whole, ended = of.of(task), of.of(replace(task, floors=(0.0, 2.0)))
        if isinstance(whole.outcome, Failure) and whole.seconds % 900.0 < 50.0:  # before the rung; a hang takes 900 s
            assert ended == whole
        elif isinstance(ended.outcome, Failure):  # another one than that which would have come later
            assert ended.seconds % 900.0 < 50.0
        else:
            assert isinstance(ended.outcome, Stopped) and ended.seconds == 50.0
            stopped += 1
    assert 20 < stopped < 180
