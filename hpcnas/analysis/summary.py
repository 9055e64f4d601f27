"""How a run stands, as one dictionary: settings, counts, the best individuals, failures, worker time, and the estimated
end. `command.summary` says what each means; nothing is printed here.
"""

from __future__ import annotations

import datetime
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hpcnas.analysis import job_state, rungs, worker_time
from hpcnas.config.measures import NAMES
from hpcnas.evolution.budget import confirmations_left, evaluations_left
from hpcnas.evolution.duplicates import repeats
from hpcnas.evolution.individuals import Birth
from hpcnas.evolution.population import Population
from hpcnas.evolution.registry import prediction
from hpcnas.messages import Failure
from hpcnas.search import methods
from hpcnas.search.progress import confirmed, expected
from hpcnas.search.run_file import StoredRun


def facts(folder: Path, run: StoredRun, best: int) -> dict[str, Any]:
    """Everything there is to say about a run. Fitness from 0 to 1, times in seconds."""
    population, search = run.population, run.config.search
    sessions = worker_time.accounts(run)
    done = population.searched
    ended = sessions[-1].ended if sessions else None
    pace = next((account for account in reversed(sessions) if account.evaluated + account.stopped), None)
    left = evaluations_left(search, population)
    remaining = None if left else 0.0
    if pace:
        remaining = left * (pace.ended - pace.started) / (pace.evaluated + pace.stopped)
    return {
        "run": str(folder),
        "state": job_state.of_search(folder, run, time.time())[0],
        "settings": {
            "data": run.config.data.source,
            "space": str(run.config.space),
            "strategy": search.strategy,
            "seed": search.seed,
            "duplicates": search.duplicates,
            "max_parameters": search.max_parameters,
            "max_flops": search.max_flops,
            "evaluator": run.config.evaluation.evaluator,
            "fitness": run.config.training.fitness,
            "measure": run.config.measure.words,
            "channels": run.config.network.channels,
            "replicates": run.config.training.replicates,
            "steps": run.config.training.steps,
            "batch_size": run.config.training.batch_size,
        },
        "sessions": [
            {
                "started": _iso(account.started),
                "seconds": account.ended - account.started,
                "host": session.host,
                "workers": account.workers,
                "evaluated": account.evaluated,
                "stopped": account.stopped,
                "busy_share": worker_time.busy_share([account]),
                "hpcnas": session.software.get("hpcnas"),
            }
            for session, account in zip(run.sessions, sessions, strict=True)
        ],
        "budget": search.budget,
        "evaluated": done,
        "stopped": population.stopped,
        "evaluations_left": left,
        "confirmations": population.confirmations,
        "confirmations_left": confirmations_left(search, population),
        "confirmed": confirmed(population),
        "expected": expected(population),
        "trainings": population.trainings,
        "trainings_limit": search.trainings,
        "trainings_saved": population.saved_trainings,
        "rungs": [rung.numbers() for rung in rungs.of_population(population)],
        "failed": len(population.failures),
        "in_flight": population.in_flight,
        "refused_genotypes": population.redrawn,
        "known_networks": population.known,
        "repeated_networks": repeats(population),
        "averaged_in": population.averaged,
        "predictions": prediction(run.config, run.sessions[0].facts, population) if done and run.sessions else None,
        "trained_by": methods.summary(run.workers),
        "best": _best(population, best),
        "failures": failures_by_kind(population),
        "on_gpus": worker_time.on_gpus(population),
        "worker_hours": worker_time.Attempts.of(population).seconds() / 3600,
        "busy_share": worker_time.busy_share(sessions),
        "steps_a_second": _steps_a_second(run),
        "input_wait": population.input_wait,
        "last_event": None if ended is None else _iso(ended),
        "remaining_seconds": remaining,
        "estimated_end": None if ended is None or remaining is None else _iso(ended + remaining),
    }


def _steps_a_second(run: StoredRun) -> float | None:
    """Optimiser steps that a worker makes a second while it trains, all replicates together: the median of all
    evaluations."""
    ids = run.population.evaluated
    seconds, trained = (run.population.column(name)[ids] for name in ("training_seconds", "replicates_trained"))
    if run.config.evaluation.evaluator != "training" or not len(ids) or seconds.min() <= 0:
        return None
    return run.config.training.steps / statistics.median((seconds / trained).tolist())


def _best(population: Population, number: int) -> list[dict[str, Any]]:
    """The best of those that compete, confirmed ones before all others (`Population.fittest`)."""
    fitness, order, expected = population.column("fitness"), population.evaluated.tolist(), population.expected()
    step = {id: place for place, id in enumerate(order, start=1)}
    found = []
    for id in population.fittest()[:number]:
        accuracies = population.averaged_accuracies(id)
        found.append(
            {
                "id": id,
                "step": step[id],
                "fitness": float(fitness[id]),
                "expected": expected.get(id),
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "trainings": len(accuracies),
                "parameters": int(population.column("parameters")[id]),
                "mutations": sum(one.birth is Birth.MUTATION for one in population.lineage(id)),
                "seconds": float(population.column("worker_seconds")[id]),
                "measures": _measures(population, id),
            }
        )
    return found


def _measures(population: Population, id: int) -> dict[str, float] | None:
    """Means over an individual's own trainings, of those that are known; None where none is."""
    rows = population.measures(id)
    columns = zip(NAMES, zip(*rows, strict=True), strict=False)
    known = {name: [one for one in values if one is not None] for name, values in columns}
    return {name: statistics.fmean(values) for name, values in known.items() if values} or None


def failures_by_kind(population: Population) -> list[dict[str, Any]]:
    """By kind: attempts, individuals given up for it, and the last attempt's message in one line."""
    outcomes = [attempt.outcome for attempt in population.failed_attempts]
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    attempts = Counter(failure.kind for failure in failures)
    given_up = Counter(failure.kind for failure in population.failures.values())
    last = {failure.kind: failure.summary for failure in failures}
    return [
        {"kind": kind.name.lower(), "attempts": number, "individuals": given_up[kind], "last": last[kind]}
        for kind, number in sorted(attempts.items())
    ]


def _iso(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
