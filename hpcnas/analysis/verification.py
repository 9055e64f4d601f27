"""Whether a run is sound, and what of a damaged one is provably good.

Checked are the files, the records, the budget, every number that can be computed again and, by replay, every decision.
Nothing here changes a run: `repair` writes another one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hpcnas.analysis import replay
from hpcnas.analysis.replay import Fault
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture import expansion, sizes
from hpcnas.evolution import registry
from hpcnas.evolution.early_stopping import EarlyStopping
from hpcnas.evolution.individuals import COLUMNS, Birth, Individual, State
from hpcnas.evolution.population import Population
from hpcnas.evolution.racing import Racing
from hpcnas.evolution.registry import StrategyMissing, make_strategy
from hpcnas.evolution.strategy import Strategy, StrategyRefused
from hpcnas.evolution.tasks import Replicates
from hpcnas.messages import Evaluation, Failure, mean, mean_curve
from hpcnas.search import whole_run
from hpcnas.search.recovery import salvage
from hpcnas.search.run_file import StoredRun
from hpcnas.search.run_values import recounted


@dataclass(frozen=True)
class Verification:
    """What was found of a run, up to the last record that can be read."""

    run: StoredRun
    problems: list[str]  # one line each; none for a sound run
    notes: list[str]  # of a sound run alone
    replayed: bool  # whether its decisions could be made again: the plugin of its strategy is loaded, if it is one's

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(folder: Path) -> Verification:
    """Checks the run in a folder. Raises StoreError where there is nothing to check."""
    run, problems = salvage(folder)
    problems += [str(fault) for fault in faults(run)]
    if (excess := overspent(run)) is not None:
        problems.append(excess)
    known = [] if problems else list(notes(run))
    return Verification(run, problems, known, registry.is_known(run.config.search.strategy))


def require_replayed(found: Verification) -> None:
    """Raises AnalysisError where what is good of the run is not known, since its decisions could not be replayed."""
    if not found.replayed:
        strategy = found.run.config.search.strategy
        raise AnalysisError(f"expected the plugin of strategy {strategy!r} to say what is good: name it")


def repair(found: Verification, target: Path) -> int:
    """Writes what is provably good of a run to a new folder; returns how many individuals that are.

    Raises AnalysisError where that is not known, StoreError where the folder cannot be written or holds
    something.
    """
    require_replayed(found)
    part = sound_part(found.run)
    if part.sessions:  # for `merging`, which takes no individual twice
        first = part.sessions[0]
        software = {**first.software, "repaired": " ".join(whole_run.contained(found.run))}
        part = replace(part, sessions=[replace(first, software=software), *part.sessions[1:]])
    whole_run.write(target, part)
    return len(part.population)


def faults(run: StoredRun) -> Iterator[Fault]:
    """What is wrong with individuals on record, each perhaps several times; nothing for a sound run."""
    if not run.sessions:  # no individual can have been born
        if len(run.population):
            yield Fault(0, "expected a session of the controller before the first birth, got none")
        return
    yield from _wrong_parents(run.population)
    yield from _wrong_results(run)
    try:
        strategy = make_strategy(run.config, run.sessions[0].facts)
    except StrategyMissing:  # its decisions cannot be replayed
        return
    except StrategyRefused as refusal:  # such a run cannot be continued either
        yield Fault(0, f"expected settings that a strategy can be made of, but: {refusal}")
        return
    yield from _wrong_stops(run, strategy)
    yield from _wrong_early_stops(run, strategy)
    yield from replay.deviations(run.config, run.sessions[0].facts, run.population)


def notes(run: StoredRun) -> Iterator[str]:
    """What is worth knowing about a sound run, one line each."""
    if run.sessions:
        yield from replay.joined_networks(run.config, run.sessions[0].facts, run.population)


def overspent(run: StoredRun) -> str | None:
    """What is wrong with the budget; None where nothing is."""
    population, budget = run.population, run.config.search.budget
    done, under_way = population.searched + population.stopped, population.in_flight - population.confirming
    if done + under_way <= budget:
        return None
    return f"expected {budget} evaluations at most (the budget), got {done} and {under_way} under way"


def _wrong_parents(population: Population) -> Iterator[Fault]:
    place = {int(id): number for number, id in enumerate(population.evaluated)}
    for id in range(len(population)):
        individual = population.individual(id)
        parent, view = individual.parent, individual.view
        if (individual.birth in (Birth.MUTATION, Birth.CONFIRMATION)) != (parent is not None):
            yield Fault(id, f"expected a parent for a mutation or a confirmation and for nothing else, got {parent}")
        elif parent is not None and place.get(parent, math.inf) >= view:
            yield Fault(id, f"expected a parent among the first {view} evaluated, got {parent}")
        elif individual.birth is Birth.CONFIRMATION and parent is not None:
            yield from _wrong_confirmation(population, individual, population.individual(parent))


def _wrong_confirmation(population: Population, individual: Individual, origin: Individual) -> Iterator[Fault]:
    first = origin.id if origin.repeats is None else origin.repeats
    if origin.birth is Birth.CONFIRMATION:
        yield Fault(individual.id, f"expected to confirm an individual of the search, got the confirmation {origin.id}")
    elif individual.genotype != origin.genotype or individual.repeats != first:
        yield Fault(individual.id, f"expected the genotype of individual {origin.id}, and to repeat {first}")


def _wrong_results(run: StoredRun) -> Iterator[Fault]:
    population, skeleton = run.population, run.config.skeleton(run.sessions[0].facts)
    state = population.column("state")
    low, high = run.config.measure.low, run.config.measure.high
    bounds = f"from {low:.15g} to {high:.15g}"
    for id in np.flatnonzero((state == State.EVALUATED) | (state == State.STOPPED)).tolist():
        outcome = population.result(id).outcome
        assert not isinstance(outcome, Failure), "evaluated or stopped"
        if isinstance(outcome, Evaluation):
            fitness, accuracies = float(population.column("fitness")[id]), population.averaged_accuracies(id)
            if not all(low <= accuracy <= high for accuracy in outcome.accuracies) or fitness != mean(accuracies):
                what = f"got {fitness} of {accuracies}"
                yield Fault(id, f"expected as fitness the mean of accuracies {bounds}, {what}")
        if not all(low <= accuracy <= high for curve in outcome.curves for accuracy in curve):
            yield Fault(id, f"expected learning curves of accuracies {bounds}, got {outcome.curves}")
        try:
            graph = expansion.expand(population.individual(id).genotype)
        except expansion.InvalidGenotype:
            yield Fault(id, "expected a valid genotype, for it was trained")
            continue
        expected = sizes.size(graph, skeleton).parameters
        if outcome.parameters != expected:
            yield Fault(id, f"expected {expected} parameters, got {outcome.parameters}")


def _wrong_stops(run: StoredRun, strategy: Strategy) -> Iterator[Fault]:
    """Individuals that were not trained in full although racing had not given them up."""
    population, search = run.population, run.config.search
    births, trained = population.column("birth"), population.column("replicates_trained")
    racing = Racing(strategy, search.racing_confidence)
    for view, id in enumerate(population.evaluated.tolist()):  # what was known when it was the next to be recorded
        whole = int(trained[id]) == population.replicates_of(id)
        if whole or births[id] == Birth.FOUNDER:
            continue
        if not search.racing or not racing.hopeless(population, view, population.accuracies(id)):
            yield Fault(
                id,
                f"expected all replicates trained, or a reason to give it up after {view} evaluations, got "
                f"{trained[id]} of {population.replicates} replicates",
            )


def _wrong_early_stops(run: StoredRun, strategy: Strategy) -> Iterator[Fault]:
    """Individuals that were stopped at a rung although they were above its floor, or that went on below one."""
    population, search = run.population, run.config.search
    if not search.early_stopping:
        for id in np.flatnonzero(population.column("state") == State.STOPPED).tolist():
            yield Fault(id, "expected no training to be stopped early, which the search does not do, got one")
        return
    early, judged = EarlyStopping(strategy, search.early_stopping_confidence), population.column("judged")
    for id in np.flatnonzero(judged > 0).tolist():  # views grow with ids
        individual = population.individual(id)
        floors = early.floors_of(population, individual, Replicates(0, int(judged[id])))
        reached = mean_curve(population.curves(id)[: judged[id]])
        low = [rung for rung, (accuracy, floor) in enumerate(zip(reached, floors, strict=False)) if accuracy < floor]
        expected = [len(reached) - 1] if population.column("state")[id] == State.STOPPED else []
        if low != expected:
            yield Fault(
                id,
                f"expected to be stopped where its accuracy is below the floor of a rung, and nowhere else: floors "
                f"{_told(floors)}, accuracies {_told(reached)}, "
                + (f"stopped at rung {expected[0] + 1}" if expected else "not stopped"),
            )


def _told(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.6g}" for number in numbers) or "none"


def sound_part(run: StoredRun) -> StoredRun:
    """The run without its first faulty individual and those born after it, whose births may depend on it.

    Those before it do not depend on them, so the search can go on as if the others had never been born. Racing alone
    may have given up an individual because of the fitness of one that is left out: where that no longer holds, it is in
    flight again."""
    good = min((fault.individual for fault in faults(run)), default=len(run.population))
    whole = run.population
    evaluated = _still_settled(run, good)
    columns = {column.name: whole.column(column.name)[:good].copy() for column in COLUMNS}
    failed = [attempt for attempt in whole.failed_attempts if attempt.individual < good]
    attempts = {attempt.individual: attempt.attempt for attempt in failed}
    for id in set(whole.evaluated[whole.evaluated < good].tolist()) - set(evaluated):
        columns["state"][id], columns["fitness"][id] = State.ISSUED, np.nan
        columns["attempts"][id] = attempts.get(id, 0)
    order = np.array(evaluated, dtype=np.int64)
    columns["stopped_after"] = recounted(columns["stopped_after"], whole.evaluated, order)
    population = Population.from_columns(whole.space, whole.replicates, columns, order, failed, whole.rungs)
    return StoredRun(run.run, run.records, run.config, population, run.sessions, run.workers)


def _still_settled(run: StoredRun, good: int) -> list[int]:
    """The evaluated among the first `good` individuals, in the order of evaluation, without those whose trainings would
    go on if no others had been born. No birth among the first knew one of these: it would have known one that is left
    out as well."""
    whole, search = run.population, run.config.search
    evaluated: list[int] = whole.evaluated[whole.evaluated < good].tolist()
    if not search.racing or not evaluated:
        return evaluated
    racing = Racing(make_strategy(run.config, run.sessions[0].facts), search.racing_confidence)
    population = Population(whole.space, whole.replicates, whole.rungs)
    for id in range(good):
        population.add(whole.individual(id))
    for id in evaluated:
        known, accuracies = len(population.evaluated), whole.accuracies(id)
        founder = whole.column("birth")[id] == Birth.FOUNDER
        if founder or len(accuracies) == whole.replicates or racing.hopeless(population, known, accuracies):
            population.settle(whole.result(id))
    return population.evaluated.tolist()
