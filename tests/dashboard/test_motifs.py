"""Operations and motifs of many genotypes at once, against those of each alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from followed_stand import followed
from toolruns import CHAIN, POOLING, SHORTCUT, UNUSED, empty, eventful

from hpcnas.analysis.motifs import motifs_in_use
from hpcnas.architecture import expansion
from hpcnas.architecture.expansion import live_edges
from hpcnas.architecture.genotype import Genotype, highest_codes, operation_names
from hpcnas.architecture.space import Space
from hpcnas.config import search as search_config
from hpcnas.dashboard import motifs
from hpcnas.dashboard.motifs import Networks
from hpcnas.evolution.individuals import State
from hpcnas.search import simulation


def drawn(space: Space, count: int) -> list[Genotype]:
    """Genotypes in which many edges are none, so that many motifs have no path."""
    generator = np.random.default_rng(space.edges)
    highest = np.frombuffer(highest_codes(space), dtype=np.uint8)
    codes = generator.integers(0, highest + 1, (count, space.edges)) * (generator.random((count, space.edges)) < 0.55)
    return [Genotype(space, bytes(row.astype(np.uint8))) for row in codes]


def arrays(genotypes: list[Genotype]) -> np.ndarray:
    return np.array([list(one.codes) for one in genotypes], dtype=np.uint8)


@pytest.mark.parametrize("text", ["2x3/1x3", "hierarchical", "1x6", "3x3/4x3/1x4"])
def test_edges_on_paths_and_uses_are_those_of_each_genotype_alone(text: str) -> None:
    space = Space.parse(text)
    genotypes = drawn(space, 300)
    found = Networks.of(space, arrays(genotypes))
    valid = 0
    for row, genotype in enumerate(genotypes):
        live = live_edges(genotype)
        for (level, motif), edges in live.items():
            codes = found.live[level][row, motif]
            pairs = [(j, i) for i in range(1, space.level(level).nodes) for j in range(i)]
            assert tuple((j, i, int(code)) for (j, i), code in zip(pairs, codes, strict=True) if code) == edges
        uses = motifs_in_use(genotype) if live[space.top, 0] else {}
        for level in range(2, space.top + 1):
            expected = [uses.get((level, motif), 0) for motif in range(space.level(level).motifs)]
            assert found.uses[level][row].tolist() == expected
        counts = Counter[int]()
        for motif in range(space.level(2).motifs):
            for _, _, code in live[2, motif]:
                counts[code] += uses.get((2, motif), 0)
        assert found.operations[row].tolist() == [counts[code] for code in range(1, len(operation_names(space, 2)) + 1)]
        if uses:
            valid += 1
            joins = sum(uses.get((2, motif), 0) for motif in range(space.level(2).motifs)) if space.top > 2 else 0
            identities = sum(edges * 1 for edges in _identities(space, uses))
            graph = expansion.expand(genotype)
            assert len(graph.edges) == found.operations[row].sum() + joins + identities
    assert 30 < valid < 300, "both kinds are there"


def _identities(space: Space, uses: dict[tuple[int, int], int]) -> list[int]:
    """What follows each motif above level 2 that a higher one uses: one identity."""
    return [count for (level, _), count in uses.items() if 2 < level < space.top]


def test_shares_of_a_run_made_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluated are CHAIN 0.5625, UNUSED 0.625, SHORTCUT 0.75 and POOLING 0.8125, in this order."""
    monkeypatch.setattr(motifs, "BEST_LEAST", 1)
    seen = motifs.motifs(followed(eventful(tmp_path / "run")), {})
    networks = Networks.of(CHAIN.space, arrays([CHAIN, UNUSED, SHORTCUT, POOLING]))
    expected = networks.operations.cumsum(axis=0)
    assert seen["operations"] == ["1x1", "dw", "sep", "max", "avg", "id"]
    assert seen["steps"].tolist() == [1, 2, 3, 4] and (seen["looked_at"], seen["every"], seen["best_of"]) == (4, 1, 1)
    assert seen["all"].T == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-5)
    best = networks.operations / networks.operations.sum(axis=1, keepdims=True)
    assert seen["best"].T == pytest.approx(best, abs=1e-5), "each was better than those before it"
    first, second = seen["motifs"]
    assert (first["name"], first["uses_best"], first["uses_all"]) == ("M1", 2.0, 2.0)
    assert (second["name"], second["uses_best"], second["uses_all"]) == ("M2", 1.0, 0.5)
    assert {name: share for name, share in second["operations"].items() if share} == {"sep": 0.66667, "max": 0.33333}
    assert seen["common"] == [
        {"edges": "1-2 id, 2-3 id", "level": "motif", "best": 1.0, "all": 1.0},
        {"edges": "1-2 sep, 1-3 max, 2-3 sep", "level": "motif", "best": 1.0, "all": 0.25},
    ]


def test_of_many_individuals_every_so_manieth_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = search_config.build(
        {"search": {"budget": 100, "initial_population": 20}}, {"evaluation": {"evaluator": "synthetic"}}
    )
    simulation.simulate(config, simulation.Site(5, startup=0.0, queue=0.0, handling=0.0), tmp_path / "run")
    whole = motifs.motifs(followed(tmp_path / "run"), {})
    monkeypatch.setattr(motifs, "MOST", 30)
    part = motifs.motifs(followed(tmp_path / "run"), {})
    assert (whole["looked_at"], part["looked_at"], part["every"], part["evaluated"]) == (100, 25, 4, 100)
    assert part["steps"].tolist() == list(range(4, 101, 4)), "the last evaluation is among them"
    assert np.sum(part["best"], axis=0) == pytest.approx(np.ones(25), abs=1e-4)
    assert whole["best_of"] == 10 == part["best_of"]


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    run = followed(empty(tmp_path / "run"))
    assert not np.isin(run.stored.population.column("state"), State.EVALUATED).any()
    seen = motifs.motifs(run, {})
    assert (seen["steps"], seen["common"], seen["looked_at"]) == ([], [], 0)
