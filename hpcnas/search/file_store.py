"""Where a run is kept: `FileStore` does on the disk what `memory_store` says a store does (D1, D2).

    RUN/population.h5   everything up to some record, renewed as a whole now and then: what tools read
    RUN/journal         every record since, on the disk before it is acted upon
    RUN/lock            held by the one controller of the run (`lock`)
    RUN/inflight/*.pt   checkpoints of trainings under way (`messages.checkpoint_name`), removed when they are recorded

At start the file is read and the journal replayed over it (`recovery`). While a thread writes the file, the run goes
on: what is recorded meanwhile goes to the old journal, which fits the old file and the new one, and then begins the new
journal. All of it goes to the folder that was opened (`folder`), wherever that is moved, and stops where it is another
job's by now. Which individuals are born and why is not its business.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from hpcnas.config.search import SearchConfig
from hpcnas.evolution.individuals import Individual
from hpcnas.evolution.population import Population
from hpcnas.job.session import Session
from hpcnas.messages import Evaluation, Result, checkpoint_name, is_checkpoint_name
from hpcnas.search import records, run_file
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.methods import Worker
from hpcnas.search.recovery import recover, salvage
from hpcnas.search.run_file import StoredRun
from hpcnas.storage import hdf5, journal, lock
from hpcnas.storage.folder import RunFolder, StoreError
from hpcnas.storage.held import HeldFolder, Take
from hpcnas.storage.lock import LockLost

POPULATION, JOURNAL, INFLIGHT = "population.h5", "journal", "inflight"
FILES = (POPULATION, JOURNAL, lock.NAME, lock.HEARTBEAT, "status", "log", "best.toml", "profile.json")
"""What a run keeps in its folder, beside checkpoints in INFLIGHT, which may be a link to another folder."""

_LOOK = 1.0  # seconds between looks at where the run is, while nothing is recorded


class RunExists(StoreError):
    """There is a run where a new one was to be."""


class _Foreign(StoreError):
    """The run at this place is in other hands."""


class FileStore(MemoryStore):
    """A run in a folder. Use `create`, `open` or `exists`; every call may raise StoreError."""

    def __init__(self, held: HeldFolder, stored: StoredRun, log: journal.Journal) -> None:
        super().__init__(stored.config)
        self.population, self.sessions, self.workers = stored.population, stored.sessions, stored.workers
        self.place = held.place
        self.folder = held.place.path
        self.run = stored.run
        self.remarks = held.remarks  # for a person to know
        self._recorded = stored.records
        self._journal = log
        self._held = held
        self._looked = time.monotonic()  # when the run was last seen to be in its place
        self._over = False  # whether it is gone, or in other hands: nothing more is written
        self._file = _file_id(self.place, POPULATION)
        self._renewal: _Renewal | None = None  # under way
        self._anew: StoredRun | None = None  # what `begin_anew` has made of it, until something is recorded
        self._settled: list[str] = []  # checkpoints to be removed once this is committed

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether the folder holds a run. Raises StoreError where that cannot be seen."""
        return run_file.exists(folder)

    @classmethod
    def create(cls, folder: Path, config: SearchConfig, synced: bool = True, take: Take = lock.take) -> FileStore:
        """A new run in `folder`, which is made if need be; `synced` as of a Journal, `take` what locks. Raises
        RunExists where a run is already, and StoreError where a retraining is."""
        held = HeldFolder.take(RunFolder.make(folder), take, FILES, links=[INFLIGHT])
        log: journal.Journal | None = None
        try:
            if cls.exists(folder):
                raise RunExists(f"expected a folder without a run, but {folder} holds one")
            run_file.refuse_retraining(folder)
            path = folder / JOURNAL
            if path.exists() and _records_in(path):
                raise StoreError(
                    f"{folder} holds a journal with records but no population.h5: put the file back, "
                    "or choose another --run"
                )
            population = Population(config.space, config.training.replicates, config.training.rungs)
            stored = StoredRun(uuid.uuid4().hex, 0, config, population, [])
            try:
                log = journal.Journal.create(path, stored.run, base=0, synced=synced, at=held.place.descriptor)
                held.place.put(POPULATION, run_file.image(stored))
            except (OSError, journal.JournalError) as error:
                raise StoreError(f"expected to write in {folder}: {error}") from None
            return cls(held, stored, log)
        except BaseException:
            if log is not None:
                log.close()
            held.close()
            raise

    @classmethod
    def open(cls, folder: Path, synced: bool = True, take: Take = lock.take) -> FileStore:
        """The run in `folder`, with every record that was ever committed; `synced` and `take` as of `create`. Raises
        StoreError."""
        held = HeldFolder.take(RunFolder(folder), take, FILES, links=[INFLIGHT])
        place = held.place
        log: journal.Journal | None = None
        try:
            stored, whole = recover(folder)
            path, at = folder / JOURNAL, place.descriptor
            try:
                if whole is None:  # every record is in population.h5, and the journal ends before it
                    log = journal.Journal.create(path, stored.run, base=stored.records, synced=synced, at=at)
                else:
                    place.own(JOURNAL)
                    log = journal.Journal(path, whole, synced, at)
            except journal.JournalError as error:
                raise StoreError(str(error)) from None
            except OSError as error:
                raise StoreError(f"expected to write in {folder}: {error.strerror}") from None
            if (problem := place.problem()) is not None:  # what was read was another's
                raise StoreError(problem)
            _tidy(place, stored.population)
            return cls(held, stored, log)
        except BaseException:
            if log is not None:
                log.close()
            held.close()
            raise

    @staticmethod
    def read(folder: Path) -> MemoryStore:
        """The run in `folder` with all records so far, even while a controller is at work on it; only to be read: takes
        no lock and changes nothing. Raises StoreError."""
        stored, problems = salvage(folder)
        if problems:
            raise StoreError(problems[0])
        found = MemoryStore(stored.config)
        found.population, found.sessions, found.workers = stored.population, stored.sessions, stored.workers
        return found

    def begin_anew(self, config: SearchConfig) -> None:
        """Gives a run in which nothing has happened yet another configuration, written just before the first record:
        until then the start may be refused, and the run stays as it was."""
        if self.sessions or len(self.population):
            raise StoreError(f"expected a run in which nothing has happened, but {self.folder} has begun")
        self.config = config
        self.population = Population(config.space, config.training.replicates, config.training.rungs)
        empty = Population(config.space, config.training.replicates, config.training.rungs)
        self._anew = StoredRun(self.run, self._recorded, config, empty, [])

    def abandon(self) -> None:
        """Lets go of a run in which nothing has happened, and takes it away."""
        for name in (POPULATION, JOURNAL, lock.NAME):
            self.place.remove(name)
        self.close()
        if self.place.new:
            with contextlib.suppress(OSError):  # other files are in it
                self.folder.rmdir()

    # ── recording ───────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, session: Session) -> None:
        super().begin(session)
        self._append({"begin": asdict(session) | {"facts": session.facts.record()}})

    def join(self, worker: Worker) -> None:
        super().join(worker)
        self._append({"worker": worker.record()})

    def birth(self, individual: Individual) -> None:
        super().birth(individual)
        self._append({"birth": records.birth(individual)})

    def retry(self, result: Result) -> None:
        super().retry(result)
        self._append({"retry": records.result(result)})

    def advance(self, result: Result) -> None:
        super().advance(result)
        self._append({"advance": records.result(result)})
        self._settled.append(checkpoint_name(result.individual, result.first))

    def settle(self, result: Result) -> None:
        super().settle(result)
        self._append({"settle": records.result(result)})
        ended = not isinstance(result.outcome, Evaluation)  # then its other replicates too, which may be under way
        for first in range(self.population.replicates) if ended else (result.first,):
            self._settled.append(checkpoint_name(result.individual, first))

    def _append(self, record: journal.Record) -> None:
        self._journal.append(record)
        self._recorded += 1

    def commit(self) -> None:
        self._look_around()
        if self._anew is not None and self._journal.pending:
            self._bind(self._anew)
        try:
            self._journal.commit()
        except journal.JournalLost as lost:
            raise self._stopped(lost) from None
        except journal.JournalError as error:
            raise StoreError(str(error)) from None
        for name in self._settled:
            self.place.remove(f"{INFLIGHT}/{name}")
        self._settled.clear()
        if self._renewal is not None and not self._renewal.is_alive():
            self._begin_journal_after(self._renewal)

    def _bind(self, anew: StoredRun) -> None:
        """What is recorded next belongs to another configuration than the file's. Raises StoreError."""
        self._anew = None
        try:
            self._put_population(run_file.image(anew))
        except StoreError as lost:
            raise self._stopped(lost) from None
        except OSError as error:
            self._journal.close()
            raise StoreError(
                f"expected to renew {self.folder / POPULATION}: {error.strerror}; make room or mend the folder, then "
                "start the same command again"
            ) from None

    def compact(self) -> None:
        self.commit()  # to the journal that now stands, which the end of a renewal replaces
        self._end_renewal()  # one that is under way does not hold the latest
        self.compact_aside()
        self._end_renewal()

    def _end_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.join()
            self._begin_journal_after(self._renewal)

    def compact_aside(self) -> None:
        self.commit()
        if self._renewal is not None:
            return
        self._renewal = _Renewal(self._put_population, run_file.image(self._stored()), self._recorded)
        self._journal.keep()
        self._renewal.start()

    def _stored(self) -> StoredRun:
        return StoredRun(self.run, self._recorded, self.config, self.population, self.sessions, self.workers)

    def _put_population(self, image: bytes) -> None:
        self.place.put(POPULATION, image, ready=self._check_hold)
        self._file = _file_id(self.place, POPULATION)

    def _begin_journal_after(self, renewal: _Renewal) -> None:
        """population.h5 is renewed: the journal keeps only what came after. Raises StoreError."""
        self._renewal = None
        error: object = renewal.error
        if renewal.written:
            try:
                log = self._new_journal(renewal.records, self._journal.kept)
            except (journal.JournalError, StoreError) as refused:
                error = refused
            else:
                self._journal.close()
                self._journal = log
                return
        if isinstance(error, StoreError):
            raise self._stopped(error)
        self._journal.close()  # a new one may already stand in its place
        raise StoreError(
            f"expected to renew {self.folder / POPULATION}: {error}; nothing acknowledged is lost, "
            "make room or mend the folder, then start the same command again"
        )

    def _new_journal(self, base: int, lines: bytes = b"") -> journal.Journal:
        """Raises JournalError, and StoreError where the run is in other hands."""
        path, synced, at = self.folder / JOURNAL, self._journal.synced, self.place.descriptor
        return journal.Journal.create(path, self.run, base, lines, synced, at, ready=self._check_hold)

    def leave_behind(self, name: str, content: bytes) -> None:
        """Gives a small file of the run new content, unless the run is gone or in other hands. Raises OSError."""
        if not self._over:
            self.place.put(name, content)

    def close(self) -> None:
        if self._renewal is not None:
            self._renewal.join()  # the old journal goes with the old file and with the new one
            self._renewal = None
        self._journal.close()
        self._held.close()

    # ── whose the run is ────────────────────────────────────────────────────────────────────────────────────────────
    def _look_around(self) -> None:
        """Before something is recorded, and now and then: whether the run is where it was, and this controller's.
        Raises StoreError where not: then all that is known is on the disk if it can be, and nothing more is taken."""
        now = time.monotonic()
        if not self._journal.is_open or not self._journal.pending and now - self._looked < _LOOK:
            return
        self._looked = now
        try:
            if (problem := self.place.problem()) is not None:
                raise StoreError(problem)
            self._held.lock.check()
            if not self._journal.pending:  # else its commit does
                self._journal.check()
        except (journal.JournalLost, StoreError) as lost:
            raise self._stopped(lost) from None
        except OSError as error:
            self._journal.close()
            raise StoreError(
                f"expected to look after {self.folder}: {error.strerror}; nothing acknowledged is lost, mend the "
                "folder, then start the same command again"
            ) from None

    def _check_hold(self) -> None:
        """Raises StoreError where another job may be at work on the run, or another run is in its folder."""
        try:
            self._held.lock.check()
        except LockLost as lost:
            if lost.replaced:
                raise _Foreign(str(lost)) from None
        found = _file_id(self.place, POPULATION)
        if found in (None, self._file):
            return
        there = hdf5.run_in(self.place.read(POPULATION) or b"")
        if there not in (None, self.run):
            raise _Foreign(f"{self.folder / POPULATION} is that of another run by now, {there}")

    def _stopped(self, reason: Exception) -> StoreError:
        """Ends the recording; the error that says why, and where everything is."""
        if self._renewal is not None:
            self._renewal.join()
            self._renewal = None
        try:
            self._check_hold()
            self._put_population(run_file.image(self._stored()))
            fresh = self._new_journal(self._recorded)
            self._journal.close()
            self._journal = fresh
            whole = self._saved()
        except _Foreign as foreign:
            self._over = True
            whole = self._left_to_others()
            if str(foreign) != str(reason):
                whole = f"{foreign}; {whole}"
        except (OSError, StoreError, journal.JournalError) as error:
            problem = self.place.problem()
            if problem is not None and self.place.where() is None:  # what was missed first went with its folder
                self._over = True
                reason, whole = StoreError(problem), f"with it, the {self._known()} are gone"
            else:
                whole = self._left_on_the_disk(error)
        self._journal.close()
        return StoreError(f"{reason}; {whole}")

    def _saved(self) -> str:
        now = self.place.where() or self.folder
        if self.place.problem() is None:
            return "everything is saved: start the same command again"
        return f"everything is saved in it: go on with --run {now}, or move it back"

    def _left_to_others(self) -> str:
        """What is left of the run in a folder that another job works in."""
        with contextlib.suppress(OSError, StoreError):
            if hdf5.run_in(self.place.read(POPULATION) or b"") == self.run:
                return "what was acknowledged by then is in the run, into which this job writes nothing more"
        return f"the {self._known()} of this run are gone: this job writes nothing into another one"

    def _left_on_the_disk(self, error: Exception) -> str:
        """What is left of the run where its folder takes nothing more."""
        reason = error.strerror if isinstance(error, OSError) else error
        where = self.place.where() or self.folder
        with contextlib.suppress(journal.JournalError, OSError):
            self._journal.check()
            return f"nothing acknowledged is lost, but {where} takes nothing more ({reason})"
        return (
            f"population.h5 cannot be renewed ({reason}): of the {self._known()}, those that came after its last "
            "renewal are lost"
        )

    def _known(self) -> str:
        return f"{len(self.population.evaluated)} evaluated individuals"


class _Renewal(threading.Thread):
    """Writes population.h5 beside what else goes on: the state after `records` records, as bytes made before."""

    def __init__(self, put: Callable[[bytes], None], image: bytes, records: int) -> None:
        super().__init__(name="renewal of population.h5", daemon=True)  # a process that breaks does not wait for it
        self._put, self._image = put, image
        self.records = records
        self.written = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._put(self._image)
            self.written = True
        except BaseException as error:
            self.error = error
        finally:
            del self._image


def _tidy(place: RunFolder, population: Population) -> None:
    """Removes what a kill can leave: halves of files, and checkpoints of trainings that are done."""
    wanted = {checkpoint_name(id, first) for id in population.issued for first in population.missing(id)}
    place.tidy(FILES.__contains__, useless=lambda name: False)
    place.tidy(is_checkpoint_name, useless=lambda name: name not in wanted, inside=INFLIGHT)


def _file_id(place: RunFolder, name: str) -> tuple[int, int] | None:
    """What tells a file from another one that takes its name."""
    found = place.status(name)
    return None if found is None else (found.st_dev, found.st_ino)


def _records_in(path: Path) -> bool:
    try:
        return bool(journal.read(path).records)
    except journal.JournalError as error:
        raise StoreError(str(error)) from None
