"""What crosses the pipe between a worker and its trainer child, beside Task and Outcome, and their signals (D4).

    worker ─► Assignment, Task, Task … Save ─► child
    child  ─► Loaded or Unusable, Beat, Remark, DeviceMemory, Outcome … Saved ─► worker

Both are of one version and one host, so messages are pickled. Nothing here imports torch.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from hpcnas.config.search import SearchConfig
from hpcnas.job.signals import ASKING
from hpcnas.messages import Outcome
from hpcnas.training.evaluator import Loaded

STACK_SIGNAL = signal.SIGUSR2  # makes a child print where its threads are
COORDINATED = ASKING  # signals that the ranks act upon, never a child


@dataclass(frozen=True)
class Assignment:
    """The first message to a child: what every later task has in common."""

    config: SearchConfig
    threads: int
    cuda: bool
    parent: int  # process id of the worker: the child ends when it is gone
    sharing: int = 1  # workers that use this device


@dataclass(frozen=True)
class Unusable:
    """The child cannot start: the reason, in one line. `passes`: the cause may pass, so another start may succeed; else
    a person must remove it. `of_data`: the data are the cause."""

    reason: str
    passes: bool = False
    of_data: bool = False


@dataclass(frozen=True)
class Beat:
    """A sign of life."""


@dataclass(frozen=True)
class Save:
    """To the child: write a checkpoint of what runs, answer Saved, and end."""


@dataclass(frozen=True)
class Saved:
    """The child has nothing unsaved."""


@dataclass(frozen=True)
class Remark:
    """A shortcoming that the child works around and a person should know of: one line."""

    text: str


@dataclass(frozen=True)
class DeviceMemory:
    """The most bytes of a GPU's memory that the task took whose outcome follows, images included; and all that it
    has. What drivers and libraries take beside that is not in it."""

    taken: int
    total: int


FromChild = Outcome | Loaded | Unusable | Beat | Saved | Remark | DeviceMemory
