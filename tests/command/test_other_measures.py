"""What tells of searches whose fitness is no accuracy: it names the measure, and gives no percent of what has none."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from examples import PLACE, SESSION, Bar, individual
from rich.console import Console

from hpcnas.analysis import curves, export, gains, report, search_description, snapshot, table1, verification
from hpcnas.analysis.figures import search as pictures
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import compare, summary, watch_view
from hpcnas.config import search as search_config
from hpcnas.config.settings import ConfigError
from hpcnas.evolution.early_stopping import EarlyStopping
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.racing import Racing
from hpcnas.messages import Evaluation, Result, Task
from hpcnas.retrain.origin import individual_origin
from hpcnas.search import run_file
from hpcnas.search.progress import final_table
from hpcnas.search.references import OfRun
from hpcnas.search.run_file import StoredRun
from hpcnas.training.evaluator import checked

MEASURES = (0.5, 0.4, 0.3, 0.75, 1.25, 0.5, None)


def config(**training: object) -> search_config.SearchConfig:
    settings = {"replicates": 2, "rungs": (0.5,), **training}
    return search_config.build({"search": {"space": "2x3/1x3", "budget": 40}, "training": settings})


def lossy(id: int, loss: float) -> Result:
    """A fitness by log loss, with the learning curves of both trainings."""
    accuracies, curves_of = (-loss, -loss - 0.25), ((-2 * loss,), (-2 * loss - 0.5,))
    outcome = Evaluation(accuracies, 1000, 0.25, 8.0, 1.5, curves_of, 0, (MEASURES, MEASURES))
    return Result(id, 1, PLACE, 3000.0 + id, 3010.0 + id, outcome)


def population(count: int) -> Population:
    """Losses that fall from individual to individual, far below 0 as fitnesses."""
    found = Population(config().space, 2, (0.5,))
    for id in range(count):
        found.add(individual(id))
        found.settle(lossy(id, 40.0 / (1 + id)))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    stored = StoredRun("a" * 32, 9, config(fitness="log-loss"), population(5), [SESSION])
    run_file.write(path / "population.h5", stored)
    return path


def test_all_that_tells_names_the_measure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert summary.main([str(folder)]) == 0
    told = capsys.readouterr().out
    assert "  fitness        negative validation log loss; digits" in told and "-8.1250" in told
    assert "best is        accuracy 0.5000, balanced-accuracy 0.4000, macro-f1 0.3000, auroc 0.7500" in told
    run = curves.Curves.of(folder)
    page = report.page(run)
    assert "negative validation log loss" in page and "-8.1250" in page and "fitness %" not in page
    every, best, _ = pictures.search_picture([run]).axes
    assert {axes.get_ylabel() for axes in (every, best)} == {"fitness: negative validation log loss"}
    assert best.get_ylim()[0] < run.best.min()
    console = Console(file=io.StringIO(), width=120)
    console.print(watch_view._progress(snapshot.look(folder, 4000.0)))
    assert "best log-loss -8.1250" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "(negative validation log loss; mean" in final_table(run.stored.population, (), run.measure)
    assert export.fitness(run.stored, 4).endswith("(negative validation log loss; trainings: 2)")
    methods = " ".join(one.text for one in search_description._result(run.stored))
    assert "has a fitness of -8.1250 ± 0.1768 (mean" in methods
    wrong = [fault for fault in verification._wrong_results(run.stored) if "accuracies" in str(fault)]
    assert wrong == []
    assert "log_loss_1" in export.csv_table(run.stored) and "class_accuracy_2_of_1" in export.csv_table(run.stored)


def test_runs_of_several_measures_are_not_compared(folder: Path, tmp_path: Path) -> None:
    (other := tmp_path / "other").mkdir()
    run_file.write(other / "population.h5", StoredRun("b" * 32, 9, config(), population(2), [SESSION]))
    for call in (lambda: compare.main([str(folder), str(other)]),
                 lambda: pictures.search_picture(curves.of_runs([folder, other]))):  # fmt: skip
        with pytest.raises(AnalysisError, match=r"of one measure, got log-loss \(run\), accuracy \(other\)"):
            call()
    with pytest.raises(AnalysisError, match="expected a run whose fitness is accuracy.*, got log-loss"):
        gains.of_runs([curves.Curves.of(folder)], [])


def test_published_errors_stand_beside_accuracy_alone(folder: Path) -> None:
    origin = individual_origin(OfRun(folder, run_file.read(folder), 4))
    assert origin.measure == "log-loss" and "fitness log-loss" in table1.search(origin)


def test_racing_and_early_stopping_go_by_any_numbers() -> None:
    """The noise is 0.177 and more at 38 degrees of freedom; lines have the slope 1/2."""
    found = population(38)
    racing = Racing(Bar(-2.0), 0.95)
    assert racing.hopeless(found, 38, [-2.5]) and not racing.hopeless(found, 38, [-2.2])
    (floor,) = EarlyStopping(Bar(-2.0), 0.95).floors(found, 32)
    assert floor == pytest.approx(-4.0, abs=0.01)
    stopped = individual(38)
    assert stopped.birth is Birth.INITIAL


def test_answers_are_held_against_the_measures_bounds() -> None:
    task, measure = Task(0, 1, individual(0).genotype, (5, 6), rungs=1), config(fitness="log-loss").measure
    assert checked(lossy(0, 3.0).outcome, task, measure=measure, classes=2) == lossy(0, 3.0).outcome
    assert "2 accuracies from 0 to 1" in str(checked(lossy(0, 3.0).outcome, task))
    assert "2 numbers of log-loss from -1000000 to 0" in str(checked(lossy(0, -3.0).outcome, task, measure=measure))


def test_only_known_measures_of_what_is_trained() -> None:
    with pytest.raises(ConfigError, match="training.fitness: expected .*; got 'f2'|training.fitness"):
        config(fitness="f2")
    with pytest.raises(ConfigError, match="expected accuracy with --evaluator synthetic"):
        search_config.build({"evaluation": {"evaluator": "synthetic"}, "training": {"fitness": "auroc"}})
