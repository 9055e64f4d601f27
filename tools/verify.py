#!/usr/bin/env python3
"""Checks a run: its files, ids, parents, results, budget and, by replay, every genotype.

Every value is looked at; those that cannot be are named, one a line, and the journal is not read then. Exit code 0:
sound, perhaps with notes. 1: not sound, with a line a fault. 2: there is nothing to check. With --repair NEW, what is
provably good of a damaged run is written to the new folder NEW, from which the search can go on; the original stays.
The decisions of a plugin's strategy are only replayed where HPCNAS_PLUGINS names the plugin.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import toolkit

from hpcnas.analysis import verification
from hpcnas.evolution import registry
from hpcnas.search import whole_run
from hpcnas.search.recovery import salvage
from hpcnas.search.run_file import StoredRun, StoreError


def main() -> int:
    """The exit code."""
    parser = toolkit.parser(__doc__, runs="1")
    parser.add_argument("--repair", type=Path, metavar="NEW", help="folder for what is provably good: new, or empty")
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
    replayed = registry.is_known(run.config.search.strategy)
    if options.repair is not None and not replayed:
        toolkit.fail(f"expected the plugin of strategy {run.config.search.strategy!r} to say what is good: name it")
    if options.json:
        found = {"sound": not problems, "problems": problems, "notes": notes, "replayed": replayed}
        toolkit.print_json({"run": str(options.run), **found, **counts})
    else:
        for problem in problems:
            print(problem)
        for note in notes:
            print(f"note: {note}")
        listing = ", ".join(f"{number} {name}" for name, number in counts.items())
        limits = "" if replayed else ", its decisions not replayed"
        print(f"{options.run}: {'NOT SOUND' if problems else 'sound'} ({listing}{limits})")
    if options.repair is not None:
        return _repair(run, options.repair, quiet=options.json)
    return 1 if problems else 0


def _repair(run: StoredRun, target: Path, quiet: bool) -> int:
    """Writes what is good of the run to a new folder, and says so; `quiet` where standard output is for JSON."""
    part = verification.sound_part(run)
    if part.sessions:  # for `merge.py`, which takes nobody twice
        first = part.sessions[0]
        software = {**first.software, "repaired": " ".join(whole_run.contained(run))}
        part = replace(part, sessions=[replace(first, software=software), *part.sessions[1:]])
    try:
        whole_run.write(target, part)
    except StoreError as error:
        toolkit.fail(str(error))
    lost = len(run.population) - len(part.population)
    print(f"{target}: {len(part.population)} individuals written, {lost} left out", file=sys.stderr if quiet else None)
    return 0


if __name__ == "__main__":
    sys.exit(toolkit.run(main))
