"""Bounds of what a person may ask for that no machine has the memory or the time for, for a search and a retraining.

They are far from what anybody trains: who comes near them has mistyped a number. Standard library alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpcnas.config.settings import ConfigError

CHANNELS, CELLS, GROUPS = 2**20, 10_000, 20  # of the first cell; of one group; of one network
IMAGES = 2**24  # of a step
OPERATIONS = 1_000_000  # of an expanded cell
PARAMETERS = 2**36
MUTATIONS = 1_000_000
INDIVIDUALS = 10_000_000  # that compete
RUNS = 10_000  # of one retraining
THREADS = 4096  # of one process


def check_size(channels: int, groups: Sequence[int]) -> None:
    """Raises ConfigError for a network, of so many cells in each group, whose parts around the cells alone no memory
    would hold: a separable convolution after each, whose channels double from group to group."""
    parameters = sum(cells * (channels << number) ** 2 for number, cells in enumerate(groups))
    if parameters > PARAMETERS:
        raise ConfigError(
            f"network.channels: expected a network that a memory holds, of at most {PARAMETERS:,} parameters, got one "
            f"of {parameters:,} without its cells: {channels} channels, which double in each of {len(groups)} groups"
        )
