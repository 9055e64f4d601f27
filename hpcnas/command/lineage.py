"""The family tree of an individual: which mutation brought which gain.

INDIVIDUAL is a RUN (its best) or RUN:ID. Listed are its ancestors, the first one first, each with the mutation that
made it of its parent. A gain is the difference of two measured fitnesses, and ± its standard error where a fitness is
the mean of several trainings. Selection prefers lucky measurements: gains within two standard errors may be luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from hpcnas.analysis import lineage, runs
from hpcnas.command import common


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    parser.add_argument("individual", metavar="INDIVIDUAL", help="RUN, RUN:best or RUN:ID")
    parser.add_argument("--output", type=common.picture_path, metavar="FILE", help="write the picture to this file")
    options = parser.parse_args(arguments)
    folder, run, id = runs.individual(options.individual)
    family = lineage.ancestry(run.population, id)
    if options.output:
        from hpcnas.analysis.figures import lineage as figures  # the table needs no matplotlib
        from hpcnas.analysis.figures import style

        style.save(figures.lineage_picture(run.population, family, run.config.measure), options.output)
    if options.json:
        common.print_json({"run": str(folder), "individual": id, "lineage": [asdict(one) for one in family]})
        return 0
    header = ("id", "step", "fitness", "gain", "±", "parameters", "children", "mutation")
    rows = [
        (one.id, one.step or "-", lineage.as_text(one.fitness, ".4f"), lineage.as_text(one.gain, "+.4f"),
         lineage.as_text(one.gain_error, ".4f"), lineage.as_text(one.parameters, ","), one.children,
         lineage.in_words(one))
        for one in family
    ]  # fmt: skip
    print(common.table(header, rows))
    print(lineage.summary(family))
    if options.output:
        print(f"written: {options.output}")
    return 0
