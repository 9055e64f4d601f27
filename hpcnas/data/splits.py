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


def split(images: Images, fraction: float, seed: int) -> tuple[Images, Images, str]:
    """(training, validation) images, copies; and the digest of the choice where groups decide it, else nothing.

    Without groups they are in the order of a permutation that the seed fixes: 0.2 of CIFAR-10's 50,000 leave 40,000 for
    training, 10,000 for validation (§4.1). 0 < fraction < 1. Raises DataError if either part would be empty, and where
    groups leave a class without an image to train on.
    """
    count, generator = len(images.labels), np.random.default_rng(np.random.SeedSequence(seed))
    if images.groups is not None:
        inside = in_validation(images.labels, images.groups, fraction, generator)
        require_both(images.labels, images.groups, inside, fraction)
        training, validation = np.flatnonzero(~inside), np.flatnonzero(inside)
        return images.taken(training), images.taken(validation), digest(training, validation)
    held_out = round(count * fraction)
    if not 0 < held_out < count:
        raise DataError(f"expected a validation fraction that splits {count} images in two, got {fraction}")
    order = generator.permutation(count)
    return images.taken(order[held_out:]), images.taken(order[:held_out]), ""


def in_validation(
    labels: NDArray[np.int64], groups: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images are validated on: bool (N,), the same for all of a group, near `fraction` of every class.

    Groups are looked at in a random order, larger ones first. One is validated on where that brings the classes nearer
    to their shares: where Σ ((v_c − f n_c) / n_c)² becomes smaller, of the classes' n_c images and the v_c chosen ones.
    A group with all images of a class is trained on. Labels and groups are int64 (N,), numbers from 0.
    """
    sizes = np.bincount(labels)
    pairs, counts = np.unique(np.stack([groups, labels]), axis=1, return_counts=True)
    numbers, starts = np.unique(pairs[0], return_index=True)
    within = np.add.reduceat(counts, starts)
    order = generator.permutation(len(numbers))
    order = order[np.argsort(-within[order], kind="stable")]
    ends = [*starts[1:].tolist(), len(counts)]
    of_class, of_images, of_group = pairs[1].tolist(), counts.tolist(), starts.tolist()
    whole, still = sizes.tolist(), [fraction * size for size in sizes.tolist()]  # f n_c − v_c
    chosen = np.zeros(int(numbers.max()) + 1, dtype=np.bool_)
    for place in order.tolist():
        change, alone = 0.0, False
        for pair in range(of_group[place], ends[place]):
            of, images = of_class[pair], of_images[pair]
            change += images * (images - 2 * still[of]) / whole[of] ** 2
            alone |= images == whole[of]
        if change < 0 and not alone:
            chosen[numbers[place]] = True
            for pair in range(of_group[place], ends[place]):
                still[of_class[pair]] -= of_images[pair]
    return chosen[groups]


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
