"""What keeps a retraining, as `job` tells it at the same places on all ranks; and the keeper that keeps nothing.

    begin ─► appear ─► per seed: checkpoint ─► training_begins ─► made_step, save … ─► how it ends
          └──────────────────────────────── close ◄─────────────────────────────────────────┘

A training ends in one of left, broke, diverged and training_complete.

Rank 0's is `record_keeper`'s: it writes to the folder of the run and speaks. All others have a Bystander. What must be
kept and cannot be raises NotKept: then all ranks leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hpcnas.errors import Error
from hpcnas.job.log import LiveLine

if TYPE_CHECKING:
    from hpcnas.retrain.feed import Appearance
    from hpcnas.retrain.loop import DistributedTraining
    from hpcnas.retrain.scoring import Tested


class NotKept(Error):
    """What must be kept cannot be written, or what was kept cannot be read: the retraining cannot go on."""


class Keeper(Protocol):
    """What happens on a rank, as its keeper is told."""

    @property
    def logs(self) -> bool:
        """Whether what is logged reaches RUN/log."""
        ...

    @property
    def lost(self) -> str | None:
        """What has become of the folder, once it is no longer as this job took it: then the training is to leave."""
        ...

    def begin(self, line: LiveLine) -> None:
        """The job begins: log and status say so."""
        ...

    def appear(
        self, found: Appearance, ranks: int, mpi_library: str, device: str, numbers: str,
        micro_batch: int | None = None,
    ) -> None:  # fmt: skip
        """The data are known: the record is made, or compared with them; `numbers` is the type of those of feature maps
        on the device, `micro_batch` how many images batch statistics are of where memory has just decided so. Raises
        NotKept where they are other data, or nothing can be written."""
        ...

    def checkpoint(self, seed: int, training: DistributedTraining) -> dict[str, Any] | None:
        """The state from which that training goes on; None where it begins, and from a Bystander. Raises NotKept where
        the record knows of a state that cannot be read: the next save would replace it."""
        ...

    def training_begins(self, seed: int, training: DistributedTraining) -> None:
        """The training of that seed begins, or goes on."""
        ...

    def save_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        ...

    def save(self) -> None:
        """Saves the state of the training under way and the record; where that fails, says so and goes on."""
        ...

    def made_step(self) -> None:
        """A step was made."""
        ...

    def note_broken(self, names: set[str]) -> None:
        """These images could not be read."""
        ...

    def broke(self) -> None:
        """The training cannot go on."""
        ...

    def diverged(self) -> None:
        """The training has ended with a loss that is not finite."""
        ...

    def left(self, reason: str | None) -> None:
        """The training leaves before it is complete, for a reason that this rank knows or another one. Raises NotKept
        where its last step is not saved, or the folder is lost."""
        ...

    def training_complete(self, seed: int, training: DistributedTraining, tested: Tested) -> None:
        """The training is complete: its weights and its result are kept. Raises NotKept where they cannot be."""
        ...

    def close(self, exit_code: int) -> None:
        """The job ends."""
        ...


class Bystander:
    """Keeps nothing: all ranks but the first, and all of them in a dry run."""

    logs = False
    lost: str | None = None

    def begin(self, line: LiveLine) -> None:
        pass

    def appear(
        self, found: Appearance, ranks: int, mpi_library: str, device: str, numbers: str,
        micro_batch: int | None = None,
    ) -> None:  # fmt: skip
        pass

    def checkpoint(self, seed: int, training: DistributedTraining) -> dict[str, Any] | None:
        return None

    def training_begins(self, seed: int, training: DistributedTraining) -> None:
        pass

    def save_due(self) -> bool:
        return False

    def save(self) -> None:
        pass

    def made_step(self) -> None:
        pass

    def note_broken(self, names: set[str]) -> None:
        pass

    def broke(self) -> None:
        pass

    def diverged(self) -> None:
        pass

    def left(self, reason: str | None) -> None:
        pass

    def training_complete(self, seed: int, training: DistributedTraining, tested: Tested) -> None:
        pass

    def close(self, exit_code: int) -> None:
        pass
