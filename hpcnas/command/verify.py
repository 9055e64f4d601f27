"""Checks a run: its files, ids, parents, results, budget and, by replay, every genotype.

Every value is looked at; those that cannot be are named, one a line, and the journal is not read then. Exit code 0:
sound, perhaps with notes. 1: not sound, with a line a fault. 2: there is nothing to check. With --repair NEW, what is
provably good of a damaged run is written to the new folder NEW, from which the search can go on; the original stays.
The decisions of a plugin's strategy are only replayed where HPCNAS_PLUGINS names the plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import verification
from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="1")
    parser.add_argument("--repair", type=Path, metavar="NEW", help="folder for what is provably good: new, or empty")
    options = parser.parse_args(arguments)
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
        for problem in found.problems:
            print(problem)
        for note in found.notes:
            print(f"note: {note}")
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
