"""Where a run is kept: `MemoryStore` says what a store does, `FileStore` does it on the disk (D1, D2).

    RUN/population.h5   everything up to some record, renewed as a whole now and then: what tools read
    RUN/journal         every record since, on the disk before anybody acts on it
    RUN/lock            held by the one controller of the run
    RUN/inflight/*.pt   checkpoints of trainings under way (`messages.checkpoint_name`), removed when they are recorded

At start the file is read (`runfile`) and the journal replayed over it. While a thread writes the file, the run goes on:
what is recorded meanwhile goes to the old journal, which fits the old file and the new one, and then begins the new
journal. Which individuals are born and why is not its business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict
from pathlib import Path

from hpcnas import allowed, durable, journal, records, runfile
from hpcnas.config import Config
from hpcnas.individuals import Individual
from hpcnas.messages import Failure, Result, checkpoint_name
from hpcnas.population import Population
from hpcnas.runfile import Session, StoredRun, StoreError


class MemoryStore:
    """A store that forgets when the process ends; the specification of every other one.

    What is told to it is recorded once `commit` has returned, and must not be acted upon before.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.population = Population(config.space, config.training.replicates)
        self.sessions: list[Session] = []

    def begin(self, session: Session) -> None:
        """A controller has started."""
        self.sessions.append(session)

    def birth(self, individual: Individual) -> None:
        """An individual is born and in flight. Raises ValueError if it does not fit the population."""
        self.population.add(individual)

    def retry(self, result: Result) -> None:
        """An attempt has failed and will be repeated. Raises ValueError if its individual is not in flight."""
        self.population.retry(result)

    def advance(self, result: Result) -> None:
        """Some replicates are trained, more will be. Raises ValueError if they do not fit an individual in flight."""
        self.population.advance(result)

    def settle(self, result: Result) -> None:
        """The last word on an individual in flight. Raises ValueError if it is not in flight."""
        self.population.settle(result)

    def commit(self) -> None:
        """Makes all of the above durable; raises StoreError."""

    def compact(self) -> None:
        """Brings the files that tools read up to date; raises StoreError."""

    def compact_aside(self) -> None:
        """Likewise, but comes back before that is done; how it went is said by a later `commit` or `compact`."""

    def close(self) -> None:
        """Lets go of everything; what was not committed is lost."""


class FileStore(MemoryStore):
    """A run in a folder. Use `create`, `open` or `exists`; every call may raise StoreError."""

    def __init__(self, folder: Path, run: str, stored: StoredRun, log: journal.Journal, lock: int) -> None:
        super().__init__(stored.config)
        self.population, self.sessions = stored.population, stored.sessions
        self.folder = folder
        self._inflight = str(folder / "inflight")
        self.run = run
        self._recorded = stored.records
        self._journal = log
        self._lock = lock
        self._renewal: _Renewal | None = None  # under way
        self._settled: list[str] = []  # checkpoints that nobody needs once this is committed

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether the folder holds a run. Raises StoreError where that cannot be seen."""
        return runfile.exists(folder)

    @classmethod
    def create(cls, folder: Path, config: Config, synced: bool = True) -> FileStore:
        """A new run in `folder`, which is made if need be; `synced` as of a Journal. Raises StoreError where a run is
        already."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            durable.sync_folder(folder.parent)
        except OSError as error:
            raise StoreError(f"expected to create the run folder {folder}: {error.strerror}") from None
        lock = take_lock(folder)
        try:
            if cls.exists(folder):
                raise StoreError(f"expected a folder without a run, but {folder} holds one")
            path = folder / "journal"
            if path.exists() and _records_in(path):
                raise StoreError(
                    f"{folder} holds a journal with records but no population.h5: put the file back, "
                    "or choose another --run"
                )
            run = uuid.uuid4().hex
            stored = StoredRun(run, 0, config, Population(config.space, config.training.replicates), [])
            try:
                log = journal.Journal.create(path, run, base=0, synced=synced)
                runfile.write(folder / "population.h5", stored)
            except (OSError, journal.JournalError) as error:
                raise StoreError(f"expected to write in {folder}: {error}") from None
            return cls(folder, run, stored, log, lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open(cls, folder: Path, synced: bool = True) -> FileStore:
        """The run in `folder`, with every record that was ever committed; `synced` as of a Journal. Raises
        StoreError."""
        lock = take_lock(folder)
        try:
            stored, whole = _recover(folder)
            path = folder / "journal"
            try:
                if whole is None:  # every record is in population.h5, and the journal ends before it
                    log = journal.Journal.create(path, stored.run, base=stored.records, synced=synced)
                else:
                    log = journal.Journal(path, whole, synced)
            except journal.JournalError as error:
                raise StoreError(str(error)) from None
            _tidy(folder, stored.population)
            return cls(folder, stored.run, stored, log, lock)
        except BaseException:
            os.close(lock)
            raise

    def begin_anew(self, config: Config) -> None:
        """Gives a run in which nothing has happened yet another configuration."""
        if self.sessions or len(self.population):
            raise StoreError(f"expected a run in which nothing has happened, but {self.folder} has begun")
        self.config = config
        self.population = Population(config.space, config.training.replicates)
        self.compact()

    # ── recording ───────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, session: Session) -> None:
        super().begin(session)
        self._append({"begin": asdict(session)})

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
        failed = isinstance(result.outcome, Failure)  # then of its other replicates too, which may be under way
        for first in range(self.population.replicates) if failed else (result.first,):
            self._settled.append(checkpoint_name(result.individual, first))

    def _append(self, record: journal.Record) -> None:
        self._journal.append(record)
        self._recorded += 1

    def commit(self) -> None:
        try:
            self._journal.commit()
        except journal.JournalError as error:
            raise StoreError(str(error)) from None
        for name in self._settled:
            _remove(f"{self._inflight}/{name}")
        self._settled.clear()
        if self._renewal is not None and not self._renewal.is_alive():
            self._begin_journal_after(self._renewal)

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
        stored = StoredRun(self.run, self._recorded, self.config, self.population, self.sessions)
        self._renewal = _Renewal(self.folder / "population.h5", runfile.image(stored), self._recorded)
        self._journal.keep()
        self._renewal.start()

    def _begin_journal_after(self, renewal: _Renewal) -> None:
        """population.h5 is renewed: the journal keeps only what came after. Raises StoreError."""
        self._renewal = None
        error: object = renewal.error
        if renewal.written:
            try:
                path, lines = self.folder / "journal", self._journal.kept
                log = journal.Journal.create(path, self.run, renewal.records, lines, self._journal.synced)
            except journal.JournalError as refused:
                error = refused
            else:
                self._journal.close()
                self._journal = log
                return
        self._journal.close()  # a new one may already stand in its place
        raise StoreError(
            f"expected to renew {self.folder / 'population.h5'}: {error}; nothing acknowledged is lost, "
            "make room or mend the folder, then start the same command again"
        )

    def close(self) -> None:
        if self._renewal is not None:
            self._renewal.join()  # the old journal goes with the old file and with the new one
            self._renewal = None
        self._journal.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class _Renewal(threading.Thread):
    """Writes population.h5 beside what else goes on: the state after `records` records, as bytes made before."""

    def __init__(self, path: Path, image: memoryview, records: int) -> None:
        super().__init__(name="renewal of population.h5", daemon=True)  # who breaks does not wait for it
        self._path, self._image = path, image
        self.records = records
        self.written = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            runfile.write_image(self._path, self._image)
            self.written = True
        except BaseException as error:
            self.error = error
        finally:
            del self._image


def _tidy(folder: Path, population: Population) -> None:
    """Removes what a kill can leave: halves of files, and checkpoints of trainings that are done."""
    durable.remove_halves(folder)
    wanted = {checkpoint_name(id, first) for id in population.issued for first in population.missing(id)}
    for path in (folder / "inflight").glob("*"):
        if path.name not in wanted:
            _remove(path)


def _remove(path: Path | str) -> None:
    """Removes a file that nobody needs; one that stays does no harm."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def take_lock(folder: Path) -> int:
    """The descriptor of RUN/lock, held; raises StoreError naming the holder."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"expected to write in the run folder {folder}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode())
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StoreError(f"the run {folder} already has a controller: {holder}") from None
    except OSError as error:  # a full disk, or a file system mounted without locks
        os.close(descriptor)
        raise StoreError(f"expected to lock {path}: {error.strerror}") from None
    return descriptor


def _records_in(path: Path) -> bool:
    try:
        return bool(journal.read(path).records)
    except journal.JournalError as error:
        raise StoreError(str(error)) from None


# ── what was recorded ───────────────────────────────────────────────────────────────────────────────────────────────
def _apply(record: journal.Record, store: MemoryStore) -> None:
    """Replays one record of the journal; raises an error of `records` or ValueError on what no store has written."""
    kind, data = records.opened(record)
    if kind == "birth":
        store.birth(records.born(data, store.population))
    elif kind == "begin":
        store.begin(records.session(data))
    else:
        {"advance": store.advance, "settle": store.settle, "retry": store.retry}[kind](records.outcome(data))


def _recover(folder: Path) -> tuple[StoredRun, int | None]:
    """The run with its journal replayed, and the bytes of the journal's whole lines; None where it ends before
    population.h5 does, so that what followed would be taken for old. Raises StoreError."""
    stored = runfile.read(folder)
    try:
        contents = journal.read(folder / "journal")
    except journal.JournalError as error:
        raise StoreError(str(error)) from None
    _replay(stored, contents, folder / "journal")
    behind = contents.base + len(contents.records) < stored.records
    return stored, None if behind else contents.whole


def _replay(stored: StoredRun, contents: journal.Contents, path: Path) -> None:
    """Brings a run up to date with its journal. Raises StoreError at the first record that does not fit; those before
    it have been taken in."""
    if contents.run != stored.run:
        raise StoreError(f"{path}: expected the journal of run {stored.run}, got that of {contents.run}")
    if contents.base > stored.records:
        raise StoreError(
            f"{path}: expected it to begin at record {stored.records} or before, but it begins at {contents.base}: "
            "population.h5 is older than its journal"
        )
    replay = MemoryStore(stored.config)
    replay.population, replay.sessions = stored.population, stored.sessions
    for number, record in enumerate(contents.records, start=contents.base + 1):
        if number <= stored.records:
            continue
        try:
            _apply(record, replay)
        except records.ERRORS as error:
            raise StoreError(
                f"{path}: record {number} does not fit the run: {allowed.line(error)}; tools/verify.py --repair keeps "
                "what stands before it"
            ) from None
        stored.records = number


def salvage(folder: Path) -> tuple[StoredRun, list[str]]:
    """All of a run that can be read up to its last record, also of a damaged one or one under way, and what is wrong
    with it; changes nothing and takes no lock. Raises StoreError where population.h5 cannot be read."""
    for attempt in range(3):
        stored, problems = _salvaged(folder)
        if not problems:
            break
        time.sleep(0.05 * attempt)  # the files may have been renewed between the reading of one and the other
    return stored, problems


def _salvaged(folder: Path) -> tuple[StoredRun, list[str]]:
    stored, faults = runfile.examine(folder)
    if faults:  # what the journal says follows on what is wrong
        return stored, faults
    try:
        contents, damage = journal.scan(folder / "journal")
        problems = [] if damage is None else [damage]
        _replay(stored, contents, folder / "journal")
    except (journal.JournalError, StoreError) as error:
        problems = [str(error)]
    return stored, problems
