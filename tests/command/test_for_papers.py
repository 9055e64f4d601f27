"""`summary` for a paper: tables of results as CSV and LaTeX, methods paragraphs, and what does not go together."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from toolruns import curved, empty, eventful, origin_of, retrained, steady

from hpcnas.analysis import results_table
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import summary


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert summary.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_searches_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [eventful(tmp_path / 'a,"b'), curved(tmp_path / "curved"), empty(tmp_path / "empty")]
    first, second, third = csv.DictReader(io.StringIO(printed(capsys, *runs, "--csv")))
    assert first == {
        "run": str(runs[0]), "complete": "False", "space": "2x3/1x3", "strategy": "tournament",
        "evaluator": "training", "seed": "0", "workers": "2", "evaluated": "4", "stopped_early": "0", "failed": "1",
        "trainings": "8", "worker_hours": str(440 / 3600), "on_gpus": "True", "individual": "4", "parameters": "2500",
        "measure": "accuracy",
        "fitness": "0.8125", "fitness_std": "0.08838834764831845", "fitness_trainings": "2", "confirmed": "False",
    }  # fmt: skip
    assert (second["stopped_early"], second["trainings"]) == ("2", "5.5")
    assert (third["individual"], third["fitness"], third["workers"]) == ("", "", "")


def test_searches_as_latex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = steady(tmp_path / "a_b%", [0.5, 0.75], 3600.0, budget=2)
    names = [str(path).replace("_", r"\_").replace("%", r"\%") for path in (run, empty(tmp_path / "empty"))]
    assert printed(capsys, run, tmp_path / "empty", "--latex") == rf"""% \usepackage{{booktabs}}
\begin{{table}}
  \centering
  \caption{{Results of architecture searches: fitness (validation accuracy) of the best individual, mean \(\pm\) sample standard deviation of n trainings; \dag{{}} not complete.}}
  \begin{{tabular}}{{lllrrrrrr}}
    \toprule
    search & space & strategy & evaluations & trainings & GPU hours & parameters & fitness (\%) & n \\
    \midrule
    {names[0]} & 2x3/1x3 & tournament & 2 & 4 & 2.00 & 1,000 & 75.00 \(\pm\) 0.00 & 2 \\
    {names[1]} & 2x3/1x3 & tournament & 0 & 0 & 0.00 & -- & --\dag{{}} & 0 \\
    \bottomrule
  \end{{tabular}}
\end{{table}}
"""  # noqa: E501


def test_what_is_not_as_it_seems_is_marked_and_told(tmp_path: Path) -> None:
    row = {"confirmed": True, "complete": True, "evaluator": "synthetic", "run": "a", "space": "flat", "strategy": "s",
           "evaluated": 1, "trainings": 1.25, "worker_hours": 0.0, "on_gpus": False, "parameters": 5, "fitness": 0.5,
           "measure": "accuracy", "fitness_std": None, "fitness_trainings": 1}  # fmt: skip
    loss = row | {"measure": "log-loss", "confirmed": False, "fitness_std": 0.25}
    other = results_table.latex_of_searches([row, loss])
    assert r"fitness (validation accuracy and negative validation log loss) of the best" in other
    assert r"& 50.00 \%*\ddag{} & 1 \\" in other and r"& 0.5000 \(\pm\) 0.2500\ddag{} & 1 \\" in other
    found = results_table.latex_of_searches([row])
    assert r"; * of new trainings alone, after the search; \ddag{} of a synthetic landscape: nothing was" in found
    assert r"a & flat & s & 1 & 1.25 & 0.00 & 5 & 50.00*\ddag{} & 1 \\" in found


def test_retrainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = eventful(tmp_path / "run")
    found = [
        retrained(tmp_path / "r", [0.96, 0.97], diverged=1),
        retrained(tmp_path / "s", [0.5], origin_of(run, 4), {"training": {"runs": 2}}),
        retrained(tmp_path / "t", []),
    ]
    first, second, third = csv.DictReader(io.StringIO(printed(capsys, *found, "--csv")))
    assert first == {
        "retraining": str(found[0]), "complete": "True", "genotype": "paper", "space": "hierarchical",
        "data": "CIFAR-10", "channels": "64", "cells": "2 2 2", "parameters": "15727306", "steps": "80000",
        "batch_size": "256", "trainings": "2", "diverged": "1", "test_images": "10000", "test_accuracy": "0.965",
        "test_accuracy_std": "0.007071067811865481", "test_top5": "0.9824999999999999",
        "test_balanced_accuracy": "", "test_macro_f1": "", "test_auroc": "", "test_log_loss": "",
    }  # fmt: skip
    assert (second["complete"], second["test_accuracy_std"], third["test_accuracy"]) == ("False", "", "")
    lines = printed(capsys, *found, "--latex").splitlines()
    assert lines[6] == r"    retraining & genotype & data & c0 & parameters & test error (\%) & n & diverged \\"
    assert [line.split(" & ", 2)[2] for line in lines[8:11]] == [
        r"CIFAR-10 & 64 & 15,727,306 & 3.50 \(\pm\) 0.71 & 2 & 1 \\",
        r"CIFAR-10 & 64 & 15,727,306 & 50.00\dag{} & 1 & 0 \\",
        r"CIFAR-10 & 64 & 15,727,306 & --\dag{} & 0 & 0 \\",
    ]


def test_methods_of_searches_and_of_retrainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [eventful(tmp_path / "one"), curved(tmp_path / "other")]
    plain = printed(capsys, *runs, "--methods")
    assert plain.startswith("The architecture search was made with hpcnas, a program for evolutionary search ")
    assert len(plain.split("\n\n")) == 4 and plain.count("@misc{hpcnas,") == 1, "two paragraphs, two works"
    assert r"representations~\cite{liu2018hierarchical,hpcnas}." in printed(capsys, *runs, "--methods", "--latex")
    large = printed(capsys, retrained(tmp_path / "large", [0.9]), "--methods")
    assert large.startswith("The large network was trained with hpcnas, ") and "@misc{hpcnas," in large


@pytest.mark.parametrize(
    ("options", "listing"),
    [
        (("--csv", "--latex"), "--csv, --latex"),
        (("--json", "--methods"), "--json, --methods"),
        (("--table1", "--latex"), "--table1, --latex"),
        (("--csv", "--methods", "--latex"), "--csv, --latex, --methods"),
    ],
)
def test_what_does_not_go_together(
    options: tuple[str, ...], listing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        summary.main(["nowhere", *options])
    assert stopped.value.code == 2
    assert f"expected one of them, or --methods --latex, got {listing}\n" in capsys.readouterr().err


def test_searches_beside_retrainings(tmp_path: Path) -> None:
    run, large = eventful(tmp_path / "run"), retrained(tmp_path / "large", [0.9])
    with pytest.raises(AnalysisError, match="it holds a retraining"):
        summary.main([str(run), str(large), "--csv"])
