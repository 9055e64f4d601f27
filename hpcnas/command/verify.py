"""Checks a run: of a search its files, ids, parents, results, budget and, by replay, every genotype.

Of a retraining: steps, learning rates, curves, validations, states and sizes against what the recipe, the data and the
genotype give, the genotype against the search that it comes from where that can be read, and the checksums and contents
of checkpoint, weights and predictions.

Every value is looked at; those that cannot be are named, one a line, and the journal is not read then. Exit code 0:
sound, perhaps with notes. 1: not sound, with a line a fault. 2: there is nothing to check. With --repair NEW, what is
provably good of a damaged run is written to the new folder NEW, from which the search can go on; the original stays.
The decisions of a plugin's strategy are only replayed where HPCNAS_PLUGINS names the plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import retraining_verification, retrainings, verification
from hpcnas.command import common
from hpcnas.retrain.record import State


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="1")
    parser.add_argument("--repair", type=Path, metavar="NEW", help="folder for what is provably good: new, or empty")
    options = parser.parse_args(arguments)
    if retrainings.is_one(options.run):
        if options.repair is not None:
            parser.error("--repair: expected a search; what a retraining has saved is whole or not there")
        return _of_retraining(options.run, as_json=options.json)
    found = verification.verify(options.run)
    if options.repair is not None:
        verification.require_replayed(found)
    population = found.run.population
    counts = {
        "individuals": len(population),
        "evaluated": len(population.evaluated),
        **({"stopped early": population.stopped} if population.stopped else {}),
        "failed": len(population.failures),
        "in flight": population.in_flight,
    }
    if options.json:
        told = {"sound": found.sound, "problems": found.problems, "notes": found.notes, "replayed": found.replayed}
        common.print_json({"run": str(options.run), **told, **counts})
    else:
        _tell(found.problems, found.notes)
        listing = ", ".join(f"{number} {name}" for name, number in counts.items())
        limits = "" if found.replayed else ", its decisions not replayed"
        print(f"{options.run}: {'sound' if found.sound else 'NOT SOUND'} ({listing}{limits})")
    if options.repair is None:
        return 0 if found.sound else 1
    written = verification.repair(found, options.repair)
    lost = len(population) - written
    line = f"{options.repair}: {written} individuals written, {lost} left out"
    print(line, file=sys.stderr if options.json else None)
    return 0


def _of_retraining(folder: Path, *, as_json: bool) -> int:
    """Checks a retraining and says what was found; the exit code."""
    found = retraining_verification.verify(folder)
    trainings = [] if found.record is None else found.record.trainings
    counts = {"trainings": len(trainings)}
    counts |= {state.name.lower(): sum(one.state is state for one in trainings) for state in State}
    if as_json:
        told = {"sound": found.sound, "problems": found.problems, "notes": found.notes}
        common.print_json({"run": str(folder), **told, **counts})
    else:
        _tell(found.problems, found.notes)
        listing = ", ".join(f"{number} {name}" for name, number in counts.items())
        what = "" if found.record is None else f" ({listing})"
        print(f"{folder}: {'sound' if found.sound else 'NOT SOUND'}{what}")
    return 0 if found.sound else 1


def _tell(problems: Sequence[str], notes: Sequence[str]) -> None:
    for problem in problems:
        print(problem)
    for note in notes:
        print(f"note: {note}")
