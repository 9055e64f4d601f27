"""The folder of a retraining, on rank 0: opened or created, kept up to date while the ranks train, and closed.

RUN/retrain.h5        everything for others to read (`record_file`), renewed at each save
RUN/checkpoint.pt     the state of the training under way, everything that its next steps depend on
RUN/weights-SEED.pt   the state_dict of a complete training
RUN/genotype.toml     the genotype, to be read by people
RUN/status            state, steps saved, time: written first, at each save, and last, by rename, for job scripts
RUN/log, RUN/lock     what was said; held by the one job of the retraining

A kill at any time costs the steps since the last save. What cannot be written while a training goes on is reported and
tried again; what cannot be written at its end, or when it leaves, breaks the job. What the record in memory says of a
training is what the one on the disk says. Torch is imported when there is a checkpoint to handle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import os
import platform
import re
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnas import __version__
from hpcnas.architecture import expansion, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.options import Request
from hpcnas.config.retraining import SCHEME, RetrainingConfig, RetrainingRunSettings
from hpcnas.job import log
from hpcnas.job.clocks import Dated
from hpcnas.job.status import COMPLETE, MORE_TO_DO, WRONG_USE, write_status
from hpcnas.retrain import record_file
from hpcnas.retrain.origin import resolve_genotype
from hpcnas.retrain.progress import Progress, final_table
from hpcnas.retrain.record import Inputs, Origin, Record, RetrainingSession, State, Trained
from hpcnas.search import references
from hpcnas.search.file_store import FileStore
from hpcnas.search.run_file import StoreError
from hpcnas.storage import hdf5, lock, sealed
from hpcnas.storage.folder import RunFolder
from hpcnas.storage.lock import Lock, LockLost

if TYPE_CHECKING:
    from hpcnas.retrain.feed import Appearance
    from hpcnas.retrain.loop import DistributedTraining, Tested

FILES = (record_file.NAME, "checkpoint.pt", "genotype.toml", "status", "log", lock.NAME, lock.HEARTBEAT)
"""What a retraining keeps in its folder, beside weights."""

_LOOK = 1.0  # seconds between looks at where the folder is
_logger = logging.getLogger("hpcnas")


def _is_own(name: str) -> bool:
    return name in FILES or re.fullmatch(r"weights-\d+\.pt", name) is not None


class Refused(Exception):
    """The retraining cannot be created or continued as asked: text for a person."""


class Finished(Exception):
    """There is nothing left to do: the result, as text."""


class Folder:
    """One job's hold on the folder. `problem` says what must stop it, once something must."""

    def __init__(
        self, path: Path, recipe: RetrainingConfig, genotype: Genotype, origin: Origin, record: Record | None
    ) -> None:
        self.path, self.recipe, self.genotype, self.origin = path, recipe, genotype, origin
        self.problem: str | None = None
        self.lost: str | None = None  # what has become of the folder, if it is no longer as this job took it
        self.logs = False  # whether what is said reaches RUN/log
        self._record = record  # None until the data are known: nothing is bound to its settings before
        self._begun = False  # whether it is bound to them in this job
        self._place: RunFolder | None = None  # held open; None in a dry run
        self._lock: Lock | None = None
        self._status: bytes | None = None  # what RUN/status said before this job
        self._current: DistributedTraining | None = None
        self._now = Dated()
        self._saved = self._looked = time.monotonic()
        self._seen: object = None  # which file the record was when its name was last read in it
        self._unsaved: str | None = None  # why the last save failed, if it did

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def open(
        cls,
        request: Request,
        leave: Callable[[], str | None] = lambda: None,
        say: Callable[[str], object] = lambda text: None,
        again: bool = True,
    ) -> Folder:
        """The folder that the request names, made if there is none (not in a dry run, which only reads); tried `again`
        where it went away meanwhile. `leave` and `say` as of `lock.take`. Raises Refused, Finished, ConfigError,
        lock.Interrupted."""
        given = {key: value for layer in request.layers for key, value in layer.get("run", {}).items()}
        run = RetrainingRunSettings(**given)  # type: ignore[arg-type]  # the rest need not fit together without the run's own
        path = Path(run.run)
        try:
            cls._refuse_search(path)
            folder = None if record_file.exists(path) else cls._new(path, request)
            if request.dry_run:
                return folder or cls._continued(path, request)
            place = RunFolder(path) if folder is None else RunFolder.make(path)
            held: Lock | None = None
            try:
                place.check(FILES)
                held = lock.take(place, run.lock_wait, leave, say)
                cls._refuse_search(path)  # what another job has left is known for certain only now
                if folder is None or record_file.exists(path):
                    folder = cls._continued(path, request)
                if (problem := place.problem()) is not None:
                    raise StoreError(problem)
                folder._status = place.read("status")
            except BaseException:
                if held is not None:
                    held.close()
                place.close()
                raise
        except StoreError as error:  # whoever began it and was refused has removed it while its lock was waited for
            if again and not isinstance(error, lock.LockHeld) and not os.path.isdir(path):
                return cls.open(request, leave, say, again=False)
            raise Refused(str(error)) from None
        except OSError as error:
            raise Refused(f"expected to read in {path}: {error.strerror}") from None
        folder._place, folder._lock = place, held
        place.tidy(_is_own, useless=lambda name: False)
        if not folder.waiting:  # whoever finished it may have been killed before all was said
            folder.close(COMPLETE)
            table = final_table(folder._record_now())
            raise Finished(f"the retraining {path} is finished (more --runs continue it)\n{table}")
        return folder

    @staticmethod
    def _refuse_search(path: Path) -> None:
        if FileStore.exists(path):
            raise Refused(f"expected a folder for a retraining, but {path} holds a search; give another --run")

    @classmethod
    def _new(cls, path: Path, request: Request) -> Folder:
        """That of a retraining that begins; creates nothing."""
        recipe = SCHEME.build(*request.base, *request.layers)
        genotype, origin = resolve_genotype(recipe.network.genotype)
        if "+" in origin.space and recipe.network.plugins is None:
            raise Refused(f"the space {origin.space} of {origin.source} has a plugin's primitives: give its --plugin")
        return cls(path, recipe, genotype, origin, None)

    @classmethod
    def _continued(cls, path: Path, request: Request) -> Folder:
        """That of a retraining that goes on. Raises StoreError, Refused, ConfigError."""
        record = record_file.read(path)
        recipe = SCHEME.build(SCHEME.lasting(record.recipe), *request.layers)
        changed = SCHEME.differences(record.recipe, recipe)
        if changed:
            listing = "\n  ".join(changed)
            raise Refused(
                f"the retraining {path} was made with other settings; leave them out to continue it, or choose "
                f"another --run:\n  {listing}"
            )
        if any("genotype" in layer.get("network", {}) for layer in request.layers):
            genotype, origin = resolve_genotype(recipe.network.genotype)
            by_number = isinstance(references.parse(recipe.network.genotype), references.ById)
            best_again = origin.run is not None and origin.run == record.origin.run and not by_number
            if genotype != record.genotype and not best_again:  # the best of that search may be another one by now
                raise Refused(
                    f"the retraining {path} is that of another genotype, {record.origin.source}; leave out --genotype "
                    "to continue it, or choose another --run"
                )
        record.recipe = recipe
        known = {trained.seed for trained in record.trainings}
        first = recipe.training.seed
        record.trainings += [Trained(seed) for seed in range(first, first + recipe.training.runs) if seed not in known]
        return cls(path, recipe, record.genotype, record.origin, record)

    @property
    def waiting(self) -> tuple[int, ...]:
        """Seeds of the trainings that are wanted and not complete."""
        first = self.recipe.training.seed
        wanted = range(first, first + self.recipe.training.runs)
        done = {found.seed for found in self._trainings if found.state is State.COMPLETE}
        return tuple(seed for seed in wanted if seed not in done)

    @property
    def _trainings(self) -> list[Trained]:
        return [] if self._record is None else self._record.trainings

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, line: log.LiveLine) -> None:
        """The job begins: logs and status say so."""
        place, held = self._held()
        try:
            log.also_to_file(place.open_log())
            self.logs = True
        except StoreError as error:
            _logger.warning("going on without RUN/log: %s", error)
        for remark in filter(None, (held.remark, place.remark())):
            _logger.warning("%s", remark)
        self._progress = Progress(self.recipe, line)
        self._write_status(MORE_TO_DO)  # and so it stays if this job is killed

    def appear(self, found: Appearance, ranks: int, mpi_library: str, device: str) -> None:
        """The data are known: the record is made, or compared with them. Sets `problem` where it does not fit."""
        facts = found.facts
        skeleton = self.recipe.skeleton(facts)
        inputs = Inputs(skeleton, found.class_names, found.mean, found.std, found.resize)
        if self._record is None:
            size = sizes.size(expansion.expand(self.genotype), skeleton)
            first = self.recipe.training.seed
            waiting = [Trained(seed) for seed in range(first, first + self.recipe.training.runs)]
            self._record = Record(
                uuid.uuid4().hex, self.recipe, self.genotype, self.origin, inputs, size.parameters, size.flops, waiting
            )
        before = self._record.sessions[-1].facts if self._record.sessions else facts
        if before != facts or self._record.inputs != inputs:
            self.problem = f"expected the data that the retraining began with ({before}), got other ones ({facts})"
            return
        software = {
            "hpcnas": __version__,
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
            "mpi": mpi_library,
        }
        self._record.sessions.append(
            RetrainingSession(self._now(), socket.gethostname(), os.getpid(), ranks, software, facts, device)
        )
        self._progress.began(self._record)
        self._begun = True
        try:
            self._hold()
            self._put("genotype.toml", self.genotype.text())
            self._write_record()
        except (OSError, StoreError) as error:
            self.problem = f"expected to write in {self.path}: {error}"

    def checkpoint(self, seed: int, training: DistributedTraining) -> dict[str, Any] | None:
        """The state to go on from, if there is one of that training. Sets `problem` where the record knows of one, but
        it cannot be had: the next save would take its place."""
        path, known = self.path / "checkpoint.pt", self._of(seed)
        try:
            found, note = _loaded(path)
            if known.step == 0 and found["seed"] != seed:  # that of a training that is complete
                return None
            training.check(found)
            if note is not None:
                _logger.warning("%s: %s; damage that does not show would be trained on", path, note)
            return found
        except FileNotFoundError:
            if known.step == 0:
                return None
            reason = "there is no such file"
        except Exception as error:  # a damaged file can raise anything
            reason = _reason(error)
        if known.step == 0:
            kept = ""
            with contextlib.suppress(OSError):
                kept = f"; it is kept as {sealed.set_aside(path).name}"
            _logger.warning("beginning seed %d anew without %s: %s%s", seed, path, reason, kept)
        else:
            self.problem = (
                f"expected {path} to hold the state of seed {seed}, saved after step {known.step}, but {reason}; "
                f"put it back, or begin that seed anew in a folder of its own (--run, with --seed {seed})"
            )
        return None

    def training_begins(self, seed: int, training: DistributedTraining) -> None:
        """The training of that seed begins, or goes on."""
        self._current = training
        self._seed = seed
        old = self._of(seed)
        self._note(dataclasses.replace(old, state=State.TRAINING, started=old.started or self._now()))
        self._progress.training_began(self._record_now(), seed, training)

    def save_due(self) -> bool:
        """Whether it is time for a checkpoint; looks after the folder now and then."""
        now = time.monotonic()
        if now - self._looked >= _LOOK:
            self._looked = now
            with contextlib.suppress(StoreError):  # `lost` says it; what else there is, the next save says
                self._hold()
        return now - self._saved >= self.recipe.run.checkpoint_interval

    def save(self) -> None:
        """Writes the state of the training under way, then the record of it; where that fails, says so."""
        training = self._current
        assert training is not None, "saved within a training"
        self.note_broken(training.broken)
        before = self._unsaved
        self._unsaved = self._write(self.path / "checkpoint.pt", training.state(), self._figures(training))
        if self._unsaved is not None and self._unsaved != before:  # once, and not at every save
            _logger.warning(
                "step %d is not saved in %s: %s; until that is mended, a job that is cut off loses the steps since "
                "step %d, the last one saved", training.step, self.path, self._unsaved, self._of(self._seed).step
            )  # fmt: skip
        elif self._unsaved is None and before is not None:
            _logger.info("step %d is saved again in %s", training.step, self.path)
        self._write_status(MORE_TO_DO)
        self._saved = time.monotonic()

    def _write(self, path: Path, content: dict[str, Any], row: Trained) -> str | None:
        """Writes what torch is to read again, then the record with the row and the history of its training; why it
        failed, if it did: then the record stays as it was, here too."""
        from hpcnas.training import checkpoints

        training, record = self._current, self._record_now()
        assert training is not None
        before = record.trainings, record.history
        try:
            checkpoints.save(self._hold() / path.name, content)
            self._note(row)
            record.history = [found for found in record.history if found.seed != row.seed] + training.history
            self._write_record()
        except (OSError, RuntimeError, StoreError) as error:  # the second from torch's own writing
            record.trainings, record.history = before
            return (error.strerror if isinstance(error, OSError) else None) or str(error)
        return None

    def made_step(self) -> None:
        """A step was made: shows where the training stands, if it is time."""
        assert self._current is not None
        self._progress.stepped(self._current)

    def note_broken(self, names: set[str]) -> None:
        """Images that could not be read: says so of those that were not known, for the record's next writing."""
        record = self._record_now()
        new = sorted(names - set(record.broken))
        record.broken += new
        if new:
            shown = ", ".join(new[:10]) + (f", … ({record_file.NAME} names all)" if len(new) > 10 else "")
            _logger.warning("%d images cannot be read and were passed over: %s", len(new), shown)

    def broke(self) -> None:
        """The training cannot go on: what could not be read is named, here and in the record."""
        assert self._current is not None
        self.note_broken(self._current.broken)
        self._try_to_write()

    def left(self, reason: str | None) -> None:
        """The training leaves before it is complete. Sets `problem` where it is not saved."""
        assert self._current is not None
        if self._unsaved is not None:
            self.problem = (
                f"expected to save step {self._current.step} in {self.path}, where step {self._of(self._seed).step} is "
                f"the last one saved: {self._unsaved}; mend that, and start the same command again"
            )
            return
        if self.lost is not None:
            self.problem = f"{self.lost}; step {self._current.step} is saved in {self._held()[0].where() or self.path}"
            return
        self._progress.left(self._current, reason or "another rank has received a signal")

    def training_complete(self, seed: int, training: DistributedTraining, tested: Tested) -> None:
        """The training is complete: its weights and result are kept. Sets `problem` where they cannot be written."""
        row = dataclasses.replace(
            self._figures(training),
            state=State.COMPLETE,
            test_images=tested.images,
            test_accuracy=tested.accuracy,
            test_top5=tested.top5,
            test_loss=tested.loss,
            finished=self._now(),
        )
        failed = self._write(record_file.weights_path(self.path, seed), training.weights(), row)
        if failed is not None:
            self.problem = f"expected to write in {self.path}: {failed}"
            return
        self._held()[0].remove("checkpoint.pt")  # one that stays is known by its seed
        self._current = None
        self._progress.training_complete(self._of(seed))

    def close(self, exit_code: int) -> None:
        """The job ends: says how, while nobody else can open the folder, and lets go of it. Where it was refused before
        it began, the folder is left as it was."""
        if self._place is None:
            return
        place, held = self._held()
        if exit_code == COMPLETE:
            _logger.info("the retraining is complete\n%s", final_table(self._record_now()))
        if exit_code == WRONG_USE and not self._begun:
            self._leave_unchanged(place)
        else:
            self._write_status(exit_code)
        held.close()
        place.close()
        self._place = self._lock = None

    def _leave_unchanged(self, place: RunFolder) -> None:
        if place.read("status") == self._status:
            pass
        elif self._status is None:
            place.remove("status")
        else:
            place.put("status", self._status)
        if place.new:
            place.remove(lock.NAME)
            with contextlib.suppress(OSError):  # its log is in it, or somebody else's files
                self.path.rmdir()

    # ── the record ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _record_now(self) -> Record:
        assert self._record is not None, "the data are known"
        return self._record

    def _of(self, seed: int) -> Trained:
        return next(found for found in self._trainings if found.seed == seed)

    def _note(self, row: Trained) -> None:
        record = self._record_now()
        record.trainings = [row if found.seed == row.seed else found for found in record.trainings]

    def _figures(self, training: DistributedTraining) -> Trained:
        """What the training under way has to say about itself."""
        seconds = max(1e-9, training.seconds)
        images = training.step * self.recipe.training.batch_size
        peaks = self._of(self._seed).peak_memory, training.peak_memory  # earlier jobs', this one's
        return dataclasses.replace(
            self._of(self._seed),
            step=training.step,
            training_seconds=training.seconds,
            images_per_second=images / seconds,
            input_wait=min(1.0, training.waited / seconds),
            peak_memory=max(filter(None, peaks), default=None),
        )

    def _held(self) -> tuple[RunFolder, Lock]:
        assert self._place is not None and self._lock is not None, "not in a dry run"
        return self._place, self._lock

    def _hold(self) -> Path:
        """Where the folder is, to be written to. Sets `lost` where it is no longer as this job took it. Raises
        StoreError where it is gone, another job may be at work in it, or nobody can tell at the moment."""
        place, held = self._held()
        path = self.path
        try:
            if (problem := place.problem()) is not None:
                self.lost = problem
                if (now := place.where()) is None:
                    raise StoreError(problem)
                path = now
            try:
                held.check()
            except LockLost as lost:
                self.lost = str(lost)
                if lost.replaced:
                    raise
            found = place.status(record_file.NAME)
            seen = None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
            there = None if seen == self._seen else hdf5.run_in(place.read(record_file.NAME) or b"")
            if there is not None and self._record is not None and there != self._record.run:
                self.lost = f"{path / record_file.NAME} is that of another retraining by now"
                raise StoreError(self.lost)
            self._seen = seen
        except OSError as error:
            raise StoreError(f"expected to look at {path}: {error.strerror}") from None
        return path

    def _write_record(self) -> None:
        record_file.write(self.path, self._record_now(), self._held()[0].descriptor)

    def _put(self, name: str, text: str) -> None:
        self._held()[0].put(name, text.encode())

    def _try_to_write(self) -> None:
        try:
            self._hold()
            self._write_record()
        except StoreError as error:
            _logger.error("%s", error)

    def _write_status(self, exit_code: int) -> None:
        """Says where the retraining stands, as the exit code would."""
        try:
            self._hold()
        except StoreError as error:
            _logger.error("%s", error)
            return
        training = self.recipe.training
        write_status(
            self.path / "status",
            self._held()[0].put,
            exit_code,
            steps_done=sum(found.step for found in self._trainings),
            steps=training.steps * training.runs,
            runs_complete=sum(found.state is State.COMPLETE for found in self._trainings),
            runs=training.runs,
        )


def _loaded(path: Path) -> tuple[dict[str, Any], str | None]:
    """What is saved there, and what is to be said of it, if anything. Raises FileNotFoundError, and all sorts of things
    for damage."""
    from hpcnas.training import checkpoints

    try:
        return checkpoints.load(path), None
    except checkpoints.Unsealed as error:
        return checkpoints.load_unsealed_too(path), str(error)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in a line; damaged files can raise anything."""
    if isinstance(error, sealed.Damaged):
        return f"it is damaged: {error}"
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
