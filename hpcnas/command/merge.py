"""Joins the populations of several runs into a new run that a search can start from.

Only what was evaluated is taken, run after run in the order of evaluation; what was stopped early stays behind. In the
new run it has no parents (birth FOUNDER). The runs must agree in all that a fitness depends on, and in their rungs.
Search settings are those of the first run, with another seed. Go on with a larger budget: python -m hpcnas --run NEW
--budget N. NEW is there as a whole or, whatever is killed, not at all.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from hpcnas.analysis import merging
from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the new run; returns the exit code."""
    parser = common.parser(__doc__)
    parser.add_argument("--into", type=Path, required=True, metavar="NEW", help="folder of the new run: new, or empty")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of the new run (default: the highest plus 1)")
    options = parser.parse_args(arguments)
    new = merging.merge(options.runs, options.into, options.seed)
    population = new.population
    best = population.best
    assert best is not None, "each of the runs has evaluated something"
    fitness = population.column("fitness")[best]
    if options.json:
        common.print_json({"run": str(options.into), "individuals": len(population), "taken": list(new.taken),
                           "stopped": list(new.stopped), "best": best, "fitness": fitness})  # fmt: skip
    else:
        for folder, count, stopped in zip(options.runs, new.taken, new.stopped, strict=True):
            print(f"{folder}: {count} individuals" + (f"; {stopped} stopped early stay behind" if stopped else ""))
        print(f"{options.into}: {len(population)} individuals, the best is {best} of fitness {fitness:.4f}")
        run = shlex.quote(str(options.into))
        print(f"go on with: python -m hpcnas --run {run} --budget N, N more than {len(population)}")
    return 0
