"""The controller's session of a run: opens or creates it, lets the search go on, and leaves its results behind.

RUN/best.toml   the best genotype, once the search is complete
RUN/status      state, counts and time: written first, now and then, and last, by rename, for job scripts to decide on
RUN/log         what the controller said
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import platform
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hpcnas import __version__
from hpcnas.architecture.mutation import DrawingStopped
from hpcnas.config import class_weights
from hpcnas.config import search as search_config
from hpcnas.config.options import Request
from hpcnas.errors import Error
from hpcnas.evolution import objectives
from hpcnas.evolution.budget import is_complete
from hpcnas.evolution.registry import make_strategy, prediction, sizing
from hpcnas.job import log, walltime
from hpcnas.job.session import Session
from hpcnas.job.signals import Signals
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, write_status
from hpcnas.job.transport import ControllerEnd
from hpcnas.messages import Result
from hpcnas.plugins import PluginFault
from hpcnas.search import controller, run_file
from hpcnas.search.attention import Attention, patience
from hpcnas.search.file_store import FileStore, RunExists
from hpcnas.search.initial import looked_up
from hpcnas.search.memory_store import MemoryStore
from hpcnas.search.metrics import SearchMetrics, about
from hpcnas.search.progress import Progress, final_table, front_table
from hpcnas.storage import lock
from hpcnas.storage.folder import StoreError
from hpcnas.storage.held import Take, once_more_if_gone
from hpcnas.tracking import choice
from hpcnas.tracking.trackers import Trackers

_STATUS_INTERVAL = 10.0  # seconds between renewals of RUN/status at the least
_logger = logging.getLogger("hpcnas")


class RunRefused(Error):
    """The run cannot be created or continued as asked: text for a person."""


class RunFinished(Exception):
    """There is nothing left to do: the result, as text."""


class SearchSession:
    """One start of the controller on a run. `store` is None in a dry run, which only reads the run, if there is one."""

    def __init__(
        self,
        settings: search_config.SearchConfig,
        store: FileStore | None,
        new: bool = False,
        remarks: Sequence[str] = (),
    ) -> None:
        """`new`: whether this session has made the run; `remarks` on its settings, for the log."""
        self.config = settings
        self._store = store
        self._new = new
        self._remarks = tuple(remarks)

    @classmethod
    def open(
        cls,
        request: Request,
        leave: Callable[[], str | None] = lambda: None,
        say: Callable[[str], object] = lambda text: None,
    ) -> SearchSession:
        """The run that the request names, created if it does not exist. `leave` and `say` as of `lock.take`; a dry run
        has no log, so that `say` is told what the log would. Raises RunRefused, RunFinished, ConfigError,
        lock.Interrupted."""
        asked = search_config.build(*request.layers).run
        folder = Path(asked.run)
        take = functools.partial(lock.take, wait=asked.lock_wait, leave=leave, say=say)
        try:
            opened = once_more_if_gone(lambda: cls._opened(folder, request, take, say), lambda: not _is_gone(folder))
        except StoreError as error:
            raise RunRefused(str(error)) from None
        if isinstance(opened, SearchSession):
            return opened
        store = opened
        remarks: list[str] = []
        try:
            settings = cls._continued(folder, store, request, remarks.append)
            session = cls(settings, store, remarks=remarks)
            if not store.sessions:  # nothing is bound to its settings yet
                store.begin_anew(session.config)
            elif is_complete(session.config.search, store.population):
                store.compact()  # the job that finished it may have been killed before it had written all
                session._conclude(store, COMPLETE)
                _leave_if_complete(folder, session.config, store)
        except StoreError as error:
            store.close()
            raise RunRefused(str(error)) from None
        except BaseException:
            store.close()
            raise
        return session

    @classmethod
    def _opened(
        cls, folder: Path, request: Request, take: Take, say: Callable[[str], object]
    ) -> SearchSession | FileStore:
        """A new run's session, or that of a dry run; else the store of the run that is there. Raises StoreError,
        RunRefused, RunFinished, ConfigError."""
        if not FileStore.exists(folder):
            run_file.refuse_retraining(folder)
            remarks: list[str] = []
            tell = say if request.dry_run else remarks.append
            settings = looked_up(_written_out(search_config.build(*request.base, *request.layers)), tell)
            choice.check(settings.run)
            if request.dry_run:
                return cls(settings, None)
            with contextlib.suppress(RunExists):  # since the lock was waited for
                return cls(settings, FileStore.create(folder, settings, take=take), new=True, remarks=remarks)
        if request.dry_run:
            found = FileStore.read(folder)
            settings = cls._continued(folder, found, request, say)
            _leave_if_complete(folder, settings, found)
            return cls(settings, None)
        return FileStore.open(folder, take=take)

    @staticmethod
    def _continued(
        folder: Path, store: MemoryStore, request: Request, say: Callable[[str], object]
    ) -> search_config.SearchConfig:
        """The settings with which a run goes on; changes nothing. Raises RunRefused, RunFinished, ConfigError."""
        settings = _written_out(search_config.build(search_config.lasting(store.config), *request.layers))
        choice.check(settings.run)
        if not store.sessions:
            return looked_up(settings, say)
        if store.config.search.initial is not None:  # what the run began with, whatever stands there by now
            settings = replace(settings, search=replace(settings.search, initial=store.config.search.initial))
        changed = search_config.differences(store.config, settings)
        if changed:
            listing = "\n  ".join(changed)
            raise RunRefused(
                f"the run {folder} was made with other settings; leave them out to continue it, or choose "
                f"another --run:\n  {listing}"
            )
        return settings

    def close(self) -> None:
        """Lets go of the run."""
        if self._store is not None:
            self._store.close()

    def refuse(self) -> None:
        """Lets go of the run, which cannot be searched here as is asked for, as it was; a new one goes."""
        if self._store is not None and self._new:
            self._store.abandon()
        else:
            self.close()

    def control(self, end: ControllerEnd, workers: int, mpi_library: str, line: log.LiveLine, signals: Signals) -> int:
        """Searches with workers 1 to `workers`; returns the exit code."""
        store = self._store
        assert store is not None, "a dry run searches nothing"
        self._begin_log(store)
        progress = _Observer(
            self.config, line, store, lambda: self._write_status(store, MORE_TO_DO), lambda: self._trackers(store)
        )
        self._tell_beginning(store, workers, progress)
        status = _status_before(store)
        self._write_status(store, MORE_TO_DO)  # and so it stays if this session is killed
        search = self._controller(store, end, range(1, workers + 1), mpi_library, progress, signals)
        exit_code = BROKEN  # should an exception end it
        try:
            exit_code = self._search(search, store)
        finally:
            line.clear()
            if search.refused:
                _put_back(store, "status", status)
                self.refuse()
            else:
                self._conclude(store, exit_code)  # while no other job can open the run
                progress.metrics.close(complete=exit_code == COMPLETE)
                store.close()
        return exit_code

    def _begin_log(self, store: FileStore) -> None:
        """From now on, what is said stands in RUN/log too; begins with what a person should know about the folder."""
        try:
            log.also_to_file(store.place.open_log())
        except StoreError as error:
            _logger.warning("going on without RUN/log: %s", error)
        for remark in store.remarks:
            _logger.warning("%s", remark)

    def _tell_beginning(self, store: FileStore, workers: int, progress: Progress) -> None:
        """Says which run is searched, by how many workers, and what is in it so far."""
        _logger.info("run %s: %d workers, budget %d", store.folder, workers, self.config.search.budget)
        for remark in self._remarks:
            _logger.info("%s", remark)
        if store.sessions:
            progress.resumed(store.population)
        if older := store.population.older_hashes:
            _logger.info(
                "%d individuals carry an older version of the network's hash, which joined some that differ: they are "
                "looked at again, and from now on births are decided by today's (hpcnas verify says what it did)",
                older,
            )

    def _controller(
        self,
        store: FileStore,
        end: ControllerEnd,
        ranks: range,
        mpi_library: str,
        progress: _Observer,
        signals: Signals,
    ) -> controller.Controller:
        """The controller of this session, which leaves at a signal and when the job's time is up."""
        run = self.config.run
        reason = walltime.reason_to_leave(run.walltime, run.grace, signals, _logger.warning)

        def attend() -> None:  # drawing may go on for minutes where next to nothing is allowed
            if (why := reason()) is not None:
                raise DrawingStopped(why)

        return controller.Controller(
            self.config,
            store,
            lambda facts: progress.metrics.of(make_strategy(self.config, facts, attend)),
            end,
            ranks,
            _software(mpi_library),
            progress,
            reason_to_leave=reason,
            attention=Attention(ranks, patience(run.hang_timeout)),
        )

    def _search(self, search: controller.Controller, store: FileStore) -> int:
        """Runs the search to its end, and says why where that is not the budget's; returns the exit code."""
        try:
            search.run()
        except controller.SearchStopped as stop:
            if stop.exit_code == MORE_TO_DO:
                population, budget = store.population, self.config.search.budget
                stopped = f", {population.stopped} stopped early" if population.stopped else ""
                known, waiting = population.searched, population.in_flight
                _logger.info("left with %d of %d evaluated%s and %d in flight", known, budget, stopped, waiting)
            else:
                log.fault(str(stop), stop.traceback)
            return stop.exit_code
        except PluginFault as fault:
            log.fault(str(fault), "".join(traceback.format_exception(fault)))
            return BROKEN
        except StoreError as error:
            _logger.error("%s", error)
            return BROKEN
        return COMPLETE

    def _trackers(self, store: FileStore) -> Trackers:
        """Those that are wanted, started."""
        folder = store.place.where() or store.folder
        return choice.start(self.config.run, store.place, about(self.config, store.run, folder.name))

    def _conclude(self, store: FileStore, exit_code: int) -> None:
        """Writes what is left behind; a folder that cannot be written to is reported."""
        population = store.population
        if exit_code == COMPLETE and population.best is not None:
            best = store.folder / "best.toml"
            _leave_behind(store, best.name, population.individual(population.best).genotype.text().encode())
        self._write_status(store, exit_code)
        if exit_code == COMPLETE and population.best is not None:
            _logger.info("the search is complete\n%s\n  genotype           %s", _found(self.config, store), best)

    def _write_status(self, store: FileStore, exit_code: int) -> None:
        """Says where the run stands, as the exit code would."""
        population, search = store.population, self.config.search
        stopped = {"stopped": population.stopped} if search.early_stopping else {}
        confirmations = {"confirmations": population.confirmations} if search.confirm else {}
        write_status(
            store.folder / "status",
            store.leave_behind,
            exit_code,
            evaluated=population.searched,
            budget=search.budget,
            **stopped,
            **confirmations,
            trainings=round(population.trainings, 3),
            failed=len(population.failures),
        )


def _written_out(settings: search_config.SearchConfig) -> search_config.SearchConfig:
    """They with class weights that a file may lose. Raises ConfigError."""
    weights = class_weights.written_out(settings.training.class_weights)
    return replace(settings, training=replace(settings.training, class_weights=weights))


class _Observer(Progress):
    """Progress; RUN/status for job scripts: if this session is killed, it says how far that had come; and what trackers
    get. Binds the run to the settings of the session when that begins, and not before: it may still be refused."""

    def __init__(
        self,
        settings: search_config.SearchConfig,
        line: log.LiveLine,
        store: MemoryStore,
        write_status: Callable[[], None],
        start_trackers: Callable[[], Trackers],
    ) -> None:
        super().__init__(settings.search, line, settings.measure)
        self.metrics = SearchMetrics()
        self._start_trackers = start_trackers
        self._settings, self._store = settings, store
        self._write_status = write_status
        self._written = -_STATUS_INTERVAL  # the first result is told at once

    def began(self, session: Session) -> None:
        super().began(session)
        self._store.config = self._settings
        self.metrics.begin(self._start_trackers(), self._store.population)

    def turned(self, store: MemoryStore, busy: int, workers: int) -> None:
        super().turned(store, busy, workers)
        self.metrics.turned(busy, workers)

    def settled(self, result: Result, store: MemoryStore) -> None:
        super().settled(result, store)
        self.metrics.settled(store.population)
        now = time.monotonic()
        if now - self._written >= _STATUS_INTERVAL:
            self._written = now
            self._write_status()


def _software(mpi_library: str) -> dict[str, str]:
    """Names and versions of what rank 0 computes with."""
    return {
        "hpcnas": __version__,
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "h5py": importlib.metadata.version("h5py"),
        "mpi": mpi_library,
    }


def _is_gone(folder: Path) -> bool:
    try:
        return not FileStore.exists(folder)
    except StoreError:
        return False


def _found(settings: search_config.SearchConfig, store: MemoryStore) -> str:
    """What the search has found: the final table and, where cost counts, the front."""
    table, search = final_table(store.population, store.workers, settings.measure), settings.search
    if not len(store.population.evaluated):
        return table
    if told := prediction(settings, store.sessions[0].facts, store.population):
        return f"{table}\n  predictions: {told}"
    if search.strategy != "nsga2":
        return table
    cost = objectives.cost(search.objective, sizing(settings, store.sessions[0].facts))
    return f"{table}\n{front_table(store.population, objectives.words(search.objective), cost)}"


def _leave_if_complete(folder: Path, settings: search_config.SearchConfig, store: MemoryStore) -> None:
    """Raises RunFinished where there is nothing left to do."""
    if is_complete(settings.search, store.population):
        done = store.population.searched + store.population.stopped
        limit = "--budget" if done >= settings.search.budget else "--trainings"
        table = _found(settings, store)
        raise RunFinished(f"the run {folder} is finished (a larger {limit} continues it)\n{table}")


def _status_before(store: FileStore) -> bytes | None:
    """RUN/status as earlier sessions have left it; None where there is none that can be read."""
    with contextlib.suppress(OSError, StoreError):
        return store.place.read("status")
    return None


def _put_back(store: FileStore, name: str, content: bytes | None) -> None:
    """Gives a file of the run the content that it had; None: there was none."""
    if content is None:
        store.place.remove(name)
    else:
        _leave_behind(store, name, content)


def _leave_behind(store: FileStore, name: str, content: bytes) -> None:
    """Gives a file of the run new content; a folder that cannot be written to is reported, and no more."""
    try:
        store.leave_behind(name, content)
    except OSError as error:
        _logger.error("%s: expected to write it: %s", store.folder / name, error.strerror)
