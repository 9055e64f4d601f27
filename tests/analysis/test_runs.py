"""What a text names: genotypes of runs, and motifs."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolruns import CHAIN, POOLING, eventful

from hpcnas.analysis import runs
from hpcnas.analysis.runs import motif_name
from hpcnas.architecture.genotype import named
from hpcnas.architecture.space import Space

PAPER = named("paper")


def test_genotypes_of_a_run(tmp_path: Path) -> None:
    run = eventful(tmp_path / "my:1")  # a folder whose name looks like RUN:ID
    assert runs.named_genotype(str(run)) == ("my:1-4", POOLING)
    assert runs.named_genotype(f"{run}:0") == ("my:1-0", CHAIN)
    assert runs.named_genotype("paper") == ("paper", PAPER)


@pytest.mark.parametrize(
    ("space", "level", "name"), [("flat", 2, "cell"), ("6x4/1x5", 2, "M3"), ("6x4/1x5", 3, "cell")]
)
def test_names_of_motifs(space: str, level: int, name: str) -> None:
    assert motif_name(Space.parse(space), level, 0 if name == "cell" else 2) == name
    assert motif_name(Space.parse("3x3/3x3/1x4"), 3, 1) == "level-3 M2"
