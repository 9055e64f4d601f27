"""Searches that begin with given genotypes: their sources, that they are born first, and that a run keeps them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_strategy import configured, grow, individuals
from toolruns import CHAIN, POOLING, SHORTCUT, empty, eventful

from hpcnas.analysis import replay
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.mutation import trivial
from hpcnas.architecture.network_hash import network_hash
from hpcnas.architecture.space import HIERARCHICAL, Space
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.initial import kept, written
from hpcnas.evolution.registry import make_strategy
from hpcnas.evolution.strategy import StrategyRefused
from hpcnas.search import run_file, simulation
from hpcnas.search.file_store import FileStore
from hpcnas.search.initial import looked_up
from hpcnas.search.synthetic import FACTS

SMALL = Space.parse("2x3/1x3")


def sources(text: str, space: str = "2x3/1x3") -> tuple[Genotype, ...]:
    """The genotypes that `--initial` TEXT gives."""
    settings = looked_up(search_config.build({"search": {"space": space, "initial": text}}))
    return kept(settings.space, settings.search.initial)


# Sources


def test_a_file_holds_one_genotype_or_several(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("# the chain\n" + CHAIN.text())
    (tmp_path / "two").write_text(CHAIN.text() + "\n# a remark\n" + POOLING.text())
    assert sources(f"{tmp_path / 'one'}") == (CHAIN,)
    assert sources(f"{tmp_path / 'two'}") == (CHAIN, POOLING)


def test_the_best_of_a_run_each_of_another_network(tmp_path: Path) -> None:
    """By fitness: 4 POOLING, 1 SHORTCUT, 2 UNUSED, 0 CHAIN, of which the last two are the same network."""
    run = eventful(tmp_path / "run")
    assert sources(f"{run}") == sources(f"{run}:top1") == (POOLING,)
    best = [network_hash(one) for one in sources(f"{run}:top3")]
    assert best == [network_hash(one) for one in (POOLING, SHORTCUT, CHAIN)]


def test_sources_follow_one_another_and_equal_networks_are_taken_once(tmp_path: Path) -> None:
    run = eventful(tmp_path / "run")
    (tmp_path / "file").write_text(CHAIN.text())
    assert sources(f"{tmp_path / 'file'},{run}:top3,{run}") == (CHAIN, POOLING, SHORTCUT)
    assert sources(f"{written((CHAIN,))},{written((SHORTCUT, POOLING))}") == (CHAIN, SHORTCUT, POOLING)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0}/nothing", "expected RUN, RUN:best, .* or paper, but there is nothing named .*/nothing"),
        ("{0}", "expected a run in .*, but there is no population.h5"),
        ("{0}/run:top4", "expected a run that has evaluated 4 different networks, but it has 3"),
        ("{0}/empty", "no individual has been evaluated yet, so there is no best one"),
        ("{0}/paper", "expected genotypes of space 2x3/1x3, got one of hierarchical"),
        ("{0}/broken", "expected a genotype in TOML, but it cannot be read"),
        ("codes:00", "codes:00: space 2x3/1x3: expected 9 edges in the array form, got 1"),
        ("codes:0g", "codes:0g: non-hexadecimal number found"),
        ("codes:" + "00" * 9, "expected a path from the source to the sink of the cell, but there is none"),
        ("", "expected RUN, .* or paper before and after each comma, got nothing"),
    ],
)
def test_what_cannot_be_taken_is_refused(text: str, message: str, tmp_path: Path) -> None:
    eventful(tmp_path / "run")
    empty(tmp_path / "empty")
    (tmp_path / "paper").write_text(trivial(HIERARCHICAL).text())
    (tmp_path / "broken").write_text("format = ")
    with pytest.raises(ConfigError, match=f"^search.initial: .*{message}"):
        sources(text.format(tmp_path))


# Births


def test_they_are_born_first_and_the_strategy_goes_on() -> None:
    given = tuple(replace_cell(number) for number in (1, 2, 3))
    for strategy in search_config.STRATEGIES:
        for count, duplicates in ((2, "retrain"), (3, "resample")):
            settings = configured(
                initial=written(given[:count]), initial_population=2, strategy=strategy, duplicates=duplicates
            )
            found = individuals(grow(make_strategy(settings, FACTS), 8))
            assert [one.genotype for one in found[:count]] == list(given[:count])
            assert [one.birth for one in found[:count]] == [Birth.GIVEN] * count
            assert {one.birth for one in found[count:]}.isdisjoint({Birth.GIVEN})
            assert all((one.network is not None) is (duplicates == "resample") for one in found)


def replace_cell(motif: int) -> Genotype:
    """The trivial cell of one motif after another, its first motif a separable convolution, …"""
    codes = bytearray(trivial(HIERARCHICAL).codes)
    codes[0] = motif
    return Genotype(HIERARCHICAL, bytes(codes))


def test_one_that_is_over_a_constraint_is_refused_before_anything_is_born(tmp_path: Path) -> None:
    settings = configured(initial=written((replace_cell(6), replace_cell(1))), max_parameters=40_000)
    with pytest.raises(StrategyRefused, match="^initial genotype 2 of 2 is over a constraint"):
        make_strategy(settings, FACTS)
    for number, motif in enumerate((6, 1)):
        (tmp_path / f"{number}").write_text(replace_cell(motif).text())
    options = ["--evaluator", "synthetic", "--budget", "4", "--run", tmp_path / "run"]
    given = ["--initial", f"{tmp_path / '0'},{tmp_path / '1'}"]
    done = hpcnas(*options, *given, "--max-parameters", "10000")
    assert (done.returncode, "initial genotype 2 of 2 is over a constraint" in done.stdout) == (2, True), done.stdout
    assert not FileStore.exists(tmp_path / "run")
    assert hpcnas(*options, *given).returncode == 0, "the folder is as good as new"


# Runs


def hpcnas(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hpcnas", *map(str, options)], capture_output=True, text=True)


def test_the_same_command_continues_a_run_whatever_has_become_of_its_sources(tmp_path: Path) -> None:
    file = tmp_path / "start.toml"
    file.write_text(POOLING.text() + CHAIN.text())
    options = ["--evaluator", "synthetic", "--space", "2x3/1x3", "--initial-population", "4", "--run", tmp_path / "run"]
    assert hpcnas(*options, "--initial", file, "--budget", "5").returncode == 0
    file.write_text("now something else")
    done = hpcnas(*options, "--initial", file, "--budget", "9")
    assert done.returncode == 0, done.stderr
    run = run_file.read(tmp_path / "run")
    assert [run.population.individual(id).genotype for id in (0, 1)] == [POOLING, CHAIN]
    assert [Birth(kind) for kind in run.population.column("birth")[:5]] == [
        Birth.GIVEN, Birth.GIVEN, Birth.INITIAL, Birth.INITIAL, Birth.MUTATION,
    ]  # fmt: skip
    assert len(run.population.evaluated) == 9
    assert list(replay.deviations(run.config, run.sessions[0].facts, run.population)) == []
    done = hpcnas("--evaluator", "synthetic", "--initial", tmp_path / "no", "--run", tmp_path / "other")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"hpcnas: search.initial: {tmp_path / 'no'}: expected RUN, RUN:best, RUN:ID, RUN:topK, FILE.toml or paper, but "
        f"there is nothing named {tmp_path / 'no'}\n"
    )


def test_a_run_that_began_without_them_does_not_take_them_later(tmp_path: Path) -> None:
    run = eventful(tmp_path / "run")
    done = hpcnas("--run", run, "--initial", run)
    assert done.returncode == 2 and "search.initial: None → " in done.stderr


def test_a_simulated_search_takes_them_too(tmp_path: Path) -> None:
    settings = search_config.build(
        {"search": {"budget": 6, "space": "2x3/1x3", "initial": written((CHAIN, POOLING)), "initial_population": 3}},
        {"evaluation": {"evaluator": "synthetic"}},
    )
    simulation.simulate(settings, simulation.Site(2, 0.0, 0.0, 0.0), tmp_path / "run")
    population = run_file.read(tmp_path / "run").population
    assert population.individual(1).genotype == POOLING
