"""Where a retraining is kept: its folder, held by the one job of it, and written to in whole files.

RUN/retrain.h5            everything for others to read (`record_file`), renewed at each save
RUN/checkpoint.pt         the state of the training under way, everything that its next steps depend on
RUN/weights-SEED.pt       the state_dict of a complete training
RUN/predictions-SEED.h5   what it says of each test image
RUN/genotype.toml         the genotype, to be read by people
RUN/status                state, steps saved, time: written first, at each save, and last, by rename, for job scripts
RUN/log, RUN/lock         what was said; held by the one job of the retraining

Before each write the store looks whether the folder is still where it was, and this job's: what was moved is written to
where it is now; another job's is left alone. What is written when is `record_keeper`'s business. No torch until there
is a checkpoint to handle.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from pathlib import Path
from typing import IO, Any

from hpcnas.job.status import write_status
from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.predictions import Predictions
from hpcnas.retrain.record import Record
from hpcnas.storage import hdf5, lock, sealed
from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.storage.held import HeldFolder
from hpcnas.storage.lock import LockLost

CHECKPOINT, GENOTYPE, STATUS = "checkpoint.pt", "genotype.toml", "status"
FILES = (record_file.NAME, CHECKPOINT, GENOTYPE, STATUS, "log", lock.NAME, lock.HEARTBEAT)
"""What a retraining keeps in its folder, beside weights and predictions."""

_LOOK = 1.0  # seconds between looks at where the folder is
_logger = logging.getLogger("hpcnas")


def _is_own(name: str) -> bool:
    return name in FILES or re.fullmatch(r"weights-\d+\.pt|predictions-\d+\.h5", name) is not None


class RetrainingStore:
    """The folder of a retraining. `lost` says what has become of it, once it is no longer as this job took it."""

    def __init__(self, held: HeldFolder, run: str | None) -> None:
        """`run`: the name of the retraining in the folder; None where there is none yet. Removes what kills have left.
        Raises StoreError or OSError."""
        self.path = held.place.path
        self.lost: str | None = None
        self._held, self._run = held, run
        self._status = held.place.read(STATUS)  # what it said before this job
        self._looked = time.monotonic()
        self._seen: object = None  # which file the record was when its name was last read in it
        held.place.tidy(_is_own, useless=lambda name: False)

    @property
    def remarks(self) -> list[str]:
        """What a person should know about the folder, a line each."""
        return self._held.remarks

    @property
    def place(self) -> RunFolder:
        """The folder itself."""
        return self._held.place

    @property
    def saved_in(self) -> Path:
        """Where the folder is by now."""
        return self._held.place.where() or self.path

    def open_log(self) -> IO[str]:
        """RUN/log, to be appended to. Raises StoreError."""
        return self._held.place.open_log()

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, record: Record) -> None:
        """Writes genotype.toml and retrain.h5: from now on this is the folder of that record. Raises OSError or
        StoreError."""
        self._run = record.run
        self.look()
        self._held.place.put(GENOTYPE, record.genotype.text().encode())
        record_file.write(self.path, record, self._held.place.descriptor)

    def write_record(self, record: Record) -> None:
        """Renews retrain.h5. Raises StoreError."""
        self.look()
        record_file.write(self.path, record, self._held.place.descriptor)

    def write_tensors(self, name: str, content: dict[str, Any]) -> None:
        """Gives a checkpoint or weights new content. Raises OSError, RuntimeError (torch's own) or StoreError."""
        from hpcnas.training import checkpoints

        checkpoints.save(self.look() / name, content)

    def write_predictions(self, record: Record, seed: int, found: Predictions) -> None:
        """Writes those of a training that is about to be complete. Raises OSError or StoreError."""
        predictions.write(self.look(), record, seed, found)

    def remove_checkpoint(self) -> None:
        """Removes that of a training that is complete; one that stays is known by its seed."""
        self._held.place.remove(CHECKPOINT)

    def drop_checkpoint(self) -> None:
        """Removes that of a training that begins anew, for certain. Raises OSError or StoreError."""
        (self.look() / CHECKPOINT).unlink(missing_ok=True)

    def write_status(self, exit_code: int, **facts: object) -> None:
        """Says where the retraining stands, as the exit code would; where that cannot be written, reports it."""
        try:
            self.look()
        except StoreError as error:
            _logger.error("%s", error)
            return
        write_status(self.path / STATUS, self._held.place.put, exit_code, **facts)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def read_checkpoint(self) -> tuple[dict[str, Any], str | None]:
        """The saved state, and a remark on it, if there is one to be made. Raises FileNotFoundError where there is no
        checkpoint, and any exception for a damaged one."""
        from hpcnas.training import checkpoints

        path = self.path / CHECKPOINT
        try:
            return checkpoints.load(path), None
        except checkpoints.Unsealed as error:
            return checkpoints.load_unsealed_too(path), f"{path}: {error}"

    def set_checkpoint_aside(self) -> str:
        """Keeps a checkpoint that cannot be used under another name, which is returned. Raises OSError."""
        return sealed.set_aside(self.path / CHECKPOINT).name

    # ── whose the folder is ─────────────────────────────────────────────────────────────────────────────────────────
    def look_now_and_then(self) -> None:
        """Looks whether the folder is still this job's, if that was long ago; `lost` says so where it is not."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            with contextlib.suppress(StoreError):  # what else is wrong, the next write says
                self.look()

    def look(self) -> Path:
        """Where the folder is, to be written to. Sets `lost` where it is no longer as this job took it. Raises
        StoreError where it is gone, where another job may be at work in it, and where that cannot be seen just now."""
        place, path = self._held.place, self.path
        try:
            if (problem := place.problem()) is not None:
                self.lost = problem
                if (now := place.where()) is None:
                    raise StoreError(problem)
                path = now
            try:
                self._held.lock.check()
            except LockLost as lost:
                self.lost = str(lost)
                if lost.replaced:
                    raise
            self._check_record()
        except OSError as error:
            raise StoreError(f"expected to look at {path}: {error.strerror}") from None
        return path

    def _check_record(self) -> None:
        """Raises StoreError where the record in the folder is another retraining's; it is read where it is another file
        than at the last look."""
        found = self._held.place.status(record_file.NAME)
        seen = None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
        there = None if seen == self._seen else hdf5.run_in(self._held.place.read(record_file.NAME) or b"")
        if there is not None and self._run is not None and there != self._run:
            self.lost = f"{self.path / record_file.NAME} is that of another retraining by now"
            raise StoreError(self.lost)
        self._seen = seen

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def close(self) -> None:
        """Lets go of the folder."""
        self._held.close()

    def leave_unchanged(self) -> None:
        """Gives RUN/status back what it said before this job, and removes a folder that this job has made."""
        place = self._held.place
        if place.read(STATUS) != self._status:
            if self._status is None:
                place.remove(STATUS)
            else:
                place.put(STATUS, self._status)
        if place.new:
            place.remove(lock.NAME)
            with contextlib.suppress(OSError):  # its log is in it, or files of others
                self.path.rmdir()
