"""What a step keeps in memory, so that it fits into that of every rank; decided by all ranks together.

    all feature maps fit ──no──► computed again on the way back, they fit ──no──► batch statistics of fewer images
                                 (the same bits)                                  (another result, which is recorded)

The last is decided once, when a retraining begins: whoever continues it goes on so. Statistics of a whole step in
pieces would need one more pass of each piece through a block, forwards and back, for every batch normalisation in it; a
block of the paper's cell has dozens. What a step takes is estimated (`architecture.sizes`), what is free is asked for.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hpcnas.architecture import sizes
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.job.memory import free_memory
from hpcnas.retrain import shares
from hpcnas.retrain.process_group import World

_logger = logging.getLogger("hpcnas")


@dataclass(frozen=True)
class Fit:
    """How a step is computed, the same on every rank."""

    recomputed: bool  # whether feature maps are computed again on the way back
    micro_batch: int | None = None  # images that batch statistics are of, where that is fewer than the recipe has
    scored: int | None = None  # images to test or to validate on at a time, at the most; None where memory is ample


@dataclass(frozen=True)
class RankRoom:
    """What a rank has room for."""

    rank: int
    images: int  # in the network at a time, by the recipe
    free: int  # bytes
    whole: int  # images whose feature maps fit
    again: int  # likewise where they are computed again


def room(
    rank: int, recipe: RetrainingConfig, graph: CellGraph, trained_on: Skeleton, images: int, number_bytes: int,
    free: int,
) -> RankRoom:  # fmt: skip
    """That of a rank with so many images in the network at a time and so many bytes free, before it has its weights.
    `trained_on` has the height and width of images as they are trained on."""
    copies = 4 if recipe.training.weight_averaging else 3  # weights, gradients, momentum; averages
    left = max(0, free - copies * max(4, number_bytes) * sizes.size(graph, trained_on).parameters)
    memory = sizes.step_memory(graph, trained_on)
    whole, again = (int(left / each) for each in (memory.taken(number_bytes), memory.taken_recomputed(number_bytes)))
    return RankRoom(rank, images, free, whole, again)


def choose(
    rooms: Sequence[RankRoom], recipe: RetrainingConfig, begins: bool, speaks: bool, pixels: float = 1.0
) -> Fit:
    """What fits on ranks that have such rooms. Where a retraining does not begin, its batch statistics stay as they
    are. `speaks`: this rank tells a person, once. `pixels` are those of an image as it is trained on, for one of an
    image as it is tested."""
    short = [each for each in rooms if each.images > each.whole]
    if recipe.run.recompute == "never" or (recipe.run.recompute == "auto" and not short):
        return Fit(recomputed=False)
    if short and recipe.run.recompute == "auto" and speaks:
        _logger.warning(
            "feature maps of %d images take more memory than %.1f GiB, which are free on rank %d: they are computed "
            "again on the way back, which takes more time; more ranks have fewer images each",
            short[0].images, short[0].free / 2**30, short[0].rank,
        )  # fmt: skip
    shortest = min(rooms, key=lambda each: each.again - each.images)
    if shortest.images <= shortest.again:
        return Fit(recomputed=True, scored=max(1, int(shortest.images * pixels)) if short else None)
    fewer = _fewer(recipe, min(each.again for each in rooms), shortest.images)
    may = begins and recipe.run.smaller_batches == "auto"
    if speaks:
        _say_smaller(recipe, shortest, fewer if may else None, begins)
    together = fewer if may and fewer is not None else shortest.images
    return Fit(True, fewer if may else None, max(1, int(together * pixels)))


def _fewer(recipe: RetrainingConfig, fitting: int, images: int) -> int | None:
    """The most images, fewer than those, that a step can be cut into evenly and that fit; the fewest where none do;
    None where it cannot be cut."""
    cuts = [count for count in range(2, images) if recipe.training.batch_size % count == 0]
    return max((count for count in cuts if count <= fitting), default=min(cuts, default=None))


def _say_smaller(recipe: RetrainingConfig, shortest: RankRoom, chosen: int | None, begins: bool) -> None:
    training = recipe.training
    before = f"all {training.batch_size} of a step" if training.batch_statistics == "step" else training.micro_batch
    if chosen is not None:
        short = ", and memory may run out all the same" if chosen > shortest.again else ""
        decided = (
            f"BATCH STATISTICS ARE OF {chosen} IMAGES instead of {before}, which changes the result, in all trainings "
            f"of this --run{short}; to avoid it, start more ranks, which have fewer images each, or give "
            "--smaller-batches never, in another --run"
        )
    else:
        why = "" if begins else ", as when it began"
        decided = f"batch statistics stay those of {before}{why}, and memory may run out; start more ranks"
    _logger.warning(
        "feature maps of %d images do not fit into %.1f GiB, which are free on rank %d, also where they are computed "
        "again: %s", shortest.images, shortest.free / 2**30, shortest.rank, decided,
    )  # fmt: skip


def fit(
    world: World, recipe: RetrainingConfig, graph: CellGraph, tested_on: Skeleton, number_bytes: int,
    device: torch.device, begins: bool,
) -> Fit:  # fmt: skip
    """What fits into the memory of all ranks; `tested_on` has the sizes of test images. To be asked before the first
    training, which leaves its memory to the next one and not to the system."""
    hosts = world.gather(socket.gethostname())
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = free_memory() // hosts.count(hosts[world.rank])
    images = max(map(len, shares.pieces(recipe, world.rank, world.size)))
    trained_on = recipe.trained_on(tested_on)
    mine = room(world.rank, recipe, graph, trained_on, images, number_bytes, free)
    pixels = trained_on.height * trained_on.width / (tested_on.height * tested_on.width)
    return choose(world.gather(mine), recipe, begins, world.rank == 0, pixels)
