"""The images of a job: opened by all ranks together, and those of test and validation looked at before the training.

What is wrong with them is a mistake of a person, found before anything is trained: all ranks leave with one sentence.
Which images there are, and how they are read, is the feeds' business. Torch is imported when it is asked to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpcnas.config.data_spec import DataError
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.errors import Error, first_line
from hpcnas.job.launch import Leave, together
from hpcnas.job.status import BROKEN, WRONG_USE
from hpcnas.job.world import World
from hpcnas.training import causes

if TYPE_CHECKING:
    import torch

    from hpcnas.retrain.feed import Feed
    from hpcnas.retrain.process_group import Group


class OutOfMemory(Error):
    """A rank has not the memory that it needs from the beginning: one sentence."""


def open_feed(world: World, recipe: RetrainingConfig, device: torch.device, threads: int) -> Feed:
    """This rank's images. Raises Leave on all ranks where one of them cannot have them, or has others."""
    feed: Feed
    if recipe.data.loading == "stream":
        from hpcnas.retrain.image_stream import Stream

        listings = world.broadcast(together(world, lambda: _listings(recipe) if world.rank == 0 else None))
        loaders = max(0, threads - 1) if recipe.run.loaders is None else recipe.run.loaders
        feed = Stream(recipe, world.rank, world.size, device, loaders, *listings)
    else:
        from hpcnas.retrain.feed import Resident

        feed = together(world, lambda: _within_memory(world, lambda: Resident(recipe, world.rank, world.size, device)))
    facts = world.gather(feed.appearance.facts)
    if different := [rank for rank, found in enumerate(facts) if found != facts[0]]:
        raise Leave(f"expected the same data on all ranks, but those of ranks {different} differ", WRONG_USE)
    return feed


def _within_memory(world: World, action: Callable[[], Feed]) -> Feed:
    """What the action gives. Raises OutOfMemory where it takes more memory than there is."""
    try:
        return action()
    except Exception as error:
        if causes.is_out_of_memory(error):
            raise OutOfMemory(f"{sentence(world, error)}; --loading stream keeps no images") from None
        raise


def _listings(recipe: RetrainingConfig) -> Any:
    """The names of training and test images, looked for once however many ranks there are. Raises DataError."""
    from hpcnas.retrain import image_stream

    return image_stream.list_all(recipe)


def look(group: Group, recipe: RetrainingConfig, feed: Feed) -> None:
    """Reads all test and validation images before anything is trained; fewer where some rank is to leave, which the
    training then does as always. Raises Leave, on all ranks alike, where nothing can be tested or validated with them,
    too many cannot be read, or some do not come."""
    wrong, left = None, False
    try:
        for _ in feed.look(group.called):
            left = group.called()
            if left:
                break
    except DataError as error:
        wrong = str(error)
    early = group.count(left or feed.interrupted)  # unlike MPI, whoever waits here hears that another is to leave
    for problem, exit_code in ((wrong, WRONG_USE), (feed.problem, BROKEN)):
        if told := next(filter(None, group.gather(problem)), None):
            raise Leave(told, exit_code)
    if early:
        return
    looked_at = (("test", feed.broken_tests, feed.test_images, feed.tested_on),
                 ("validation", feed.broken, feed.validation_images, feed.validated_on))  # fmt: skip
    for kind, broken, images, all_of_them in looked_at:
        unreadable = sorted(set().union(*group.gather(broken)))
        if unreadable and len(unreadable) == images:
            raise Leave(f"expected images that can be read, but none of {all_of_them} can", WRONG_USE)
        if len(unreadable) > (most := recipe.data.most_broken(images)):
            raise Leave(
                f"expected at most {most} unreadable {kind} images, got {len(unreadable)} of "
                f"{all_of_them}, such as {unreadable[0]}; mend the data, or allow more with --max-broken",
                WRONG_USE,
            )


def sentence(world: World, error: Exception) -> str:
    """What a person is told of an exception that has ended the work of this rank."""
    where = f"rank {world.rank} on {socket.gethostname()}"
    if causes.is_out_of_memory(error):
        return f"{where} is out of memory: {first_line(error)}"
    return f"{where} broke: {type(error).__name__}: {first_line(error)}"
