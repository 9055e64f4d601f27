"""Which training images a fitness is measured on: §4.1's random choice, or one that keeps groups together.

Images of one group (a patient, a scene) are like each other: a network that has learnt some of them knows the others.
So all of them are on one side, and of every class as near to its share as groups allow. Knows no files.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from hpcnas.config.data_spec import DataError
from hpcnas.data.datasets import Images

_ORDERS = 32  # that are tried
_MOST_LOOKS = 1_000_000  # at groups and their classes, in all orders: about a second


def split(images: Images, fraction: float, seed: int) -> tuple[Images, Images, str]:
    """Copies of the images at the `places`, and the name of the choice. Raises DataError as that does."""
    training, validation, name = places(images, fraction, seed)
    return images.taken(training), images.taken(validation), name


def places(images: Images, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Where the (training, validation) images are, int64; and the digest of the choice where groups decide it, else
    nothing.

    Without groups they are in the order of a permutation that the seed fixes: 0.2 of CIFAR-10's 50,000 leave 40,000 for
    training, 10,000 for validation (§4.1). 0 < fraction < 1. Raises DataError if either part would be empty, and where
    groups leave a class without an image to train on.
    """
    count, generator = len(images.labels), np.random.default_rng(np.random.SeedSequence(seed))
    if images.groups is not None:
        inside = in_validation(images.labels, images.groups, fraction, generator)
        require_both(images.labels, images.groups, inside, fraction)
        training, validation = np.flatnonzero(~inside), np.flatnonzero(inside)
        return training, validation, digest(training, validation)
    held_out = round(count * fraction)
    if not 0 < held_out < count:
        raise DataError(f"expected a validation fraction that splits {count} images in two, got {fraction}")
    order = generator.permutation(count)
    return order[held_out:], order[:held_out], ""


def in_validation(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images are validated on: bool (N,), the same for all of a group, near `fraction` of every class.

    Groups are looked at in a random order, larger ones first. One is validated on where that brings both the classes
    and the whole nearer to their shares: where Σ ((v_c − f n_c) / n_c)² and (v − f n)² become smaller, of the classes'
    n_c images and the v_c chosen ones, and of all n and v. A group with all images of a class is trained on. Of some
    orders, the one with the smallest sum counts. Where each image is a group, every class gives its share, rounded.
    Labels and groups are int64 (N,), numbers from 0.
    """
    pairs, counts = np.unique(np.stack([groups, labels]), axis=1, return_counts=True)
    numbers, starts = np.unique(pairs[0], return_index=True)
    if len(numbers) == len(labels):
        return _of_every_class(labels, generator.permutation(len(labels)), fraction)
    held = [list(zip(*each, strict=True)) for each in zip(
        np.split(pairs[1], starts[1:]), np.split(counts, starts[1:]), strict=True
    )]  # by group: (class, images) of each of its classes  # fmt: skip
    within, sizes = np.add.reduceat(counts, starts), np.bincount(labels)
    best: tuple[float, NDArray[np.bool_]] | None = None
    for _ in range(max(1, min(_ORDERS, _MOST_LOOKS // len(counts)))):
        order = generator.permutation(len(numbers))
        order = order[np.argsort(-within[order], kind="stable")]
        found = _chosen(held, order.tolist(), sizes, fraction)
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    chosen = np.zeros(int(numbers.max()) + 1, dtype=np.bool_)
    chosen[numbers] = best[1]
    return chosen[groups]


def _chosen(
    held: list[list[tuple[int, int]]], order: list[int], sizes: NDArray[np.int64], fraction: float
) -> tuple[float, NDArray[np.bool_]]:
    """How far the classes are from their shares, and which groups are validated on, bool (groups,), in one order."""
    whole, still = sizes.tolist(), [fraction * size for size in sizes.tolist()]  # n_c and f n_c − v_c
    left, chosen = fraction * int(sizes.sum()), np.zeros(len(held), dtype=np.bool_)  # f n − v
    for group in order:
        images = sum(count for _, count in held[group])
        change = sum(count * (count - 2 * still[of]) / whole[of] ** 2 for of, count in held[group])
        if change < 0 and images < 2 * left and all(count < whole[of] for of, count in held[group]):
            chosen[group] = True
            left -= images
            for of, count in held[group]:
                still[of] -= count
    return sum((apart / of) ** 2 for apart, of in zip(still, whole, strict=True) if of), chosen


def _of_every_class(labels: NDArray[np.int64], order: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """The share of each class, rounded, that comes first in the order; of a class of one image none."""
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its class
    shares = np.minimum(np.rint(fraction * sizes), sizes - 1)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[by_class] = place < np.repeat(shares, sizes)
    return chosen


def require_both(
    labels: NDArray[np.int64], groups: NDArray[np.int64], inside: NDArray[np.bool_], fraction: float
) -> None:
    """Raises DataError where one part is empty, or a class has no image to train on."""
    if inside.all() or not inside.any():
        raise DataError(
            f"expected groups that a validation fraction of {fraction:g} splits in two, got {len(np.unique(groups)):,} "
            f"groups of {len(labels):,} images; give validation images of their own"
        )
    if lacking := np.setdiff1d(labels, labels[~inside]).tolist():
        raise DataError(
            f"expected images of class {lacking[0]} to train on, but the groups that hold them are validated on; give "
            "validation images of their own"
        )


def digest(*parts: NDArray[np.int64]) -> str:
    """16 hex digits of which images are in which part, in their order."""
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part.astype("<i8").tobytes())
    return found.hexdigest()
