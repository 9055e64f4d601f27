"""--dry-run: everything that a person would want to know before the cluster is asked, in words."""

from __future__ import annotations

import pytest

from hpcnas.config import search as search_config
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.job.devices import Binding, Seat
from hpcnas.search import dry_run
from hpcnas.training.evaluator import Loaded

CIFAR10 = DataFacts(3, 32, 32, 10, 40_000, 10_000, "5f2e")
QUICK_TO_DRAW = {"search": {"initial_mutations": 20}}
SMALL = search_config.build(search_config.preset("paper"), QUICK_TO_DRAW)
CPU = Seat("node-1", (), frozenset({0, 1}), 2)


def _lines(settings: SearchConfig, seats: list[Seat], bindings: list[Binding]) -> list[str]:
    return dry_run.text(settings, CIFAR10, seats, bindings).splitlines()


def _part(lines: list[str], title: str) -> list[str]:
    """The lines under a title, up to the next blank one."""
    after = lines[lines.index(title) + 1 :]
    return after[: after.index("")] if "" in after else after


@pytest.fixture(scope="module")
def alone() -> list[str]:
    return _lines(SMALL, [CPU], [Binding(None, 2)])


def test_it_begins_with_the_configuration_that_can_be_given_back(alone: list[str]) -> None:
    text = "\n".join(alone[: alone.index("# data")])
    assert search_config.build(search_config.parse_toml(text, "")[0]) == SMALL


def test_it_says_what_is_learnt_and_when_the_learning_rate_falls(alone: list[str]) -> None:
    assert _part(alone, "# data") == [
        "40000 training and 10000 validation images of 32×32, 3 channels, 10 classes (fingerprint 5f2e)",
        "learning rate divided by 10 at the steps 4000, 4500",
    ]


def test_it_counts_the_papers_cell(alone: list[str]) -> None:
    sizes = _part(alone, "# networks")
    assert sizes[-1].startswith("the paper's cell: 542,138 parameters, ")


def test_sizes_are_named(alone: list[str]) -> None:
    assert [line.split(":")[0] for line in _part(alone, "# networks")] == [
        "typical genotype (median of 101 random ones)",
        "smallest of them",
        "largest of them",
        "the paper's cell",
    ]


@pytest.mark.parametrize("seed", range(4))
def test_the_typical_size_lies_between_the_smallest_and_the_largest(seed: int) -> None:
    lines = _part(
        _lines(search_config.build(QUICK_TO_DRAW, {"search": {"seed": seed}}), [CPU], [Binding(None, 2)]), "# networks"
    )
    typical, smallest, largest = (int(line.split(": ")[1].split()[0].replace(",", "")) for line in lines[:3])
    assert smallest < typical < largest


def test_the_same_seed_draws_the_same_genotypes(alone: list[str]) -> None:
    assert _lines(SMALL, [CPU], [Binding(None, 2)]) == alone
    other = search_config.build(search_config.preset("paper"), QUICK_TO_DRAW, {"search": {"seed": 1}})
    assert _part(_lines(other, [CPU], [Binding(None, 2)]), "# networks") != _part(alone, "# networks")


def test_it_says_how_the_first_worker_trains(alone: list[str]) -> None:
    assert not any("trains" in line for line in alone)
    lines = dry_run.text(SMALL, CIFAR10, [CPU], [Binding(None, 2)], ["trains: Training"]).splitlines()
    assert _part(lines, "# how the first worker trains") == ["trains: Training"]


@pytest.mark.parametrize(
    ("loaded", "remarks", "lines"),
    [
        (Loaded(CIFAR10, {"python": "3"}), [], []),
        (Loaded(CIFAR10, {"training": "PlannedTraining"}), ["/home: full"], ["trains: PlannedTraining", "/home: full"]),
        (
            Loaded(CIFAR10, {"training": "Training"}, "no compiler"),
            ["trains the plain network: no compiler", "/home: full"],
            ["trains: Training: SLOWER THAN IT MIGHT BE, no compiler", "/home: full"],
        ),
    ],
)
def test_a_fallback_is_no_secret(loaded: Loaded, remarks: list[str], lines: list[str]) -> None:
    assert dry_run._trains(loaded, remarks) == lines


def test_a_single_rank_does_both(alone: list[str]) -> None:
    assert _part(alone, "# ranks") == ["rank 0  node-1  controller and worker, cpu, 2 threads"]


def test_ranks_are_listed_with_what_they_are_bound_to() -> None:
    seats = [CPU, Seat("node-1", ("0",), frozenset({0, 1}), 2), Seat("node-2", ("GPU-7",), frozenset({0}), 1)]
    lines = _lines(SMALL, seats, [Binding("0", 2), Binding("GPU-7", 1)])
    assert _part(lines, "# ranks") == [
        "rank 0  node-1  controller",
        "rank 1  node-1  worker, cuda:0, 2 threads",
        "rank 2  node-2  worker, cuda:GPU-7, 1 threads",
    ]
