"""The search space: how many motifs of how many nodes each level has (§2).

Levels are numbered as in the paper: level 1 holds the primitives, levels 2 to L hold motifs, and level L has exactly
one motif, the whole cell. Level 1 has the paper's six primitives or, where the space chooses, some of them, and those
of plugins that the space names. This file knows sizes and names, no genotypes; standard library alone.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from hpcnas.architecture import primitives
from hpcnas.errors import Error

MOST_LEVELS = 16
MOST_OPERATIONS = 255  # an operation's code is one byte in messages and in HDF5, and 0 means "none"


class SpaceError(Error, ValueError):
    """A description of no search space: the message says what was expected and what came."""


@dataclass(frozen=True)
class Level:
    """One level ℓ ≥ 2: M_ℓ motifs, each a graph of |G^(ℓ)| nodes."""

    motifs: int
    nodes: int

    @property
    def edges(self) -> int:
        """Possible edges of one motif: every pair of a predecessor and a later successor."""
        return self.nodes * (self.nodes - 1) // 2


@dataclass(frozen=True)
class Space:
    """Levels 2 to L, lowest first. Raises SpaceError unless the top level is a single motif and all sizes make sense.

    The text form lists motifs×nodes per level, lowest first: `6x4/1x5` is the paper's hierarchical space. After a colon
    it may choose some of the six primitives, `1x4:1x1,sep,avg,id`. Primitives of plugins come last, each after a plus:
    `hierarchical+dilated`. A choice changes no code: an operation's code is the same in every space.
    """

    levels: tuple[Level, ...]
    added: tuple[str, ...] = ()  # primitives beyond the six
    chosen: tuple[str, ...] = primitives.NAMES  # of the six, in their order

    def __post_init__(self) -> None:
        if not self.levels:
            raise SpaceError("a space needs at least one level of motifs (L ≥ 2), but none was given")
        if len(self.levels) > MOST_LEVELS:
            raise SpaceError(f"expected at most {MOST_LEVELS} levels of motifs, got {len(self.levels)} or more")
        for number, level in enumerate(self.levels, start=2):
            if not 1 <= level.motifs <= MOST_OPERATIONS:
                raise SpaceError(f"level {number}: expected 1 to {MOST_OPERATIONS} motifs, got {level.motifs}")
            if not 2 <= level.nodes <= 255:
                raise SpaceError(f"level {number}: expected 2 to 255 nodes a motif, got {level.nodes}")
        if not self.chosen or self.chosen != tuple(name for name in primitives.NAMES if name in self.chosen):
            raise SpaceError(
                f"expected after the colon some of {', '.join(primitives.NAMES)}, each once, "
                f"got {','.join(self.chosen)!r:.100}"
            )
        known = [primitive.name for primitive in primitives.ADDED]
        for name in self.added:
            if name not in known or self.added.count(name) > 1:
                raise SpaceError(
                    f"expected after each + another primitive of a plugin (loaded: {', '.join(known) or 'none'}), "
                    f"got {name!r:.100}; --plugin (for tools: HPCNAS_PLUGINS) loads what brings it"
                )
        if self.levels[-1].motifs != 1:
            raise SpaceError(
                f"the top level (level {self.top}) is the whole cell and has one motif, got {self.levels[-1].motifs}"
            )

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        """Of the sizes alone, so that it is the same in every process that a space is sent to: texts have others."""
        return hash(tuple((level.motifs, level.nodes) for level in self.levels))

    @property
    def top(self) -> int:
        """L, the number of the highest level."""
        return len(self.levels) + 1

    def level(self, number: int) -> Level:
        """Level `number` in 2..L; raises SpaceError for any other."""
        if not 2 <= number <= self.top:
            raise SpaceError(f"expected a level from 2 to {self.top}, got {number}")
        return self.levels[number - 2]

    @property
    def leaves_out(self) -> bool:
        """Whether it leaves out some of the six primitives."""
        return self.chosen != primitives.NAMES

    @property
    def primitive_codes(self) -> tuple[int, ...]:
        """Codes of the primitives that the space has, ascending: of the chosen ones, and those of plugins from 7 on."""
        first = len(primitives.NAMES) + 1
        return (*(primitives.CODES[name] for name in self.chosen), *range(first, first + len(self.added)))

    @property
    def largest_cell(self) -> int:
        """Operations of the largest cell: every edge of every level is there, each a whole motif of the level below."""
        return math.prod(level.edges for level in self.levels)

    @property
    def edges(self) -> int:
        """Entries of a genotype's array form: possible edges of all motifs of all levels."""
        return sum(level.motifs * level.edges for level in self.levels)

    def __str__(self) -> str:
        for name, space in NAMED.items():
            if space.levels == self.levels:
                return name + self._primitives
        return self.sizes

    @property
    def sizes(self) -> str:
        """The text form without a name for the sizes."""
        return "/".join(f"{level.motifs}x{level.nodes}" for level in self.levels) + self._primitives

    @property
    def _primitives(self) -> str:
        """What follows the sizes in the text form."""
        chosen = ":" + ",".join(self.chosen) if self.leaves_out else ""
        return "+".join([chosen, *self.added])

    @classmethod
    def parse(cls, text: str) -> Space:
        """A named space (`hierarchical`, `flat`) or the text form; raises SpaceError."""
        if text in NAMED:
            return NAMED[text]
        before, *added = text.split("+")
        sizes, colon, names = before.partition(":")
        chosen = _in_order(names.split(",")) if colon else primitives.NAMES
        if sizes in NAMED:
            return cls(NAMED[sizes].levels, tuple(added), chosen)
        levels = []
        for part in sizes.split("/")[: MOST_LEVELS + 1]:
            match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", part.strip())
            if match is None:
                raise SpaceError(
                    f"expected {' or '.join(NAMED)}, or MOTIFSxNODES per level from level 2 up, such as 6x4/1x5; "
                    f"got {text!r:.200}"
                )
            levels.append(Level(motifs=int(match[1]), nodes=int(match[2])))
        return cls(tuple(levels), tuple(added), chosen)


def _in_order(names: list[str]) -> tuple[str, ...]:
    """The names without spaces around them, those of primitives in their order; of what is none, as it is written."""
    bare = [name.strip() for name in names]
    return tuple(sorted(bare, key=lambda name: primitives.CODES.get(name, 0)))


HIERARCHICAL = Space((Level(motifs=6, nodes=4), Level(motifs=1, nodes=5)))  # §4.1: L = 3, M = (6, 6, 1)
FLAT = Space((Level(motifs=1, nodes=11),))  # §4.1: one graph of 11 nodes
NAMED = {"hierarchical": HIERARCHICAL, "flat": FLAT}
