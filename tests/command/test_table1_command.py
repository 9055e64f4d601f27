"""The commands `table1` and `summary --table1`, which print the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from toolruns import INPUTS, retrained

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.command import summary, table1
from hpcnas.errors import Error
from hpcnas.retrain.record import Origin

CELL = Skeleton(3, 32, 32, 10, 64, (2, 2, 2), "plain")
CIFAR = replace(INPUTS, skeleton=CELL, class_names=tuple("abcdefghij"))
EVOLVED = Origin("run:7", "hierarchical", "a" * 32, 7, "tournament", 0.9, 90, 7000, True, None, "")

WHOLE: dict[str, dict[str, object]] = {"training": {"micro_batch": 256}}

Main = Callable[[Sequence[str]], int]


def by_option(arguments: Sequence[str]) -> int:
    return summary.main(["--table1", *arguments])


@pytest.mark.parametrize("main", [table1.main, by_option])
def test_the_table_for_the_terminal(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = retrained(tmp_path / "a", [0.96, 0.97], EVOLVED, WHOLE, CIFAR)
    waiting = retrained(tmp_path / "b", [], replace(EVOLVED, evaluation=0), WHOLE | {"data": {"source": "digits"}})
    assert main([str(folder), str(waiting)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("  ")[0] == "data" and len(lines) == 10
    assert lines[7].split() == (
        "CIFAR-10 hierarchical evolution, 7000 64 15,727,306 2 3.50 ± 0.71 3.75 ± 0.12 the paper's".split()
    )
    assert lines[0].split() == "CIFAR-10 flat one random architecture 64 - - - 4.56 ± 0.11 the paper's".split()
    assert lines[9].split() == "digits hierarchical one random architecture 4 15,727,306 - - - the paper's".split()
    ghosts = {"training": {"precision": "bf16", "batch_statistics": "micro-batch"}}
    diverged = retrained(tmp_path / "c", [0.96], EVOLVED, ghosts, CIFAR, diverged=2)
    assert main([str(diverged)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == (
        "CIFAR-10 hierarchical evolution, 7000 64 15,727,306 1, 2 diverged 4.00 - "
        "batch statistics of 32 images, precision bf16".split()
    )
    assert main(["--json", str(folder)]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 9


@pytest.mark.parametrize("main", [table1.main, by_option])
def test_what_is_no_retraining(main: Main, tmp_path: Path) -> None:
    with pytest.raises(Error, match=f"expected a retraining in {tmp_path}"):
        main([str(tmp_path)])
