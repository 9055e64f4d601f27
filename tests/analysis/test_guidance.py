"""What the model of guided evolution predicted, of runs of every kind: by the model of each individual's own view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toolruns import created, evaluation, steady

from hpcnas import plugins
from hpcnas.analysis import guidance, merging
from hpcnas.analysis.curves import Curves
from hpcnas.analysis.guidance import Guidance, Unguided, Window
from hpcnas.architecture.features import Features
from hpcnas.config import search as search_config
from hpcnas.config.search import SearchConfig
from hpcnas.evolution import guided
from hpcnas.evolution.guided import FitnessModel, Guided
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import guiding, make_strategy
from hpcnas.messages import Place, Result, mean
from hpcnas.search import run_file, simulation, whole_run
from hpcnas.search.run_file import StoredRun

SITE = simulation.Site(5, startup=0.0, queue=0.0, handling=0.0)


def config(evaluation: dict[str, object] | None = None, **search: object) -> SearchConfig:
    given = {"budget": 60, "initial_population": 20, "strategy": "guided", "space": "2x3/1x3", **search}
    return search_config.build({"search": given}, {"evaluation": {"evaluator": "synthetic", **(evaluation or {})}})


def simulated(folder: Path, evaluation: dict[str, object] | None = None, **search: object) -> Curves:
    simulation.simulate(config(evaluation, **search), SITE, folder)
    return Curves.of(folder)


def kept(folder: Path, run: StoredRun, population: Population) -> Curves:
    """A run with this population, written and read."""
    whole_run.write(folder, StoredRun("", 0, run.config, population, run.sessions))
    return Curves.of(folder)


def created_guided(folder: Path) -> Path:
    created(folder, strategy="guided").close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    """With failures, and the best confirmed."""
    folder = tmp_path_factory.mktemp("guided") / "run"
    return simulated(folder, {"synthetic_nans": 0.1}, confirm=3)


def chosen(run: Curves) -> dict[int, float]:
    """The individuals that a model chose, and what that model says of each, the last one asked for first."""
    population, births = run.stored.population, run.stored.population.column("birth")
    found, strategy = dict[int, float](), guiding(run.stored.config, run.stored.sessions[0].facts)
    assert strategy is not None
    for id in reversed(population.evaluated.tolist()):
        view = int(population.column("view")[id])
        model = strategy.model(population, view)
        if births[id] == Birth.MUTATION and model is not None and model.helps:
            predicted = strategy.predicted(population, view, id)
            assert predicted is not None
            found[id] = predicted
    return found


def test_each_is_predicted_by_the_model_of_its_own_view(run: Curves) -> None:
    population, found = run.stored.population, Guidance.of(run)
    assert dict(zip(found.ids.tolist(), found.predicted.tolist(), strict=True)) == chosen(run)
    assert found.measured.tolist() == population.column("fitness")[found.ids].tolist()
    assert [int(population.evaluated[step - 1]) for step in found.step] == found.ids.tolist()
    assert len(found.ids) > 25 and population.failures and population.confirmations and found.every == 1
    assert found.correlation is not None and found.correlation > 0.2
    assert abs(float(np.mean(found.predicted - found.measured))) < 0.01


def test_a_model_is_learned_once(run: Curves, monkeypatch: pytest.MonkeyPatch) -> None:
    learned, learn = list[int](), Guided._learned

    def counted(
        self: Guided, population: Population, view: int, rows: dict[int, Features | None]
    ) -> FitnessModel | None:
        learned.append(view)
        return learn(self, population, view, rows)

    monkeypatch.setattr(Guided, "_learned", counted)
    Guidance.of(run)
    assert len(learned) > 15 and learned == sorted(set(learned))


def test_of_many_individuals_a_part_is_looked_at(run: Curves, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, mutants = Guidance.of(run), run.ids[run.mutated]
    monkeypatch.setattr(guidance, "MOST", 20)
    part = Guidance.of(run)
    assert part.every == 3 and part.ids.tolist() == [id for id in mutants[::3].tolist() if id in whole.ids]
    assert set(zip(part.ids, part.predicted, strict=True)) < set(zip(whole.ids, whole.predicted, strict=True))


def test_an_averaged_repeat_is_measured_by_its_own_trainings(tmp_path: Path) -> None:
    """Its fitness is also of the earlier ones, which the model knew."""
    run = simulated(tmp_path / "run", duplicates="average", space="1x2", initial_population=6)
    population, found = run.stored.population, Guidance.of(run)
    assert population.averaged > 10
    assert found.measured.tolist() == [mean(population.accuracies(id)) for id in found.ids.tolist()]
    assert found.measured.tolist() != population.column("fitness")[found.ids].tolist()


def test_a_merged_run_has_predictions_of_what_was_born_after(run: Curves, tmp_path: Path) -> None:
    new = merging.merge([run.folder], tmp_path / "merged")
    with pytest.raises(
        Unguided, match="^expected an evaluated individual that the model has chosen; predictions: rank "
    ):
        Guidance.of(Curves.of(tmp_path / "merged"))
    population, founders = new.population, len(new.population)
    merged = run_file.read(tmp_path / "merged")
    strategy = make_strategy(merged.config, merged.sessions[0].facts)
    for id in range(founders, founders + 6):
        population.add(strategy.ask(population, id, id).born(id, id, 0.0))
        population.settle(Result(id, 1, Place(1, "host", "cpu"), 0.0, 1.0, evaluation((0.5, 0.5 + id / 1000), 1000)))
    found = Guidance.of(kept(tmp_path / "gone on", merged, population))
    assert found.ids.tolist() == list(range(founders, founders + 6))
    assert found.measured.tolist() == [0.5 + id / 2000 for id in found.ids.tolist()]


def test_while_a_run_goes_on_those_in_flight_are_left_out(run: Curves, tmp_path: Path) -> None:
    whole, population = Guidance.of(run), Population(run.stored.population.space, run.stored.population.replicates)
    for id in np.flatnonzero(run.stored.population.column("view") <= 40).tolist():
        population.add(run.stored.population.individual(id))
    for id in run.ids[:40].tolist():
        population.settle(run.stored.population.result(id))
    found = Guidance.of(kept(tmp_path / "earlier", run.stored, population))
    early = whole.step <= 40
    assert population.in_flight and found.ids.tolist() == whole.ids[early].tolist() and len(found.ids) > 10
    assert found.predicted.tolist() == whole.predicted[early].tolist()


def test_a_run_of_another_strategy_has_none(tmp_path: Path) -> None:
    with pytest.raises(Unguided, match="^expected a run of --strategy guided, got one of tournament$"):
        Guidance.of(Curves.of(steady(tmp_path / "run", [0.5, 0.75], 10.0)))


def test_a_run_of_a_plugins_strategy_has_none(tmp_path: Path) -> None:
    with plugins.alone("own", plugins.Plugin(strategies={"climbing": lambda search, breeding: None})):
        run = Curves.of(steady(tmp_path / "run", [0.5, 0.75], 10.0, strategy="climbing"))
    with pytest.raises(Unguided, match="^expected a run of --strategy guided, got one of climbing$"):
        Guidance.of(run)


def test_a_run_in_which_no_model_has_chosen_says_why(
    run: Curves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = (
        "expected an evaluated individual that the model has chosen; predictions: nothing yet: too few evaluations, "
    )
    for folder in (
        steady(tmp_path / "constant", [0.5] * 30, 10.0, strategy="guided"),
        steady(tmp_path / "short", [0.5, 0.75], 10.0, strategy="guided"),
    ):
        with pytest.raises(Unguided) as raised:
            Guidance.of(Curves.of(folder))
        assert str(raised.value) == nothing + "or all equally fit"
    with pytest.raises(Unguided, match="^expected a run that has begun$"):
        Guidance.of(Curves.of(created_guided(tmp_path / "empty")))
    monkeypatch.setattr(guided, "tested", lambda table, like: -0.25)
    with pytest.raises(
        Unguided, match="-0.25 with the latest outcomes: it does not help, and births are those of plain"
    ):
        Guidance.of(run)


def made(predicted: list[float], measured: list[float]) -> Guidance:
    """A run of which these are the only numbers that count."""
    count = len(predicted)
    steps = np.arange(count) * 2 + 11
    return Guidance(None, steps, steps, np.array(predicted), np.array(measured), 1)  # type: ignore[arg-type]


def test_windows_have_forty_individuals_at_the_least_and_are_twenty_at_the_most() -> None:
    rising = [id / 100 for id in range(80)]
    assert made(rising, rising[:40] + rising[:39:-1]).windows == [Window(11, 89, 40, 1.0), Window(91, 169, 40, -1.0)]
    assert [window.individuals for window in made(rising[:79], rising[:79]).windows] == [79]
    assert [window.individuals for window in made(rising * 30, rising * 30).windows] == [120] * 20
    assert Window(1, 50, 50, 0.5).chance == pytest.approx(0.28)


def test_too_few_and_equal_ones_have_no_correlation() -> None:
    four = made([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    assert (four.correlation, four.windows) == (None, [])
    assert made([0.5] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).windows == [Window(11, 21, 6, None)]
    assert made([0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.5, 0.4]).correlation == 0.9


def test_numbers() -> None:
    assert made([0.5, 0.75, 0.5, 0.5, 0.5], [0.25, 0.5, 0.25, 0.25, 0.25]).numbers()["windows"] == [
        {"first_step": 11, "last_step": 19, "individuals": 5, "rank_correlation": 1.0}
    ]
