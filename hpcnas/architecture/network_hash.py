"""Whether two genotypes describe the same network: a hash that is equal for those and for no others.

How far "the same" goes: weights can be mapped one to one so that both compute the same function, and both begin to
train from the same distribution. What does not matter is what nodes and motifs are called, the order of a
concatenation, and dead edges and unused motifs (`expansion`). A feature map is taken as the multiset of its parts, each
as wide as the cell's input, so that

    identity                 gives the parts of its input: a node with this one input *is* its predecessor
    pooling                  pools each part; equal poolings of a part are one part, wherever they are computed
    depthwise convolution    makes one part of each part, with filters and normalisation of its own
    1×1, separable           read a multiset of parts and make one part, with weights of their own

    source ──dw──► a ──max──► (a, max) ─┐
       └───────────────────────► source ┴──1×1──► b      weighted parts are a and b; (a, max) is only a way to read a

A primitive of a plugin is read likewise, however wide the part that it makes. It must not depend on the order of its
input's channels, weights aside: with a grouped convolution or a shuffle of channels, networks that compute different
functions can have one hash. A part that occurs twice is read twice (by more weights), and two equal convolutions of one
input are two convolutions.

What is hashed is the graph of weighted parts with its nodes in a canonical order, found by colour refinement and, where
that leaves ties, by trying all that no symmetry makes equal. Neither Python's hash nor an order of a set goes into it:
the hash is the same on every machine.

Version 1 of the hash did not tell apart chains of twins that go on side by side and those that meet, so that different
networks had one hash. Decisions that were made by it are replayed with it (`analysis.replay`). Networks without such
chains have the same hash in both versions.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from hpcnas.architecture import expansion, primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.genotype import Genotype

HASH_BYTES = 16
VERSION = 2  # of the hash; an individual's is kept beside it
_MOST_PARTS = 4096  # weighted ones in a cell; larger cells are not trained, and are compared as they are written
_MOST_WAYS = 1 << 16  # of which one node's map consists, by parts and poolings; beyond that, likewise
_MOST_REFINEMENTS = 5000  # likewise; paths with many symmetric branches take some hundreds

_BITS = (1 << 64) - 1
_FIRST, _SECOND, _THIRD = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # Steele et al. 2014, splitmix64
_SOURCE, _OUTPUT, _CHOSEN = 255, 0x5A17, 0xC4053  # an operation that no primitive has; numbers of no other meaning
_TWINS = 48  # bits of an operation's number; how many twins it has stands above

Way = tuple[int, int, int]  # (weighted part, poolings on the way from it, how many times)


def network_hash(genotype: Genotype, version: int = VERSION) -> bytes:
    """16 bytes, equal where two genotypes describe the same network. Raises InvalidGenotype where there is none."""
    return _hash_of_bare(expansion.bare(genotype), version)


@functools.lru_cache(maxsize=4096)  # a third of the mutations change nothing, and parents are parents again
def _hash_of_bare(genotype: Genotype, version: int) -> bytes:
    return cell_hash(expansion.expand(genotype), version)


def cell_hash(graph: CellGraph, version: int = VERSION) -> bytes:
    """The hash of a cell's graph of primitives, 16 bytes."""
    try:
        form = canonical_form(parts(graph), version)
    except TooSymmetric:
        form = tuple(number for edge in graph.edges for number in (edge.source, edge.target, _number(edge.operation)))
    return hashlib.blake2b(",".join(map(str, form)).encode(), digest_size=HASH_BYTES, person=b"hpcnas network").digest()


class TooSymmetric(Exception):
    """More parts or more symmetry than is worth the time."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Weighted parts, 0 the cell's input, each after those that it reads.

    `maps` are multisets of parts that are read; part `p` is made by `operations[p]` from `maps[reads[p]]`, and
    the cell's output is `maps[output]`. Poolings on the way are the binary digits after the first 1: 0 max, 1 average.
    """

    operations: tuple[int, ...]
    reads: tuple[int, ...]  # of the input: −1
    maps: tuple[tuple[Way, ...], ...]
    output: int


def parts(graph: CellGraph) -> Parts:
    """A cell taken apart. Raises TooSymmetric where it has too many parts, before it takes the memory for them."""
    operations, reads = [_SOURCE], [-1]
    content: list[dict[tuple[int, int], int]] = [{} for _ in range(graph.nodes)]  # of nodes: part and poolings → times
    content[0][0, 1] = 1
    read: list[int | None] = [None] * graph.nodes  # the map that a node is
    numbers: dict[tuple[Way, ...], int] = {}

    def number_of(ways: tuple[Way, ...]) -> int:
        return numbers.setdefault(ways, len(numbers))

    def map_of(node: int) -> int:
        found = read[node]
        if found is None:
            ways = sorted([(part, pools, times) for (part, pools), times in content[node].items()])
            found = read[node] = number_of(tuple(ways))
        return found

    for edge in graph.edges:  # by target: what the source consists of came before
        before, after, operation = content[edge.source], content[edge.target], edge.operation
        if operation == primitives.IDENTITY:
            for way, times in before.items():
                after[way] = after.get(way, 0) + times
        elif operation == primitives.MAX_POOLING or operation == primitives.AVERAGE_POOLING:
            digit = operation == primitives.AVERAGE_POOLING
            for (part, pools), times in before.items():
                way = (part, 2 * pools + digit)
                after[way] = after.get(way, 0) + times
        elif operation == primitives.DEPTHWISE:
            if len(operations) + sum(before.values()) > _MOST_PARTS:
                raise TooSymmetric
            for (part, pools), times in before.items():
                alone = number_of(((part, pools, 1),))
                for _ in range(times):
                    after[len(operations), 1] = 1
                    operations.append(operation)
                    reads.append(alone)
        else:
            after[len(operations), 1] = 1
            operations.append(_number(operation))
            reads.append(map_of(edge.source))
        if len(after) > _MOST_WAYS:
            raise TooSymmetric
    output = map_of(graph.nodes - 1)
    return Parts(tuple(operations), tuple(reads), tuple(numbers), output)


def _number(operation: int) -> int:
    """What stands for an operation: its code, or a number that goes by a plugin's name, whose code is one process's."""
    if operation <= len(primitives.NAMES):
        return operation
    return int.from_bytes(hashlib.blake2b(primitives.name(operation).encode(), digest_size=_TWINS // 8).digest(), "big")


def canonical_form(graph: Parts, version: int = VERSION) -> tuple[int, ...]:
    """Numbers that are equal for isomorphic graphs of parts and for no others. Raises TooSymmetric."""
    search = _Search(graph)
    colours = search.refined(list(graph.operations))
    if len(set(colours)) == len(colours):  # then no two parts are twins
        return search.leaf(colours)
    without_twins = _without_twins(graph, meetings_told=version > 1)
    return _Search(without_twins).least(list(without_twins.operations), ())


def _without_twins(graph: Parts, meetings_told: bool) -> Parts:
    """One part for all of the same kind, operation and readers, with their number in its operation.

    Of a kind are parts that are read alike: in the same maps of several parts, and in maps of their own by parts that
    are of a kind again. Whatever reads a map of one part alone goes with it.

    Twins that go on side by side and twins that meet leave one map of one part. Where there are several copies of it,
    the map that each copy has for itself has its times negative; every other map holds all copies.
    """
    count = len(graph.operations)
    shared: list[list[Way]] = [[] for _ in range(count)]  # part → (map of several, poolings, times)
    alone: dict[int, Way] = {}
    for number, ways in enumerate(graph.maps):
        if len(ways) == 1 and number != graph.output:
            alone[number] = ways[0]
        else:
            for part, pools, times in ways:
                shared[part].append((number, pools, times))
    followers: list[list[Way]] = [[] for _ in range(count)]  # part → (kind of one that reads it alone, poolings, times)
    kinds: dict[object, int] = {}
    kind = [0] * count
    for part in range(count - 1, -1, -1):
        key = (graph.operations[part], tuple(shared[part]), tuple(sorted(followers[part])))
        kind[part] = kinds.setdefault(key, len(kinds))
        if graph.reads[part] in alone:
            origin, pools, times = alone[graph.reads[part]]
            followers[origin].append((kind[part], pools, times))
    place: dict[int, int] = {}  # part that is kept → its new number
    numbers: dict[tuple[int, int], int] = {}  # map and kind → the part that stands for these
    twins: list[int] = []
    for part in range(count):
        read = graph.reads[part]
        if read in alone and alone[read][0] not in place:
            continue  # it goes with a part that another stands for
        if (read, kind[part]) in numbers:
            twins[numbers[read, kind[part]]] += 1
            continue
        numbers[read, kind[part]] = place[part] = len(twins)
        twins.append(1)
    kept = list(place)
    maps = [tuple((place[part], pools, times) for part, pools, times in ways if part in place) for ways in graph.maps]
    if meetings_told:
        copies: dict[int, int] = {}  # of parts that are kept: its twins, and theirs that it follows
        for part, number in place.items():
            followed = alone.get(graph.reads[part])
            copies[part] = twins[number] * (1 if followed is None else copies[followed[0]])
        for number, (part, pools, times) in alone.items():
            if copies.get(part, 1) > 1:
                maps[number] = ((place[part], pools, -times),)
    return Parts(
        operations=tuple(graph.operations[part] + (twins[place[part]] << _TWINS) for part in kept),
        reads=tuple(graph.reads[part] for part in kept),
        maps=tuple(maps),
        output=graph.output,
    )


def _mixed(one: int, other: int) -> int:
    """64 bits that look random and depend on both, and on which is which."""
    x = (one * _FIRST + other * _SECOND + _THIRD) & _BITS
    x = ((x ^ (x >> 30)) * _SECOND) & _BITS
    return x ^ (x >> 29)


def _total(ways: Sequence[Way], colours: Sequence[int]) -> int:
    """A number for the multiset of the colours that these ways lead to, whatever their order."""
    return sum([times * (colours[end] if pools == 1 else _mixed(colours[end], pools)) for end, pools, times in ways])


@dataclass
class _Search:
    """The least form over all orders of the parts that refinement leaves possible, up to symmetries that were found."""

    graph: Parts
    contained: list[list[tuple[int, int, int]]] = field(init=False)  # part → (map, poolings, times) that it is in
    symmetries: list[list[int]] = field(default_factory=list)  # permutations of the parts that leave the graph as it is
    leaves: dict[tuple[int, ...], list[int]] = field(default_factory=dict)  # form → the order that gave it
    refinements: int = 0

    def __post_init__(self) -> None:
        self.contained = [[] for _ in self.graph.operations]
        for number, ways in enumerate(self.graph.maps):
            for part, pools, times in ways:
                self.contained[part].append((number, pools, times))

    def least(self, colours: list[int], fixed: tuple[int, ...]) -> tuple[int, ...]:
        """The least form of those orders that put the `fixed` parts first among their equals, one after the other."""
        colours = self.refined(colours)
        cell = _first_cell(colours)
        if not cell:
            return self.leaf(colours)
        best: tuple[int, ...] | None = None
        tried: list[int] = []
        for part in cell:
            if tried and (self.is_image(part, tried, fixed) or self.leads_to_symmetry(part, tried, colours, fixed)):
                continue
            tried.append(part)
            form = self.least(_with_chosen(colours, part), (*fixed, part))
            best = form if best is None else min(best, form)
        assert best is not None, "a cell has parts"
        return best

    def leads_to_symmetry(self, part: int, tried: Sequence[int], colours: list[int], fixed: tuple[int, ...]) -> bool:
        """Whether the first order with `part` chosen shows that it is the image of one that was tried."""
        colours = self.refined(_with_chosen(colours, part))
        while cell := _first_cell(colours):
            colours = self.refined(_with_chosen(colours, cell[0]))
        self.leaf(colours)
        return self.is_image(part, tried, fixed)

    def is_image(self, part: int, tried: Sequence[int], fixed: tuple[int, ...]) -> bool:
        """Whether symmetries that leave the fixed parts alone make it of a part that was tried."""
        useful = [image for image in self.symmetries if all(image[one] == one for one in fixed)]
        reached, new = set(tried), list(tried)
        while new:
            one = new.pop()
            for image in useful:
                if image[one] not in reached:
                    reached.add(image[one])
                    new.append(image[one])
        return part in reached

    def leaf(self, colours: list[int]) -> tuple[int, ...]:
        """The form of an order in which no two parts are equal; finds a symmetry where an earlier one gave the same."""
        order = sorted(range(len(colours)), key=colours.__getitem__)
        form = self.form(order)
        if form in self.leaves:
            image = [0] * len(order)
            for one, other in zip(self.leaves[form], order, strict=True):
                image[one] = other
            self.symmetries.append(image)
        else:
            self.leaves[form] = order
        return form

    def form(self, order: list[int]) -> tuple[int, ...]:
        """The whole graph, written down in that order."""
        graph, place = self.graph, [0] * len(order)
        for position, part in enumerate(order):
            place[part] = position
        written = [
            [number for way in sorted((place[part], pools, times) for part, pools, times in ways) for number in way]
            for ways in graph.maps
        ]
        numbers = [len(order)]
        for part in order:
            ways = written[graph.reads[part]] if graph.reads[part] >= 0 else []
            numbers += [graph.operations[part], len(ways) // 3, *ways]
        return tuple(numbers + written[graph.output])

    def refined(self, colours: list[int]) -> list[int]:
        """Colours that tell apart what the given ones do, by what parts read and what reads them, again and again."""
        found, distinct = colours, 0
        while True:
            self.refinements += 1
            if self.refinements > _MOST_REFINEMENTS:
                raise TooSymmetric
            found = self.by_readers(self.by_inputs(found))
            count = len(set(found))
            if count in (distinct, len(found)):
                return found
            distinct = count

    def by_inputs(self, colours: list[int]) -> list[int]:
        """New colours from the old ones and the new ones of what each part reads."""
        graph = self.graph
        found: list[int] = []
        maps: list[int | None] = [None] * len(graph.maps)
        for colour, read in zip(colours, graph.reads, strict=True):
            if read < 0:
                found.append(_mixed(colour, 0))
                continue
            total = maps[read]
            if total is None:
                total = maps[read] = _total(graph.maps[read], found)
            found.append(_mixed(colour, total))
        return found

    def by_readers(self, colours: list[int]) -> list[int]:
        """New colours from the old ones and the new ones of the parts that read each."""
        graph, found = self.graph, colours.copy()
        readers = [0] * len(graph.maps)
        readers[graph.output] = _OUTPUT
        for part in range(len(colours) - 1, -1, -1):
            found[part] = colour = _mixed(colours[part], _total(self.contained[part], readers))
            if part:
                readers[graph.reads[part]] += _mixed(colour, _OUTPUT)
        return found


def _first_cell(colours: list[int]) -> list[int]:
    """The smallest set of parts of equal colour, of equals that of the least colour; empty where all differ."""
    if len(set(colours)) == len(colours):
        return []
    cells: dict[int, list[int]] = {}
    for part, colour in enumerate(colours):
        cells.setdefault(colour, []).append(part)
    return min((len(cell), colour, cell) for colour, cell in cells.items() if len(cell) > 1)[2]


def _with_chosen(colours: list[int], part: int) -> list[int]:
    """The colours with one part set apart from its equals."""
    found = colours.copy()
    found[part] = _mixed(found[part], _CHOSEN)
    return found
