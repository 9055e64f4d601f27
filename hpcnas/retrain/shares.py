"""Which images of a step each rank computes, and how many at a time; images of a step are numbered from 0. No torch.

    batch statistics of micro-batches, 2 ranks:   micro-batches 0, 2, … │ 1, 3, …     one at a time
    of the whole step, 3 ranks:                   the first third │ the second │ the third     each at once
"""

from __future__ import annotations

from hpcnas.config.retraining import RetrainingConfig


def most_ranks(recipe: RetrainingConfig) -> int:
    """How many ranks get work."""
    training = recipe.training
    return training.batch_size if training.batch_statistics == "step" else recipe.micro_batches


def pieces(recipe: RetrainingConfig, rank: int, ranks: int) -> list[range]:
    """The images of a step that are in the network of that rank together, one piece after another."""
    if recipe.training.batch_statistics == "step":
        images = recipe.training.batch_size
        return [range(images * rank // ranks, images * (rank + 1) // ranks)]
    return [micro_batch(recipe, number) for number in range(rank, recipe.micro_batches, ranks)]


def micro_batch(recipe: RetrainingConfig, number: int) -> range:
    """The images of a micro-batch, from 0; the last one may be smaller where statistics are of the whole step."""
    training = recipe.training
    first = number * training.micro_batch
    return range(first, min(first + training.micro_batch, training.batch_size))


def micro_batches_of(recipe: RetrainingConfig, piece: range) -> range:
    """The numbers of the micro-batches that some of these images belong to."""
    size = recipe.training.micro_batch
    return range(piece.start // size, -(-piece.stop // size))
