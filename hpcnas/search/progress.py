"""What a person sees of a running search: a live line or plain log lines, and the final table.

It hears of what happens (`controller.Observer`) and decides nothing.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable, Sequence

import numpy as np

from hpcnas.config.measures import ACCURACY, FitnessMeasure
from hpcnas.config.search import SearchSettings
from hpcnas.evolution.budget import evaluations_left
from hpcnas.evolution.duplicates import MOST_COUNTED, repeats
from hpcnas.evolution.early_stopping import stopped_at
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.objectives import Cost
from hpcnas.evolution.pareto import Point, fronts
from hpcnas.evolution.population import Population
from hpcnas.job.log import LiveLine, duration
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Failure, Result, Stopped, mean
from hpcnas.search import methods
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.methods import Worker

_LIVE_INTERVAL, _PLAIN_INTERVAL = 0.2, 30.0  # seconds between two lines
_logger = logging.getLogger("hpcnas")


class Progress:
    """The observer of a search: counts what this session did and tells about it."""

    def __init__(self, search: SearchSettings, line: LiveLine, measure: FitnessMeasure = ACCURACY) -> None:
        self._search = search
        self._best = f"best {measure.name}" if measure.remark else "best"
        self._line = line
        self._began = time.monotonic()
        self._before = 0  # individuals that earlier sessions evaluated, or stopped early
        self._next = 0.0

    def began(self, session: Session) -> None:
        """The first worker is ready."""
        facts = session.facts
        _logger.info(
            "data: %d training and %d validation images, %d×%d, %d channels, %d classes; software: %s",
            facts.training_images, facts.validation_images, facts.height, facts.width, facts.image_channels,
            facts.classes, ", ".join(f"{name} {version}" for name, version in session.software.items()),
        )  # fmt: skip
        self._began = time.monotonic()

    def resumed(self, population: Population) -> None:
        """The run goes on from what earlier sessions left."""
        self._before = population.searched + population.stopped
        stopped = f" {population.stopped} stopped early," if population.stopped else ""
        _logger.info(
            "continuing: %d evaluated,%s %d failed, %d in flight to be issued again",
            population.searched, stopped, len(population.failures), population.in_flight,
        )  # fmt: skip

    def warned(self, text: str) -> None:
        """Something went wrong that the run can live with."""
        _logger.warning("%s", text)

    def settled(self, result: Result, store: MemoryStore) -> None:
        """An individual was evaluated or failed: failures and new bests are worth a line."""
        if isinstance(result.outcome, Failure):
            _logger.warning("%s", result)
        elif isinstance(result.outcome, Stopped):  # as most may be
            pass
        elif store.population.confirmations:  # which of them is the best is known at the end
            pass
        elif result.individual == store.population.best:
            accuracies = store.population.averaged_accuracies(result.individual)
            if len(accuracies) == len(result.outcome.accuracies):
                _logger.info("new best: %s", result)
            else:  # it was measured before
                _logger.info(
                    "new best: individual %d: fitness %.4f, the mean of %d trainings of its network, the last on %s",
                    result.individual, mean(accuracies), len(accuracies), result.place,
                )  # fmt: skip

    def leaving(self, reason: str) -> None:
        """The search leaves before it is complete: said at once, since saving may take a while."""
        _logger.info("%s", reason)

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        """The loop has turned once more: shows where the search stands, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_LIVE_INTERVAL if self._line.live else _PLAIN_INTERVAL)
        if self._line.live:
            self._line.show(self._state(store.population, busy, workers))
        elif store.sessions:
            _logger.info("%s", self._state(store.population, busy, workers))

    def _state(self, population: Population, busy: int, workers: int) -> str:
        done = population.searched + population.stopped
        parts = [f"{population.searched}/{self._search.budget} evaluated"]
        if population.stopped:
            parts.append(f"{population.stopped} stopped early")
        if self._search.trainings is not None:
            parts.append(f"{population.trainings:.0f}/{self._search.trainings} trainings")
        if population.confirmations or population.confirming:
            parts.append(f"{population.confirmations} new trainings of the best")
        if population.best is not None:
            parts.append(f"{self._best} {population.column('fitness')[population.best]:.4f}")
        rate = (done - self._before) / max(1e-9, time.monotonic() - self._began)
        if done > self._before:
            parts.append(f"{rate * 60:.1f}/min")
            parts.append(f"ETA {duration(evaluations_left(self._search, population) / rate)}")
        parts.append(f"{busy}/{workers} workers busy")
        if population.failures:
            parts.append(f"{len(population.failures)} failed")
        return " · ".join(parts)


def _trainings(population: Population) -> str:
    """How many there were, and what racing and early stopping have saved of the whole fitnesses."""
    whole = (population.searched + population.stopped) * population.replicates
    done = int(population.column("replicates_trained")[population.evaluated].sum(dtype=np.int64))
    spared = whole - (done - population.confirmations + population.ended_trainings)
    saved = f", {spared:.0f} less than whole fitnesses would take ({spared / whole:.0%})" if spared > 0 else ""
    return f"{population.trainings:.0f}{saved}"


def stopped_early(population: Population) -> str:
    """How many were stopped at which rungs, and what that has saved, in words."""
    counts = zip(population.rungs, stopped_at(population), strict=True)
    return f"{population.stopped}: {told_stops(counts, population.saved_trainings)}"


def told_stops(counts: Iterable[tuple[float, int]], saved: float) -> str:
    """In words how many individuals were stopped at each rung, a share of the steps, and how many trainings that has
    saved."""
    where = ", ".join(f"{count} at {100 * share:.6g} %" for share, count in counts if count)
    return f"{where} of the steps, which saved {saved:,.0f} trainings"


def confirmed(population: Population) -> list[str]:
    """What the new trainings have said, in words; nothing where there were none."""
    if not population.confirmations:
        return []
    count = f"{len(population.confirmed)} networks were trained again, {population.confirmations} times in all"
    best, fitness = population.best, population.column("fitness")
    individual = None if best is None else population.individual(best)
    if individual is None or individual.birth is not Birth.CONFIRMATION or individual.parent is None:
        return [f"{count}, which decides nothing yet"]
    origin = individual.parent
    luck = float(fitness[origin] - fitness[best])
    flattered = f"flattered by {luck:.4f}" if luck > 0 else f"too modest by {-luck:.4f}"
    return [
        f"individual {origin} of the search, with new seeds: {fitness[origin]:.4f} had been measured, {flattered}",
        count,
    ]


def expected(population: Population) -> list[str]:
    """What the strategy expects of the best individual, and of the best as measured where that is another one, in
    words; nothing where it expects nothing, and once new trainings have decided."""
    best, measured, fitness = population.best, population.measured_best, population.column("fitness")
    found = population.expected()
    if best is None or measured is None or best not in found:
        return []
    said = f"new trainings of individual {best} to give {found[best]:.4f}"
    if measured == best:
        return [f"{said}, the most of all"]
    less = f", of which it expects {found[measured]:.4f}" if measured in found else ""
    return [f"{said}, more than those of individual {measured}, the best as measured ({fitness[measured]:.4f}){less}"]


def front_table(population: Population, name: str, cost: Cost) -> str:
    """The individuals that are fitter than all that cost as much or less, the cheapest first, as aligned lines."""
    fitness = population.column("fitness")
    points = [Point(id, float(fitness[id]), cost(population, id)) for id in population.evaluated.tolist()]
    front = fronts(points)[0]
    rows = [("individual", "fitness", name)]
    rows += [(str(one.id), f"{one.fitness:.4f}", f"{one.cost:,.6g}{_spread(population, one.id)}") for one in front]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}" for line in lines)


def _spread(population: Population, id: int) -> str:
    """That of a measured cost, where it has one."""
    measured = population.objective(id)
    return "" if measured is None or measured[1] is None else f" ± {measured[1]:.2g}"


def known_networks(known: int, repeats: int | None, averaged: int) -> str:
    """How often births have met a network that was there, and what came of it."""
    again = f"{repeats} evaluated again"
    if repeats is None:
        again = f"too many individuals to count (over {MOST_COUNTED:,})"
    return f"{known} drawn again, {again}" + (f", {averaged} of them averaged in" if averaged else "")


def told_wait(share: float) -> str:
    """In words which share of the time was spent waiting for images that stay on the host."""
    return f"{100 * share:.1f} % of training and validation, for images that did not fit onto the device"


def final_table(population: Population, workers: Sequence[Worker] = (), measure: FitnessMeasure = ACCURACY) -> str:
    """What the search found, and how these workers have trained, as aligned lines; `measure` is what the fitness is."""
    rows = [("evaluated", str(population.searched))]
    if population.stopped:
        rows.append(("stopped early", str(population.stopped)))
    if population.failures:
        rows.append(("failed", str(len(population.failures))))
    rows.append(("trainings", _trainings(population)))
    rows.append(("refused genotypes", f"{population.redrawn} drawn again (invalid, or over a constraint)"))
    rows.append(("known networks", known_networks(population.known, repeats(population), population.averaged)))
    spent = float(np.nansum(population.column("worker_seconds")))
    spent += sum(
        attempt.finished - attempt.started
        for attempt in population.failed_attempts
        if attempt.attempt < population.column("attempts")[attempt.individual]  # the last one stands in the columns
    )
    rows.append(("worker time", duration(spent)))
    if waited := population.input_wait:
        rows.append(("waiting", told_wait(waited)))
    rows += [("trained by", line) for line in methods.summary(workers)]
    if population.best is not None:
        best = population.best
        outcome = population.result(best).outcome
        assert isinstance(outcome, Evaluation)
        accuracies = population.averaged_accuracies(best)
        spread, count = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0, len(accuracies)
        lineage = list(population.lineage(best))
        steps = sum(individual.birth is Birth.MUTATION for individual in lineage)
        fitness = population.column("fitness")
        first = float(fitness[population.evaluated[0]])
        judged = f"{measure.remark}; " if measure.remark else ""
        rows += [
            ("best individual", str(best)),
            ("  fitness", f"{fitness[best]:.4f} ± {spread:.4f} ({judged}mean ± std over {count} trainings)"),
            *(("  expected", line) for line in expected(population)),
            *(("  confirmed", line) for line in confirmed(population)),
            ("  parameters", f"{outcome.parameters:,}"),
            ("  lineage", f"{len(lineage)} individuals, {steps} mutations from individual {lineage[-1].id}"),
            ("first evaluated", f"{first:.4f}"),
            ("median of all", f"{float(statistics.median(fitness[population.evaluated].tolist())):.4f}"),
        ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)
