"""What a search will cost: durations that were measured, those of a run, and the forecast by them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from patience import GUARD

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import named
from hpcnas.architecture.mutation import trivial
from hpcnas.architecture.sizes import size
from hpcnas.architecture.space import HIERARCHICAL
from hpcnas.config import data_spec, options
from hpcnas.config import search as search_config
from hpcnas.config.presumed import Presumed, presumed
from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import Birth, Individual
from hpcnas.evolution.population import Population
from hpcnas.job.devices import Binding
from hpcnas.messages import Evaluation, Failure, FailureKind, Place, Result, Task
from hpcnas.search import costs, durations, simulate
from hpcnas.search.synthetic import FACTS

SKELETON = SearchConfig().skeleton(FACTS)
SMALL, LARGE = trivial(HIERARCHICAL), named("paper")
FLOPS = [size(expand(one), SKELETON).flops for one in (SMALL, LARGE)]
PLACE = Place(1, "here", "cpu")


# ── durations ───────────────────────────────────────────────────────────────────────────────────────────────────────
def measured(*flops: float) -> durations.MeasuredDurations:
    """One training of the first takes 10 s, of the second 30 s; two side by side, half as long again."""
    return durations.MeasuredDurations(SKELETON, np.array(flops), (1, 2), np.array([[10.0, 15.0], [30.0, 45.0]]))


@pytest.mark.parametrize(
    ("flops", "count", "seconds"),
    [(100, 1, 10.0), (200, 1, 20.0), (300, 2, 45.0), (400, 1, 40.0), (200, 2, 30.0), (300, 3, 60.0), (0, 1, 1.0)],
    ids=["measured", "between", "the larger, two", "beyond", "between, two", "more trainings", "never nothing"],
)
def test_between_what_was_measured_and_beyond_it_seconds_go_linearly(flops: float, count: int, seconds: float) -> None:
    assert measured(100.0, 300.0).of(flops, count) == pytest.approx(seconds)


def test_a_task_takes_what_its_network_does() -> None:
    took = measured(*map(float, FLOPS))
    assert took(Task(0, 1, SMALL, (7,))) == 10.0 and took(Task(0, 1, LARGE, (7, 8))) == 45.0


def test_one_network_and_one_number_of_seeds_are_enough() -> None:
    took = durations.MeasuredDurations(SKELETON, np.array([5.0]), (2,), np.array([[8.0]]))
    assert took.of(5.0, 2) == took.of(9.0, 2) == 8.0 and took.of(5.0, 1) == 4.0


def population(*outcomes: Evaluation | Failure) -> Population:
    """A population of the small and the large network by turns."""
    made = Population(HIERARCHICAL, 2)
    for id, outcome in enumerate(outcomes):
        network = (SMALL, LARGE)[id % 2]
        made.add(Individual(id=id, view=0, born=0.0, genotype=network, birth=Birth.INITIAL, parent=None, redrawn=0))
        made.settle(Result(id, 1, PLACE, 0.0, 1.0, outcome))
    return made


def trained(seconds: float) -> Evaluation:
    """Two replicates, that took so long together: a part each to set up, to train and to validate."""
    return Evaluation((0.5, 0.6), 100, 0.25 * seconds, 0.5 * seconds, 0.25 * seconds)


def test_a_task_takes_what_a_network_of_its_flops_took_in_the_run() -> None:
    many = [trained(20.0 if id % 2 == 0 else 80.0) for id in range(100)]
    took = durations.RecordedDurations.of(population(*many), SKELETON)
    assert took(Task(0, 1, SMALL, (7,))) == 10.0 and took(Task(0, 1, LARGE, (7, 8))) == 80.0


def test_which_of_the_alike_depends_on_the_task_alone() -> None:
    took = durations.RecordedDurations.of(population(*(trained(float(id)) for id in range(1, 51))), SKELETON)
    drawn = [took(Task(0, 1, SMALL, (seed,))) for seed in range(20)]
    assert drawn == [took(Task(9, 2, SMALL, (seed,))) for seed in range(20)] and len(set(drawn)) > 5


@pytest.mark.parametrize("outcome", [trained(0.0), Failure(FailureKind.NAN, "the loss was not finite")])
def test_a_run_in_which_nothing_took_any_time_tells_nothing(outcome: Evaluation | Failure) -> None:
    with pytest.raises(ValueError, match="in no time"):
        durations.RecordedDurations.of(population(outcome), SKELETON)


def test_failures_of_a_run_by_their_kinds() -> None:
    kinds = [FailureKind.CRASH, FailureKind.OOM, FailureKind.HANG, FailureKind.OVERRUN, FailureKind.NAN]
    run = population(*[trained(9.0)] * 5, *(Failure(kind, "planted") for kind in kinds))
    assert durations.FailureShares.of(run) == durations.FailureShares(0.2, 0.2, 1 / 11)


# ── simulate --from ─────────────────────────────────────────────────────────────────────────────────────────────────
def simulated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, float]:
    small = ["--budget", "12", "--initial-population", "3", "--initial-mutations", "20", "--workers", "2", "--json"]
    assert simulate.main([*small, *arguments]) == 0, capsys.readouterr().err
    found: dict[str, float] = json.loads(capsys.readouterr().out)
    return found


def test_a_search_as_long_as_the_run_that_it_is_simulated_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    before = simulated(capsys, "--synthetic-seconds", "100", "--synthetic-spread", "0", "--keep", str(kept))
    again = simulated(capsys, "--from", str(kept))
    assert again["wall_clock"] == pytest.approx(before["wall_clock"]) and again["failed_attempts"] == 0
    longer = simulated(capsys, "--from", str(kept), "--steps", "300")  # twice as many as the run has
    assert longer["wall_clock"] - 60 == pytest.approx(2 * (before["wall_clock"] - 60), rel=1e-3)  # 60 s of start-up


def test_a_run_that_tells_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--from", str(tmp_path)]) == 2
    assert "expected a search that has evaluated networks: expected a run in" in capsys.readouterr().err


def test_what_the_run_says_is_not_given_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--from", str(tmp_path), "--synthetic-crashes", "0.1"]) == 2
    assert "--from, --synthetic-crashes: expected one of them" in capsys.readouterr().err


# ── the forecast ────────────────────────────────────────────────────────────────────────────────────────────────────
def worker(device: str, seconds: float) -> costs.WorkerCosts:
    """A step of one training of any network takes so long; of both replicates, twice as long."""
    timed = [
        costs.TimedTask(name, 1_000_000, flops, count, 5, setup=1.0, training=5 * count * seconds, validation=2.0)
        for name, flops in (("small", FLOPS[0]), ("large", FLOPS[1]))
        for count in (1, 2)
    ]
    return costs.WorkerCosts(device, "PlannedTrainings", ready=4.0, memory=2**30, timed=tuple(timed))


def settings(**training: object) -> SearchConfig:
    return search_config.build(
        {"search": {"budget": 4, "initial_population": 4, "initial_mutations": 20}},
        {"training": {"replicates": 2, "steps": 100} | training},
    )


def test_the_forecast_of_one_kind_of_device() -> None:
    lines = costs.forecast(settings(), FACTS, [worker("a GPU", 0.1)] * 2)
    assert lines[:2] == [
        "a GPU: 2 workers, PlannedTrainings; ready after 4 s, 1.00 GiB of host memory each",
        "  network  parameters  MFLOPs  trainings  ms a step  validation  all steps",
    ]
    large = f"  large     1,000,000  {FLOPS[1] / 1e6:>6,.1f}          2      200.0         2 s       23 s"
    assert lines[5] == large
    # 4 s until workers are ready, then two tasks each of 1 s + 100 × 0.2 s + 2 s
    assert lines[6].startswith("the search: 4 evaluations by 8 trainings: 50 s with 2 workers, 0.0278 worker hours (")
    assert lines[-1] == "and at the most 45.8 MiB for checkpoints, while it goes on"


def test_the_forecast_of_devices_with_memory_of_their_own() -> None:
    """The most of all workers, by network and against what the smallest device has; what is waited for is told."""
    workers = []
    for number in (1, 2):
        one = worker("a GPU", 0.1)
        timed = [
            dataclasses.replace(each, device_memory=(number + place) * 2**30, waiting=0.05 * (each.training + 2.0))
            for place, each in enumerate(one.timed)
        ]
        workers.append(dataclasses.replace(one, timed=tuple(timed), device_total=(17 - number) * 2**30))
    lines = costs.forecast(settings(), FACTS, workers)
    assert lines[1:3] == [
        "  device memory: at the most 5.00 of 15.00 GiB, images included: by that, 3 such workers can share a device "
        "(drivers and libraries take some more each)",
        "  images stay on the host: 5.0% of training and validation is spent waiting for them",
    ]
    assert [line.split("  ")[-1].strip() for line in lines[3:8]] == [
        "device memory", "2.00 GiB", "3.00 GiB", "4.00 GiB", "5.00 GiB"
    ]  # fmt: skip
    assert not any("device memory" in line or "on the host" in line for line in costs.forecast(
        settings(), FACTS, [worker("a CPU", 0.1)]
    ))  # fmt: skip


def test_what_is_measured_and_how_classes_weigh_are_no_matter_of_the_clock() -> None:
    lines = costs.forecast(settings(fitness="log-loss", class_weights="balanced"), FACTS, [worker("a GPU", 0.1)])
    assert any("4 evaluations by 8 trainings: 2 min with 1 worker" in line for line in lines)


def test_a_cost_of_trained_networks_is_no_matter_of_the_clock() -> None:
    weighed = search_config.build(
        {"search": {"budget": 4, "initial_population": 4, "initial_mutations": 20, "strategy": "nsga2"}},
        {"search": {"objective": "latency"}, "training": {"replicates": 2, "steps": 100}},
    )
    lines = costs.forecast(weighed, FACTS, [worker("a GPU", 0.1)])
    assert any("4 evaluations by 8 trainings: 2 min with 1 worker" in line for line in lines)


@pytest.mark.parametrize(
    ("rungs", "steps", "least", "fitting"),
    [((), 1000, 2, 2), ((), 1, 2, 1), ((0.1, 0.3), 1000, 2, 5), ((0.1, 0.12), 1000, 4, 13)],
    ids=["no rungs", "as many as there are", "two rungs", "two that are near"],
)
def test_so_many_steps_that_every_rung_has_one_of_its_own(
    rungs: tuple[float, ...], steps: int, least: int, fitting: int
) -> None:
    training = search_config.build({"training": {"steps": steps, "rungs": rungs}}).training
    assert costs.fitting_steps(training, least) == fitting


def test_devices_of_two_kinds_have_their_own_pace() -> None:
    lines = costs.forecast(settings(), FACTS, [worker("a GPU", 0.1), worker("a slow GPU", 1.0)])
    assert [line for line in lines if "1 worker, " in line] == [
        f"{device}: 1 worker, PlannedTrainings; ready after 4 s, 1.00 GiB of host memory each"
        for device in ("a GPU", "a slow GPU")
    ]
    # 203 s on the slow one; meanwhile the fast one makes the other three, of 23 s each
    assert any("by 8 trainings: 3 min with 2 workers" in line for line in lines)


def test_a_walltime_within_which_no_job_gets_anywhere_is_refused() -> None:
    short = search_config.build({"run": {"walltime": 30.0, "grace": 29.0}}, {"training": {"replicates": 2}})
    with pytest.raises(search_config.ConfigError, match="expected a walltime of more than 33 s"):
        costs.forecast(short, FACTS, [worker("a GPU", 0.1)])


# ── whole dry runs ──────────────────────────────────────────────────────────────────────────────────────────────────
def dry_run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    small = ["--channels", "2", "--replicates", "1", "--budget", "4", "--initial-population", "4", "--threads", "1"]
    command = [sys.executable, "-m", "hpcnas", "--dry-run", *small, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=GUARD)
    assert list(folder.iterdir()) == []
    return done


def test_some_steps_are_trained_and_nothing_is_written(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "--preset", "quick", "--steps", "4", "--measure")
    assert done.returncode == 0, done.stderr
    before, cost = done.stdout.split("\n# what it will cost\n")
    assert "rank 0" in before and "1 worker, " in cost and "the search: 4 evaluations by 4 trainings: " in cost
    assert [line.split()[0] for line in cost.splitlines()[1:5]] == ["network", "smallest", "typical", "largest"]


def test_data_that_are_not_at_hand_are_presumed_and_never_downloaded(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "--data", "cifar10:data", "--download")
    assert done.returncode == 0 and "hpcnas: the data are not looked at: cifar10:data: expected" in done.stderr
    assert "40000 training and 10000 validation images of 32×32, 3 channels, 10 classes" in done.stdout
    assert "the paper's cell: 15,472 parameters" in done.stdout and "rank 0" in done.stdout


@pytest.mark.parametrize(
    ("data", "images", "classes", "count", "whose"),
    [
        ("cifar100:d", (3, 32, 32), 100, 50_000, "CIFAR-100"),
        ("mnist:d", (1, 28, 28), 10, 60_000, "MNIST"),
        ("svhn:d", (3, 32, 32), 10, 73_257, "SVHN"),
        ("digits", (1, 8, 8), 10, 1442, "the embedded digits"),
        ("synthetic:50:1x9x9", (1, 9, 9), 10, 50, "synthetic"),
        ("arrays:d.h5", (3, 32, 32), 10, 50_000, "as CIFAR-10's"),
    ],
)
def test_what_is_presumed_of_data_by_their_name(
    data: str, images: tuple[int, int, int], classes: int, count: int, whose: str
) -> None:
    assert presumed(data_spec.parse(data)) == Presumed(data_spec.ImageFacts(*images, classes), count, whose)


def test_what_is_no_training_is_not_measured(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "--evaluator", "synthetic", "--measure")
    assert done.returncode == 0 and "evaluations are not trainings" in done.stdout


def test_a_signal_ends_the_measuring_and_the_trainer_with_it() -> None:
    tiny = search_config.build(search_config.preset("quick"), {"network": {"channels": 2}})
    with pytest.raises(costs.NotMeasured, match="^SIGTERM came before all was measured$") as caught:
        costs.measure(tiny, Binding(None, 1), {"typical": LARGE}, lambda: "SIGTERM")
    assert caught.value.passes


def test_measuring_is_a_part_of_a_dry_run() -> None:
    with pytest.raises(options.UsageError, match="--measure: expected --dry-run"):
        options.parse(["--measure"])
