"""Rank 0's keeper of a retraining: has its record, writes it to the folder of the run, and speaks.

What cannot be written while a training goes on is reported and tried again; what cannot be written at its end, or when
it leaves, raises NotKept. A kill at any time costs the steps since the last save: of a training, the record in memory
says what the one on the disk says. How files are written is `file_store`'s business, and what is said `progress`'s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import socket
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcnas import __version__
from hpcnas.architecture import expansion, sizes
from hpcnas.job import log
from hpcnas.job.clocks import Dated
from hpcnas.job.status import COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.retrain import record_file
from hpcnas.retrain.file_store import CHECKPOINT, RetrainingStore
from hpcnas.retrain.keeper import NotKept
from hpcnas.retrain.metrics import RetrainingMetrics, about
from hpcnas.retrain.progress import Progress, final_table
from hpcnas.retrain.record import Inputs, Plan, Record, RetrainingSession, State, Trained
from hpcnas.storage import sealed
from hpcnas.storage.folder import StoreError
from hpcnas.tracking import choice

if TYPE_CHECKING:
    from hpcnas.retrain.feed import Appearance
    from hpcnas.retrain.loop import DistributedTraining
    from hpcnas.retrain.scoring import Tested

_MOST_NAMED = 10  # broken images that are named in the log
_logger = logging.getLogger("hpcnas")


class RecordKeeper:
    """Rank 0's: keeps the record and the folder."""

    def __init__(self, plan: Plan, store: RetrainingStore) -> None:
        self.plan = plan
        self.store = store
        self.logs = False
        self._recipe = plan.recipe
        self._record = plan.record  # None until the data are known: nothing is bound to its settings before
        self._begun = False  # whether it is bound to them in this job
        self._current: _Current | None = None
        self._unsaved: str | None = None  # why the last save failed, if it did
        self._metrics = RetrainingMetrics()
        self._now = Dated()
        self._saved = time.monotonic()

    @property
    def lost(self) -> str | None:
        return self.store.lost

    # ── the job ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, line: log.LiveLine) -> None:
        try:
            log.also_to_file(self.store.open_log())
            self.logs = True
        except StoreError as error:
            _logger.warning("going on without RUN/log: %s", error)
        for remark in self.store.remarks:
            _logger.warning("%s", remark)
        self._progress = Progress(self._recipe, line)
        self.write_status(MORE_TO_DO)  # and so it stays if this job is killed

    def appear(
        self, found: Appearance, ranks: int, mpi_library: str, device: str, numbers: str,
        micro_batch: int | None = None,
    ) -> None:  # fmt: skip
        facts = found.facts
        self._recipe = self._recipe.on_images(facts.training_images)
        skeleton = self._recipe.skeleton(facts)
        inputs = Inputs(skeleton, found.class_names, found.mean, found.std, found.resize, found.type)
        if self._record is None:
            genotype = self.plan.genotype
            size = sizes.size(expansion.expand(genotype), skeleton)
            waiting = [Trained(seed) for seed in self._recipe.seeds]
            self._record = Record(
                uuid.uuid4().hex, self._recipe, genotype, self.plan.origin, inputs, size.parameters, size.flops,
                waiting, weights=None if self.plan.start is None else self.plan.start.fingerprint,
            )  # fmt: skip
        if micro_batch is not None:
            self._record.micro_batch = micro_batch
        before = self._record.sessions[-1].facts if self._record.sessions else facts
        unvalidated = dataclasses.replace(facts, validation_images=0)  # DIR/validation may have come since
        if before not in (facts, unvalidated) or self._record.inputs != inputs:
            raise NotKept(f"expected the data that the retraining began with ({before}), got other ones ({facts})")
        software = {
            "hpcnas": __version__,
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            "mpi": mpi_library,
        }
        self._record.sessions.append(
            RetrainingSession(self._now(), socket.gethostname(), os.getpid(), ranks, software, facts, device, numbers)
        )
        self._progress.began(self._record)
        self._begun = True
        try:
            if self.plan.anew:
                _logger.warning("the training begins anew, with other settings")
                self.store.drop_checkpoint()  # before the record says so: nothing may go on from it
            self.store.begin(self._record)
        except (OSError, StoreError) as error:
            raise NotKept(f"expected to write in {self.store.path}: {error}") from None
        told = about(self._record, self.store.saved_in.name)
        self._metrics.begin(choice.start(self._recipe.run, self.store.place, told), self._record)

    def close(self, exit_code: int) -> None:
        """Says how the job ends while no other job can open the folder, and lets go of it. Where the job was refused
        before it began, the folder is left as it was."""
        if exit_code == COMPLETE:
            _logger.info("the retraining is complete\n%s", final_table(self._known()))
        if exit_code == WRONG_USE and not self._begun:
            self.store.leave_unchanged()
        else:
            self.write_status(exit_code)
        self._metrics.close(complete=exit_code == COMPLETE)
        self.store.close()

    def write_status(self, exit_code: int) -> None:
        """Says where the retraining stands, as the exit code would."""
        trainings = [] if self._record is None else self._record.trainings
        training = self._recipe.training
        known = self._record is not None or training.epochs is None
        self.store.write_status(
            exit_code,
            steps_done=sum(found.step for found in trainings),
            **({"steps": training.steps * training.runs} if known else {}),
            runs_complete=sum(found.state is State.COMPLETE for found in trainings),
            runs=training.runs,
        )

    # ── a training ──────────────────────────────────────────────────────────────────────────────────────────────────
    def checkpoint(self, seed: int, training: DistributedTraining) -> dict[str, Any] | None:
        path, known = self.store.path / CHECKPOINT, self._of(seed)
        try:
            found, remark = self.store.read_checkpoint()
            if known.step == 0 and found["seed"] != seed:  # that of a training that is complete
                return None
            training.check(found)
            if remark is not None:
                _logger.warning("%s; damage that does not show would be trained on", remark)
            return found
        except FileNotFoundError:
            if known.step == 0:
                return None
            reason = "there is no such file"
        except Exception as error:  # a damaged file can raise anything
            reason = _reason(error)
        if known.step > 0:
            raise NotKept(
                f"expected {path} to hold the state of seed {seed}, saved after step {known.step}, but {reason}; "
                f"put it back, or begin that seed anew in a folder of its own (--run, with --seed {seed})"
            )
        kept = ""
        with contextlib.suppress(OSError):
            kept = f"; it is kept as {self.store.set_checkpoint_aside()}"
        _logger.warning("beginning seed %d anew without %s: %s%s", seed, path, reason, kept)
        return None

    def training_begins(self, seed: int, training: DistributedTraining) -> None:
        self._current = _Current(seed, training)
        old = self._of(seed)
        self._note(dataclasses.replace(old, state=State.TRAINING, started=old.started or self._now()))
        self._progress.training_began(self._known(), seed, training)
        self._metrics.training_began(seed, training)

    def save_due(self) -> bool:
        self.store.look_now_and_then()
        return time.monotonic() - self._saved >= self._recipe.run.checkpoint_interval

    def save(self) -> None:
        current = self._underway()
        training, before = current.training, self._unsaved
        self.note_broken(training.broken)
        self._unsaved = self._write(CHECKPOINT, training.state(), self._figures(current))
        if self._unsaved is not None and self._unsaved != before:  # once, and not at every save
            _logger.warning(
                "step %d is not saved in %s: %s; until that is mended, a job that is cut off loses the steps since "
                "step %d, the last one saved",
                training.step, self.store.path, self._unsaved, self._of(current.seed).step,
            )  # fmt: skip
        elif self._unsaved is None and before is not None:
            _logger.info("step %d is saved again in %s", training.step, self.store.path)
        self.write_status(MORE_TO_DO)
        self._saved = time.monotonic()

    def made_step(self) -> None:
        """Shows where the training stands, if it is time."""
        training = self._underway().training
        self._progress.stepped(training)
        self._metrics.stepped(training)

    def note_broken(self, names: set[str]) -> None:
        """Says which of these images were not known, for the record's next writing."""
        record = self._known()
        new = sorted(names - set(record.broken))
        record.broken += new
        if new:
            shown = ", ".join(new[:_MOST_NAMED]) + (
                f", … ({record_file.NAME} names all)" if len(new) > _MOST_NAMED else ""
            )
            _logger.warning("%d images cannot be read and were passed over: %s", len(new), shown)

    def diverged(self) -> None:
        """The record says so, and so that the next job may train it otherwise."""
        self._note(dataclasses.replace(self._of(self._underway().seed), state=State.DIVERGED, finished=self._now()))
        self.broke()

    def broke(self) -> None:
        """What could not be read is named, here and in the record."""
        self.note_broken(self._underway().training.broken)
        try:
            self.store.write_record(self._known())
        except StoreError as error:
            _logger.error("%s", error)

    def left(self, reason: str | None) -> None:
        current, path = self._underway(), self.store.path
        step = current.training.step
        self._metrics.stepped(current.training)
        if self._unsaved is not None:
            raise NotKept(
                f"expected to save step {step} in {path}, where step {self._of(current.seed).step} is "
                f"the last one saved: {self._unsaved}; mend that, and start the same command again"
            )
        if self.lost is not None:
            raise NotKept(f"{self.lost}; step {step} is saved in {self.store.saved_in}")
        self._progress.left(current.training, reason or "another rank has received a signal")

    def training_complete(self, seed: int, training: DistributedTraining, tested: Tested) -> None:
        row = dataclasses.replace(
            self._figures(self._underway()),
            state=State.COMPLETE,
            test_images=tested.images,
            test_broken=tested.broken,
            test_accuracy=tested.accuracy,
            test_top5=tested.top5,
            test_loss=tested.loss,
            test_balanced_accuracy=tested.balanced_accuracy,
            test_macro_f1=tested.macro_f1,
            test_auroc=tested.auroc,
            finished=self._now(),
        )
        try:
            self.store.write_predictions(self._known(), seed, tested.predictions)
        except (OSError, StoreError) as error:
            raise NotKept(f"expected to write in {self.store.path}: {_told(error)}") from None
        failed = self._write(record_file.weights_path(self.store.path, seed).name, training.weights(), row)
        if failed is not None:
            raise NotKept(f"expected to write in {self.store.path}: {failed}")
        self.store.remove_checkpoint()
        self._metrics.stepped(training)
        self._metrics.training_complete(self._of(seed))
        self._current = None
        self._progress.training_complete(self._of(seed))

    def _write(self, name: str, content: dict[str, Any], row: Trained) -> str | None:
        """Writes tensors, then the record with the row and the history of the training under way. The reason where that
        fails: then the record stays as it was, in memory too."""
        record, training = self._known(), self._underway().training
        before = record.trainings, record.history, record.validations
        try:
            self.store.write_tensors(name, content)
            self._note(row)
            record.history = [found for found in record.history if found.seed != row.seed] + training.history
            others = [found for found in record.validations if found.seed != row.seed]
            record.validations = others + training.validations
            self.store.write_record(record)
        except (OSError, RuntimeError, StoreError) as error:  # the second from torch's own writing
            record.trainings, record.history, record.validations = before
            return _told(error)
        return None

    # ── the record ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _known(self) -> Record:
        assert self._record is not None, "the data are known"
        return self._record

    def _underway(self) -> _Current:
        assert self._current is not None, "a training is under way"
        return self._current

    def _of(self, seed: int) -> Trained:
        return next(found for found in self._known().trainings if found.seed == seed)

    def _note(self, row: Trained) -> None:
        record = self._known()
        record.trainings = [row if found.seed == row.seed else found for found in record.trainings]

    def _figures(self, current: _Current) -> Trained:
        """The row of the training under way, with what it has measured of itself."""
        training, old = current.training, self._of(current.seed)
        seconds = max(1e-9, training.seconds)
        images = training.step * self._recipe.training.batch_size
        peaks = old.peak_memory, training.peak_memory  # earlier jobs', this one's
        return dataclasses.replace(
            old,
            step=training.step,
            training_seconds=training.seconds,
            images_per_second=images / seconds,
            input_wait=min(1.0, training.waited / seconds),
            peak_memory=max(filter(None, peaks), default=None),
        )


@dataclass(frozen=True)
class _Current:
    """The training that is under way."""

    seed: int
    training: DistributedTraining


def _told(error: Exception) -> str:
    """Why a file cannot be written."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in a line; damaged files can raise anything."""
    if isinstance(error, sealed.Damaged):
        return f"it is damaged: {error}"
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
