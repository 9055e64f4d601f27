"""Genotypes: the motifs of every level as adjacency matrices (§2, eq. 3), immutable and validated.

    level 3 (the cell)        level 2 (motif M1)         level 1 (primitives)
    1 ──M5──► 2 ──M1──► 4     1 ──max──► 2 ──dw──► 3     1x1 dw sep max avg id

Three forms: the object, a compact array (one byte an edge, for messages and HDF5) and a text that a person can read and
edit. Nothing here knows networks, mutation or fitness.

Order of the array: level 2 to L; within a level motif 1 to M_ℓ; within a motif successor i = 2..n, predecessor
j = 1..i−1. Code 0 is `none`, code k the k-th operation of the level below.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hpcnas.architecture import primitives
from hpcnas.architecture.space import Space, SpaceError
from hpcnas.errors import Error
from hpcnas.text_file import shown

TEXT_FORMAT = "hpcnas genotype 1"


class GenotypeError(Error, ValueError):
    """Input that describes no genotype of its space: the message says what was expected and what came."""


@functools.cache
def operation_names(space: Space, level: int) -> tuple[str, ...]:
    """Names of the operations of `level`, code 1 first: primitives, or motifs M1, M2, …

    Edges of level 2 choose from some of them alone where the space chooses primitives (`operation_codes`).
    Raises SpaceError for a level that the space does not have.
    """
    space.level(level)
    if level == 2:
        return (*primitives.NAMES, *space.added)
    return tuple(f"M{number}" for number in range(1, space.level(level - 1).motifs + 1))


@functools.cache
def operation_codes(space: Space, level: int) -> bytes:
    """Codes of the operations that edges of `level` choose from, ascending; 0, which is `none`, comes first.

    Raises SpaceError for a level that the space does not have.
    """
    if level == 2:
        return bytes([primitives.NONE, *space.primitive_codes])
    return bytes(range(len(operation_names(space, level)) + 1))


@functools.cache
def _offsets(space: Space) -> tuple[int, ...]:
    """Where each level's first motif begins in the array form."""
    starts, position = [], 0
    for level in space.levels:
        starts.append(position)
        position += level.motifs * level.edges
    return tuple(starts)


@functools.cache
def highest_codes(space: Space) -> bytes:
    """The highest code that each entry of the array form may have, one byte an entry."""
    return b"".join(
        operation_codes(space, number)[-1:] * (level.motifs * level.edges)
        for number, level in enumerate(space.levels, start=2)
    )


def unchosen(space: Space, codes: bytes) -> int | None:
    """The first entry of an array form that is a primitive which the space leaves out; None without any."""
    if not space.leaves_out:
        return None
    level, allowed = space.level(2), operation_codes(space, 2)
    return next((place for place, code in enumerate(codes[: level.motifs * level.edges]) if code not in allowed), None)


def edge_index(space: Space, level: int, motif: int, successor: int, predecessor: int) -> int:
    """Position in the array form of [G_motif^(level)]_(successor, predecessor); nodes and motifs count from 0.

    Raises GenotypeError for a level, motif or node that the space does not have, and for a backward edge.
    """
    try:
        shape = space.level(level)
    except SpaceError as error:
        raise GenotypeError(str(error)) from None
    if not 0 <= motif < shape.motifs:
        raise GenotypeError(f"level {level}: expected motif M1 to M{shape.motifs}, got M{motif + 1}")
    if not (0 <= predecessor < shape.nodes and 0 <= successor < shape.nodes):
        raise GenotypeError(
            f"level {level}: expected nodes 1 to {shape.nodes}, got the edge {predecessor + 1}-{successor + 1}"
        )
    if predecessor >= successor:
        raise GenotypeError(
            f"level {level}, M{motif + 1}: expected an edge from a lower to a higher node, got the backward edge "
            f"{predecessor + 1}-{successor + 1}"
        )
    return _offsets(space)[level - 2] + motif * shape.edges + successor * (successor - 1) // 2 + predecessor


def _as_array(values: object) -> np.ndarray:
    """The values as an array; rows of different lengths give an array of objects, which no check below lets pass."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.asarray(values, dtype=object)


def _check_space(space: object) -> None:
    if not isinstance(space, Space):
        raise TypeError(f"expected a Space, such as Space.parse('hierarchical'), got {type(space).__name__}")


@dataclass(frozen=True, slots=True)
class Genotype:
    """One architecture. `codes` is the array form as bytes; equality and hash are those of (space, codes).

    Raises GenotypeError on a wrong length or an operation that the level below does not have, and TypeError for a space
    that is none.
    """

    space: Space
    codes: bytes

    def __post_init__(self) -> None:
        _check_space(self.space)
        if not isinstance(self.codes, bytes):
            raise GenotypeError(f"expected the codes as bytes, got {type(self.codes).__name__}")
        if len(self.codes) != self.space.edges:
            raise GenotypeError(
                f"space {self.space}: expected {self.space.edges} edges in the array form, got {len(self.codes)}"
            )
        highest = highest_codes(self.space)
        if not all(map(operator.le, self.codes, highest)):
            position = next(i for i, code in enumerate(self.codes) if code > highest[i])
            raise GenotypeError(
                f"edge {position} of the array form: expected an operation 0 to {highest[position]}, "
                f"got {self.codes[position]}"
            )
        if (place := unchosen(self.space, self.codes)) is not None:
            raise GenotypeError(
                f"edge {place} of the array form: expected none or an operation of the space {self.space}, got "
                f"{self.codes[place]} ({primitives.NAMES[self.codes[place] - 1]})"
            )

    # ── array form ──────────────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def from_array(cls, space: Space, array: np.ndarray) -> Genotype:
        """From an array of integers, shape (space.edges,), any integer dtype; raises GenotypeError on another shape,
        dtype or range."""
        _check_space(space)
        array = _as_array(array)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise GenotypeError(
                f"expected a flat integer array of {space.edges} edges, got shape {array.shape} of {array.dtype}"
            )
        if array.size and not (0 <= array.min() and array.max() <= 255):
            raise GenotypeError(f"expected operations 0 to 255, got {array.min()} to {array.max()}")
        return cls(space, array.astype(np.uint8).tobytes())

    def array(self) -> np.ndarray:
        """The array form: uint8, shape (space.edges,)."""
        return np.frombuffer(self.codes, dtype=np.uint8).copy()

    # ── adjacency matrices ──────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def from_adjacency(cls, space: Space, matrices: Sequence[Sequence[Sequence[Sequence[int]]]]) -> Genotype:
        """From matrices[ℓ−2][m][i][j] = operation from node j to node i (0 = none), as in eq. 4; integers.

        Raises GenotypeError on wrong shapes, backward edges and unknown operations.
        """
        _check_space(space)
        if len(matrices) != len(space.levels):
            raise GenotypeError(
                f"expected motifs of {len(space.levels)} levels (2 to {space.top}), got {len(matrices)}"
            )
        codes = bytearray(space.edges)
        for level, motifs in enumerate(matrices, start=2):
            shape = space.level(level)
            if len(motifs) != shape.motifs:
                raise GenotypeError(f"level {level}: expected {shape.motifs} motifs, got {len(motifs)}")
            for motif, matrix in enumerate(motifs):
                square = _as_array(matrix)
                if square.shape != (shape.nodes, shape.nodes) or square.dtype.kind not in "iu":
                    raise GenotypeError(
                        f"level {level}, M{motif + 1}: expected a {shape.nodes}×{shape.nodes} integer matrix, "
                        f"got shape {square.shape} of {square.dtype}"
                    )
                for successor, predecessor in np.argwhere(square != primitives.NONE):
                    index = edge_index(space, level, motif, int(successor), int(predecessor))
                    operation, most = int(square[successor, predecessor]), len(operation_names(space, level))
                    if not 0 <= operation <= most:
                        raise GenotypeError(
                            f"level {level}, M{motif + 1}, edge {predecessor + 1}-{successor + 1}: "
                            f"expected an operation 0 to {most}, got {operation}"
                        )
                    codes[index] = operation
        return cls(space, bytes(codes))

    def adjacency(self, level: int, motif: int) -> np.ndarray:
        """G_motif^(level): uint8, shape (nodes, nodes), entry [i, j] the operation from node j to node i.

        Raises SpaceError or GenotypeError for a level or motif that the space does not have.
        """
        nodes = self.space.level(level).nodes
        matrix = np.zeros((nodes, nodes), dtype=np.uint8)
        for predecessor, successor, operation in self.edges(level, motif):
            matrix[successor, predecessor] = operation
        return matrix

    def edges(self, level: int, motif: int) -> Iterator[tuple[int, int, int]]:
        """The motif's edges that are not `none`, as (predecessor, successor, operation), by successor."""
        position = edge_index(self.space, level, motif, 1, 0)
        for successor in range(1, self.space.level(level).nodes):
            for predecessor in range(successor):
                if self.codes[position] != primitives.NONE:
                    yield predecessor, successor, self.codes[position]
                position += 1

    # ── text form ───────────────────────────────────────────────────────────────────────────────────────────────────
    def text(self) -> str:
        """The text form, TOML; `Genotype.from_text` reads it back."""
        lines = [f'format = "{TEXT_FORMAT}"', f'space = "{self.space.sizes}"']
        for level in range(self.space.top, 1, -1):
            names = operation_names(self.space, level)
            lines += ["", f"[level-{level}]"]
            for motif in range(self.space.level(level).motifs):
                edges = (f'"{j + 1}-{i + 1} {names[code - 1]}"' for j, i, code in self.edges(level, motif))
                lines.append(f"M{motif + 1} = [{', '.join(edges)}]")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Genotype:
        """From the text form; raises GenotypeError naming the level, motif and edge that is wrong, and TypeError for
        what is no text."""
        if not isinstance(text, str):
            raise TypeError(f"expected a genotype's text as str, got {type(text).__name__}")
        import tomllib  # only where there is a text, and every rank is here

        try:
            document = tomllib.loads(text)
        except ValueError as error:  # TOMLDecodeError is one, a number of 5,000 digits another
            raise GenotypeError(f"expected a genotype in TOML, but it cannot be read: {error}") from None
        except RecursionError:
            raise GenotypeError("expected a genotype in TOML, but it is nested too deep") from None
        if document.get("format") != TEXT_FORMAT:
            raise GenotypeError(f'expected format = "{TEXT_FORMAT}", got {shown(document.get("format"))}')
        try:
            space = Space.parse(str(document.get("space", "")))
        except SpaceError as error:
            raise GenotypeError(f"space: {error}") from None
        expected = {f"level-{level}" for level in range(2, space.top + 1)}
        found = set(document) - {"format", "space"}
        if found != expected:
            raise GenotypeError(f"expected the tables {sorted(expected)}, got {shown(sorted(found))}")
        codes = bytearray(space.edges)
        for level in range(2, space.top + 1):
            motifs = document[f"level-{level}"]
            names = [f"M{number}" for number in range(1, space.level(level).motifs + 1)]
            if not isinstance(motifs, dict) or sorted(motifs) != sorted(names):
                raise GenotypeError(f"level {level}: expected the motifs {', '.join(names)}, got {shown(motifs)}")
            for motif, name in enumerate(names):
                for index, code in _parse_edges(space, level, motif, motifs[name]):
                    codes[index] = code
        return cls(space, bytes(codes))


def _parse_edges(space: Space, level: int, motif: int, entries: object) -> Iterator[tuple[int, int]]:
    """(array position, code) of each "from-to operation" of one motif; raises GenotypeError."""
    place, every = f"level {level}, M{motif + 1}", operation_names(space, level)
    names = [every[code - 1] for code in operation_codes(space, level)[1:]]
    if not isinstance(entries, list):
        raise GenotypeError(f'{place}: expected a list of edges such as "1-2 {names[0]}", got {shown(entries)}')
    seen: set[int] = set()
    for entry in entries:
        match = re.fullmatch(r"\s*(\d{1,6})-(\d{1,6})\s+(\S+)\s*", entry) if isinstance(entry, str) else None
        if match is None:
            raise GenotypeError(f'{place}: expected an edge such as "1-2 {names[0]}", got {shown(entry)}')
        if match[3] not in names:
            raise GenotypeError(
                f"{place}, edge {match[1]}-{match[2]}: expected one of {', '.join(names)}; got {shown(match[3])}"
            )
        index = edge_index(space, level, motif, successor=int(match[2]) - 1, predecessor=int(match[1]) - 1)
        if index in seen:
            raise GenotypeError(f"{place}: expected every edge once, got {match[1]}-{match[2]} twice")
        seen.add(index)
        yield index, every.index(match[3]) + 1


def named(name: str) -> Genotype:
    """A genotype that ships with the program: `paper`, the discovered cell of Appendix A. Raises GenotypeError."""
    from importlib import resources  # seldom needed, and every rank is here

    folder = resources.files("hpcnas") / "architecture"
    known = sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))
    if name not in known:
        raise GenotypeError(f"expected a named genotype ({', '.join(known)}), got {name!r}")
    return Genotype.from_text((folder / f"{name}.toml").read_text(encoding="utf-8"))
