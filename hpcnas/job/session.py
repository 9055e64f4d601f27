"""One start of a program on a run: when, where, with how many ranks, which software and which data.

Both programs record one whenever they have begun: population.h5 and retrain.h5 have a table of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcnas.config.data_spec import DataFacts


@dataclass(frozen=True)
class Session:
    """One start. `started` is in seconds since 1970, UTC; `host` and `pid` are rank 0's; `software` maps names to
    versions."""

    started: float
    host: str
    pid: int
    ranks: int
    software: Mapping[str, str]
    facts: DataFacts
