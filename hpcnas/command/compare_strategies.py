"""How far ways to search come with as many trainings: whole searches, simulated, in the synthetic landscape.

Each policy is a name and options of a search. Every one searches with the same seeds, by the virtual clock of `hpcnas
simulate`, until it has spent the trainings (not evaluations: a fitness of the paper is four of them). What counts is
the fitness without noise of the individual that the search would return at that point: the fittest as measured, of
`guided` the one that it expects most of.

The table says what the median over the seeds is after shares of the trainings, and how many trainings it takes until
it is, and stays, as high as that of the first policy in the end. Intervals are of 95 % confidence for the median, from
the order of the seeds alone (a binomial count): nothing is assumed of how they are distributed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcnas.analysis import policies
from hpcnas.analysis.policies import Policy, SimulatedSearch
from hpcnas.analysis.runs import AnalysisError
from hpcnas.command import common
from hpcnas.storage.output import write_output

SHARES = (0.1, 0.2, 0.4, 0.6, 1.0)  # of the trainings, at which the table looks


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = common.parser(__doc__, runs="")
    known = f"some of {', '.join(policies.POLICIES)}, or NAME='OPTIONS OF A SEARCH' (default: all)"
    parser.add_argument("--policies", nargs="+", default=list(policies.POLICIES), metavar="NAME", help=known)
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="searches of each policy (20)")
    parser.add_argument("--trainings", type=int, default=28_000, metavar="N",
                        help="trainings of each search (28000: the paper's 7,000 evaluations of 4)")  # fmt: skip
    parser.add_argument("--shorter", type=float, default=1.0, metavar="F",
                        help="end all policies but the first after this share of them (1)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=200, metavar="W", help="workers of each search (200)")
    parser.add_argument("--output", type=common.picture_path, metavar="FILE", help="write the picture to this file")
    parser.add_argument("--results", type=Path, metavar="FILE",
                        help="keep the curves in this file of JSON, and take what it holds as it is")  # fmt: skip
    given = parser.parse_args(arguments)
    if min(given.seeds, given.trainings, given.workers) < 1 or not 1 / policies.POINTS <= given.shorter <= 1:
        raise AnalysisError("expected at least one of seeds, trainings and workers, and of them a share up to 1")
    if given.output:  # before searches of hours; the table needs no matplotlib
        from hpcnas.analysis.figures import comparisons, style
    points = [policies.POINTS, *[round(given.shorter * policies.POINTS)] * (len(given.policies) - 1)]
    found = [_policy(name, given, its) for name, its in zip(given.policies, points, strict=True)]
    if given.output:
        style.save(comparisons.policies_picture(found, given.trainings), given.output)
    if given.json:
        common.print_json(policies.numbers(found, given.trainings))
    else:
        print(table(found, given.trainings))
        if given.output:
            print(f"written: {given.output}")
    return 0


def _policy(text: str, given: Any, points: int) -> Policy:
    """The policy of that name or NAME=OPTIONS, searched for or as the file of results has it."""
    name, how = policies.named(text)
    trainings = given.trainings * points // policies.POINTS
    key = f"{name} | {how} | {trainings} trainings, {given.workers} workers"
    kept = _kept(given.results) if given.results else {}
    searches = kept.setdefault(key, [])
    for seed in range(len(searches), given.seeds):
        began = time.perf_counter()
        searches.append(policies.simulate(policies.settings(how, seed, trainings), given.workers, points))
        print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        if given.results:
            _keep(given.results, kept)
    return Policy.of(name, how, searches[: given.seeds])


def _keep(path: Path, searches: dict[str, list[SimulatedSearch]]) -> None:
    """Writes the file of results anew."""
    plain = {key: [asdict(one) for one in several] for key, several in searches.items()}
    try:
        write_output(path, json.dumps(plain))
    except OSError as error:
        raise AnalysisError(f"expected to write {path}: {error.strerror}") from error


def _kept(path: Path) -> dict[str, list[SimulatedSearch]]:
    """What the file of results holds; nothing where there is none yet."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: [SimulatedSearch(**one) for one in several] for key, several in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AnalysisError(f"{path}: expected results that --results has kept, but: {error}") from error


def table(found: Sequence[Policy], trainings: int) -> str:
    """For a person."""
    told = policies.numbers(found, trainings)
    places = [round(share * policies.POINTS) - 1 for share in SHARES]
    header = ("policy", "evaluations", "trainings each", *(f"at {trainings * share:,.0f}" for share in SHARES),
              f"to {told['goal']:.4f}", "share of all", "95 %")  # fmt: skip
    rows = []
    for one in told["policies"]:
        needed, ends = one["trainings_to_goal"], one["trainings_to_goal_interval"]
        shares = ["never" if end is None else f"{end / trainings:.2f}" for end in ends]
        rows.append(
            (one["policy"], f"{one['evaluations']:,.0f}", f"{one['trainings_each']:.2f}",
             *(f"{one['median'][place]:.4f}" if place < len(one["median"]) else "" for place in places),
             "-" if needed is None else f"{needed:,.0f}", "-" if needed is None else f"{needed / trainings:.2f}",
             f"{shares[0]} to {shares[1]}")
        )  # fmt: skip
    text = f"true fitness of what the search returns: median of {len(found[0].fitness)} seeds"
    return f"{common.table(header, rows)}\n{text}"
