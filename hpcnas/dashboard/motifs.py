"""Which operations and motifs win: what is in the networks of the best individuals, against what is in all of them.

    genotypes ─► edges on a path, motifs in use ─► how often each network holds each operation ─► shares, in time
                                                ─► which motifs individuals have in common

Everything is over columns, uint8 (individuals, edges): a network is never expanded for it. Edges on no path compute
nothing and are left out (P2); so are the 1×1 convolutions after motifs, which every network has. The best are the BEST
share of those evaluated by then, and BEST_LEAST at the least. Of more than MOST individuals every so manieth is looked
at, in the order of evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnas.analysis.runs import motif_name
from hpcnas.architecture.genotype import operation_names
from hpcnas.architecture.space import Space
from hpcnas.dashboard.followed import FollowedSearch
from hpcnas.dashboard.selection import Query
from hpcnas.job.terminal import one_line
from hpcnas.search.run_file import StoredRun

MOST = 40_000  # individuals that are looked at
MOST_EDGES = 4_000_000  # of all of these, for large spaces
BINS = 40
BEST = 0.05
BEST_LEAST = 10
COMMON = 12  # motifs that are told
MOST_MOTIFS = 64  # of a level that have a row


def motifs(run: FollowedSearch, query: Query) -> dict[str, Any]:
    """Shares of operations among the best and among all, at BINS steps; and motifs, with what they hold and how many
    individuals have them."""
    return run.lately("motifs", lambda: _motifs(run.stored))


def _motifs(stored: StoredRun) -> dict[str, Any]:
    population, space = stored.population, stored.config.space
    evaluated = population.evaluated
    steps = 1 + np.flatnonzero(np.isfinite(population.column("fitness")[evaluated]))
    every = max(1, math.ceil(len(steps) / max(1, min(MOST, MOST_EDGES // space.edges))))
    steps = steps[every - 1 :: every]  # so that the last one counts as soon as it can
    ids = evaluated[steps - 1]
    fitness = population.column("fitness")[ids]
    names = [one_line(name) for name in operation_names(space, 2)]
    used = [code - 1 for code in space.primitive_codes]
    found: dict[str, Any] = {
        "operations": [names[number] for number in used],
        "evaluated": len(evaluated),
        "looked_at": len(ids),
        "every": every,
        "best_share": BEST,
    }
    if not len(ids):
        return found | {"steps": [], "all": [], "best": [], "motifs": [], "common": [], "best_of": 0}
    cells = Networks.of(space, population.column("genotype")[ids])
    ends = np.unique(np.linspace(0, len(ids), min(BINS, len(ids)) + 1).astype(int)[1:])
    best = [_best(fitness[:end]) for end in ends.tolist()]
    counts = cells.operations[:, used].astype(np.float64)
    sums = np.cumsum(counts, axis=0)
    last = np.zeros(len(ids), dtype=bool)
    last[best[-1]] = True
    return found | {
        "steps": steps[ends - 1],
        "all": np.round(_shares(sums[ends - 1]).T, 5),
        "best": np.round(_shares(np.array([counts[chosen].sum(axis=0) for chosen in best])).T, 5),
        "best_of": len(best[-1]),
        "motifs": _numbered(cells, last, names, used),
        "common": _common(cells, last),
    }


def _best(fitness: np.ndarray) -> np.ndarray:
    """Places of the best of these, float64 (n,)."""
    count = min(len(fitness), max(BEST_LEAST, math.ceil(BEST * len(fitness))))
    return np.argpartition(-fitness, count - 1)[:count]


def _shares(counts: np.ndarray) -> np.ndarray:
    """Of the sum of each row, (rows, operations); 0 where that is 0."""
    whole = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, whole, out=np.zeros_like(counts), where=whole > 0)


# ── networks, as far as they can be told from their genotypes ───────────────────────────────────────────────────────
@dataclass(frozen=True)
class Networks:
    """What the networks of N genotypes of one space hold."""

    space: Space
    live: dict[int, np.ndarray]  # level → codes of edges on a path, else 0: uint8 (N, motifs, edges)
    uses: dict[int, np.ndarray]  # level → how often the network holds each motif: int64 (N, motifs)

    @classmethod
    def of(cls, space: Space, genotypes: np.ndarray) -> Networks:
        """`genotypes`: uint8 (N, edges) in array form. As `expansion.live_edges` and `analysis.motifs` have it."""
        live: dict[int, np.ndarray] = {}
        position, is_there = 0, None  # of each operation of the level below, bool (N, operations); None: all are
        for level, shape in enumerate(space.levels, start=2):
            width = shape.motifs * shape.edges
            codes = genotypes[:, position : position + width].reshape(len(genotypes), shape.motifs, shape.edges)
            position += width
            if is_there is not None:
                below = np.concatenate([np.zeros((len(codes), 1), dtype=bool), is_there], axis=1)
                there = np.take_along_axis(below, codes.reshape(len(codes), -1).astype(np.intp), axis=1)
                codes = np.where(there.reshape(codes.shape), codes, 0)
            live[level] = np.where(_on_paths(codes != 0, shape.nodes), codes, 0).astype(np.uint8)
            is_there = live[level].any(axis=2)
        return cls(space, live, _uses(space, live))

    @property
    def operations(self) -> np.ndarray:
        """How often each network holds each operation of level 2, by its code from 1: int64 (N, operations)."""
        codes = range(1, len(operation_names(self.space, 2)) + 1)
        return np.stack([self.of_motifs(code).sum(axis=1) for code in codes], axis=1)

    def of_motifs(self, code: int) -> np.ndarray:
        """How often each network holds an operation within each motif of level 2: int64 (N, motifs)."""
        return (self.live[2] == code).sum(axis=2) * self.uses[2]


def _on_paths(there: np.ndarray, nodes: int) -> np.ndarray:
    """Which edges lie on a path from node 0 to the last one: bool (N, motifs, edges), in the order of successors, to
    the same shape."""
    pairs = [(j, i) for i in range(1, nodes) for j in range(i)]
    forward, backward = (np.zeros((*there.shape[:2], nodes), dtype=bool) for _ in range(2))
    forward[:, :, 0] = backward[:, :, -1] = True
    for edge, (j, i) in enumerate(pairs):
        forward[:, :, i] |= there[:, :, edge] & forward[:, :, j]
    for edge, (j, i) in reversed(list(enumerate(pairs))):
        backward[:, :, j] |= there[:, :, edge] & backward[:, :, i]
    first, second = (list(ends) for ends in zip(*pairs, strict=True))
    return there & forward[:, :, first] & backward[:, :, second]


def _uses(space: Space, live: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """By level, the cell first: it is used once where it has a path."""
    uses = {space.top: np.asarray(live[space.top].any(axis=2), dtype=np.int64)}
    for level in range(space.top, 2, -1):
        below = space.level(level - 1).motifs
        uses[level - 1] = np.stack(
            [((live[level] == motif) * uses[level][:, :, None]).sum(axis=(1, 2)) for motif in range(1, below + 1)],
            axis=1,
        )
    return uses


# ── motifs ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _numbered(cells: Networks, best: np.ndarray, names: list[str], used: list[int]) -> list[dict[str, Any]]:
    """The motifs of level 2 by their numbers: what they hold among the best, and how often a network uses them."""
    uses = cells.uses[2]
    sums = {number: cells.of_motifs(number + 1) for number in used}
    found = []
    for motif in range(min(MOST_MOTIFS, uses.shape[1])):
        inside = np.array([[sums[number][best, motif].sum(), sums[number][:, motif].sum()] for number in used], float)
        shares = _shares(inside.T)
        found.append(
            {
                "name": motif_name(cells.space, 2, motif),
                "operations": {names[number]: round(float(shares[0, place]), 5) for place, number in enumerate(used)},
                "operations_of_all": {
                    names[number]: round(float(shares[1, place]), 5) for place, number in enumerate(used)
                },
                "uses_best": float(uses[best, motif].mean()),
                "uses_all": float(uses[:, motif].mean()),
            }
        )
    return found


def _common(cells: Networks, best: np.ndarray) -> list[dict[str, Any]]:
    """The motifs that most of the best have in use, whatever their numbers: what they compute, and the shares of the
    best and of all that have them. Alike are those that have the same edges between the same nodes."""
    live, uses, top = cells.live[2], cells.uses[2], cells.space.top
    count, width = live.shape[0] * live.shape[1], live.shape[2]
    factors = np.random.default_rng(2).integers(0, 1 << 63, width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    word = live.reshape(count, width).astype(np.uint64) @ factors  # equal where the edges are
    row = np.repeat(np.arange(live.shape[0]), live.shape[1])
    rows = np.flatnonzero((uses > 0).ravel())
    words, place = np.unique(word[rows], return_inverse=True)
    holds = np.unique(place * live.shape[0] + row[rows])  # each individual once a motif
    motif, individual = holds // live.shape[0], holds % live.shape[0]
    of_all = np.bincount(motif, minlength=len(words))
    of_best = np.bincount(motif[best[individual]], minlength=len(words))
    example = np.zeros(len(words), dtype=np.int64)
    example[place] = rows
    chosen = np.lexsort((-of_all, -of_best))[:COMMON]
    return [
        {
            "edges": _told(cells.space, live.reshape(count, width)[example[number]]),
            "level": "cell" if top == 2 else "motif",
            "best": int(of_best[number]) / int(best.sum()),
            "all": int(of_all[number]) / live.shape[0],
        }
        for number in chosen.tolist()
        if of_best[number]
    ]


def _told(space: Space, codes: np.ndarray) -> str:
    """The edges of a motif of level 2, as a genotype's text has them."""
    names = operation_names(space, 2)
    pairs = [(j, i) for i in range(1, space.level(2).nodes) for j in range(i)]
    edges = [f"{j + 1}-{i + 1} {names[code - 1]}" for (j, i), code in zip(pairs, codes.tolist(), strict=True) if code]
    return one_line(", ".join(edges))
