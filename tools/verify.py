#!/usr/bin/env python3
"""Checks a run: its files, ids, parents, results, budget and, by replay, every genotype.

Every value is looked at; those that cannot be are named, one a line, and the journal is not read then. Exit code 0:
sound, perhaps with notes. 1: not sound, with a line a fault. 2: there is nothing to check. With --repair NEW, what is
provably good of a damaged run is written to the new folder NEW, from which the search can go on; the original stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import toolkit

from hpcnas import verification
from hpcnas.runfile import StoredRun, StoreError
from hpcnas.store import FileStore, salvage


def main() -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="1")
    parser.add_argument("--repair", type=Path, metavar="NEW", help="folder for what is provably good")
    options = parser.parse_args()
    try:
        run, problems = salvage(options.run)
    except StoreError as error:
        toolkit.fail(str(error))
    problems += [str(fault) for fault in verification.faults(run)]
    if (excess := verification.overspent(run)) is not None:
        problems.append(excess)
    notes = [] if problems else list(verification.notes(run))
    counts = {
        "individuals": len(run.population),
        "evaluated": len(run.population.evaluated),
        "failed": len(run.population.failures),
        "in flight": run.population.in_flight,
    }
    if options.json:
        told = {"sound": not problems, "problems": problems, "notes": notes}
        toolkit.print_json({"run": str(options.run), **told, **counts})
    else:
        for problem in problems:
            print(problem)
        for note in notes:
            print(f"note: {note}")
        listing = ", ".join(f"{number} {name}" for name, number in counts.items())
        print(f"{options.run}: {'NOT SOUND' if problems else 'sound'} ({listing})")
    if options.repair is not None:
        return _repair(run, options.repair)
    return 1 if problems else 0


def _repair(run: StoredRun, target: Path) -> int:
    """Writes what is good of the run to a new folder."""
    part = verification.sound_part(run)
    try:
        store = FileStore.create(target, part.config)
        store.population, store.sessions = part.population, part.sessions
        store.compact()
        store.close()
    except StoreError as error:
        toolkit.fail(str(error))
    lost = len(run.population) - len(part.population)
    print(f"{target}: {len(part.population)} individuals written, {lost} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
