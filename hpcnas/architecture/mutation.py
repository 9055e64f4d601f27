"""Making genotypes: mutation (§3.1, eq. 4) and diversified initialisation (§3.2). Randomness is passed in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcnas.architecture import primitives
from hpcnas.architecture.fast_integers import Below, integers_below
from hpcnas.architecture.genotype import Genotype, edge_index, operation_codes
from hpcnas.architecture.space import Space
from hpcnas.errors import Error

INITIAL_MUTATIONS = 1000  # §3.2: "a large number of random mutations (e.g. 1000)"


def draw_mutation(space: Space, generator: np.random.Generator) -> tuple[int, int]:
    """One mutation as (position in the array form, new operation).

    In the paper's order and each uniformly: a level ℓ ≥ 2 (omitted where there is only one), a motif of it, a successor
    node, a predecessor of that node, an operation of level ℓ−1 or none. The new operation may equal the old one.
    """
    return _draw(_bounds(space), lambda bound: int(generator.integers(bound)))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What the draws of a mutation of one level depend on."""

    motifs: int
    nodes: int
    edges: int  # of one motif
    codes: bytes  # of none and the operations of the level below
    first: int  # position of the level in the array form


@functools.cache
def _bounds(space: Space) -> tuple[_Bounds, ...]:
    return tuple(
        _Bounds(shape.motifs, shape.nodes, shape.edges, operation_codes(space, level),
                edge_index(space, level, 0, 1, 0))
        for level, shape in enumerate(space.levels, start=2)
    )  # fmt: skip


def _draw(levels: tuple[_Bounds, ...], below: Below) -> tuple[int, int]:
    level = levels[below(len(levels))] if len(levels) > 1 else levels[0]
    motif = below(level.motifs)
    successor = 1 + below(level.nodes - 1)
    predecessor = below(successor)
    position = level.first + motif * level.edges + successor * (successor - 1) // 2 + predecessor
    return position, level.codes[below(len(level.codes))]


def mutate(parent: Genotype, generator: np.random.Generator) -> Genotype:
    """The parent with one entry of the array form drawn anew, eq. 4: [G_m^(ℓ)]_ij = k′. It may be invalid, or equal to
    the parent."""
    codes = bytearray(parent.codes)
    index, operation = draw_mutation(parent.space, generator)
    codes[index] = operation
    return Genotype(parent.space, bytes(codes))


def trivial(space: Space) -> Genotype:
    """Every motif a chain of identities; from level 3 on a chain of the first lower motif, itself such a chain.

    In a space that leaves identity out, its first primitive takes the place of identity."""
    own = space.primitive_codes
    plain, codes = primitives.IDENTITY if primitives.IDENTITY in own else own[0], bytearray(space.edges)
    for level in range(2, space.top + 1):
        operation = plain if level == 2 else 1
        shape = space.level(level)
        for motif in range(shape.motifs):
            for successor in range(1, shape.nodes):
                codes[edge_index(space, level, motif, successor, successor - 1)] = operation
    return Genotype(space, bytes(codes))


def diversified(space: Space, mutations: int, generator: np.random.Generator) -> Genotype:
    """The trivial genotype after so many mutations. It may be invalid: without a path from source to sink."""
    codes, levels = bytearray(trivial(space).codes), _bounds(space)
    with integers_below(generator) as below:
        for _ in range(mutations):
            index, operation = _draw(levels, below)
            codes[index] = operation
    return Genotype(space, bytes(codes))


class DrawingStopped(Exception):
    """Drawing again and again is to end, since the job does: the reason. Raised by the `allowed` of `redraw_until`."""


class NothingAllowed(Error, RuntimeError):
    """No genotype of very many draws was allowed: the constraints leave (almost) nothing of the space."""


def redraw_until(
    draw: Callable[[], Genotype], allowed: Callable[[Genotype], bool], most: int = 10_000
) -> tuple[Genotype, int]:
    """The first allowed genotype of `draw`, and how many were refused before it. Raises NothingAllowed after `most`
    draws, and whatever `draw` and `allowed` raise."""
    for refused in range(most):
        genotype = draw()
        if allowed(genotype):
            return genotype, refused
    raise NothingAllowed(
        f"expected a genotype that is valid and within the constraints, but none of {most} drawn was; "
        "allow larger networks, or check the space"
    )
