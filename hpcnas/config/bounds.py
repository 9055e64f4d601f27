"""Upper bounds of settings, for a search and a retraining: more than any machine has the memory or the time for.

They lie far above what is ever trained: a number near them is a typing mistake. Standard library alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpcnas.config.settings import ConfigError

CHANNELS = 2**20  # of the first cell
CELLS = 10_000  # of one group
GROUPS = 20  # of one network
IMAGES = 2**24  # of a step
OPERATIONS = 1_000_000  # of an expanded cell
PARAMETERS = 2**36  # of a network without its cells
MUTATIONS = 1_000_000  # of an initial genotype
INDIVIDUALS = 10_000_000  # that compete
RUNS = 10_000  # of one retraining
EPOCHS = 1_000_000  # of one training
RUNGS = 100  # of one training
THREADS = 4096  # of one process


def check_size(channels: int, groups: Sequence[int]) -> None:
    """Raises ConfigError for a network that has more than `PARAMETERS` even without its cells.

    Each cell is followed by a separable convolution, whose channels are `channels` in the first group and double from
    group to group; `groups` are the numbers of cells."""
    parameters = sum(cells * (channels << number) ** 2 for number, cells in enumerate(groups))
    if parameters > PARAMETERS:
        raise ConfigError(
            f"network.channels: expected a network that a memory holds, of at most {PARAMETERS:,} parameters, got one "
            f"of {parameters:,} without its cells: {channels} channels, which double in each of {len(groups)} groups"
        )
