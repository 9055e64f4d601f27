"""The synthetic fitness: a landscape over expanded cells, the same everywhere and for ever, with hills to be lost on.

    fitness = 0.82 + 0.05 · depth + 0.03 · balance + 0.04 · fit

    depth     1 − exp(−d/4), d the most convolutions on a path from source to sink: more is better, ever less so
    balance   exp(−8(s − 0.5)² − 8(i − 0.2)²), s and i the shares of separable convolutions and of identities
    fit       mean over the nodes of h(operations into it, operations out of it), a number from −1 to 1 that is drawn
              once and for all for every two multisets of operations: what suits what

Depth and balance make one smooth hill. `fit` makes it rugged as in Kauffman's NK landscapes: an edge matters to both of
its nodes, so that most single mutations of a good cell do harm, also on the way to a better one, and there are many
local optima. Renumbering the nodes of a cell changes nothing. Random cells of the paper's space have about 0.85 to
0.90, not unlike its Figure 3; it has nothing else to do with any data set. Noise and durations are `synthetic`'s.
"""

from __future__ import annotations

import functools
import hashlib
import math

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph

_CONVOLUTIONS = frozenset({primitives.CONVOLUTION, primitives.SEPARABLE, primitives.DEPTHWISE})


def true_fitness(graph: CellGraph) -> float:
    """The fitness without noise, between 0.78 and 0.94."""
    return 0.82 + 0.05 * depth(graph) + 0.03 * balance(graph) + 0.04 * fit(graph)


def depth(graph: CellGraph) -> float:
    """From 0 to 1: convolutions one after another."""
    reached = [0] * graph.nodes
    for edge in graph.edges:  # by target: what leads to the source of an edge came before
        reached[edge.target] = max(reached[edge.target], reached[edge.source] + (edge.operation in _CONVOLUTIONS))
    return 1.0 - math.exp(-reached[-1] / 4.0)


def balance(graph: CellGraph) -> float:
    """From 0 to 1: half separable convolutions and a fifth identities would be best."""
    operations = [edge.operation for edge in graph.edges]
    separable = operations.count(primitives.SEPARABLE) / len(operations)
    identity = operations.count(primitives.IDENTITY) / len(operations)
    return math.exp(-8.0 * (separable - 0.5) ** 2 - 8.0 * (identity - 0.2) ** 2)


def fit(graph: CellGraph) -> float:
    """From −1 to 1: how well what enters the nodes suits what leaves them."""
    into: list[list[bytes]] = [[] for _ in range(graph.nodes)]
    out: list[list[bytes]] = [[] for _ in range(graph.nodes)]
    for edge in graph.edges:
        word = _word(edge.operation)
        into[edge.target].append(word)
        out[edge.source].append(word)
    suited = (
        _drawn(b"".join(sorted(before)), b"".join(sorted(after))) for before, after in zip(into, out, strict=True)
    )
    return math.fsum(suited) / graph.nodes


def _word(operation: int) -> bytes:
    """What stands for an operation: its code, or a plugin's name, whose code is one process's."""
    if operation <= len(primitives.NAMES):
        return bytes([operation])
    return primitives.name(operation).encode() + b","


@functools.lru_cache(maxsize=4096)
def _drawn(into: bytes, out: bytes) -> float:
    """h: the first four bytes of BLAKE2b of `into`, 0 and `out`, big-endian, as a number from −1 to 1."""
    digest = hashlib.blake2b(into + b"\0" + out, digest_size=4).digest()
    return int.from_bytes(digest, "big") / (2**32 - 1) * 2.0 - 1.0
