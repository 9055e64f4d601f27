"""The controller's session of a run: opens or creates it, lets the search go on, and leaves its results behind.

RUN/best.toml   the best genotype, once the search is complete
RUN/status      state, counts and time: written first, now and then, and last, by rename, for job scripts to decide on
RUN/log         what the controller said
"""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpcnas import __version__, config, controller, costs, durable, log, walltime
from hpcnas.attention import Attention, patience
from hpcnas.exits import BROKEN, COMPLETE, MORE_TO_DO, STATES, WRONG_USE
from hpcnas.messages import Result
from hpcnas.options import Request
from hpcnas.progress import Progress, final_table, front_table
from hpcnas.runfile import StoreError
from hpcnas.scheduling import is_complete
from hpcnas.signals import Signals
from hpcnas.sources import looked_up
from hpcnas.store import FileStore, MemoryStore
from hpcnas.strategies import make_strategy, sizing
from hpcnas.transport import ControllerEnd

_STATUS_INTERVAL = 10.0  # seconds between renewals of RUN/status at the least
_logger = logging.getLogger("hpcnas")


class RunRefused(Exception):
    """The run cannot be created or continued as asked: text for a person."""


class RunFinished(Exception):
    """There is nothing left to do: the result, as text."""


class SearchSession:
    """One start of the controller on a run. `store` is None in a dry run of a run that does not exist yet."""

    def __init__(self, settings: config.Config, store: FileStore | None) -> None:
        self.config = settings
        self._store = store

    @classmethod
    def open(cls, request: Request) -> SearchSession:
        """The run that the request names, created if it does not exist. Raises RunRefused, RunFinished, ConfigError."""
        folder = Path(config.build(*request.layers).run.run)
        try:
            if not FileStore.exists(folder):
                settings = looked_up(config.build(*request.base, *request.layers))
                return cls(settings, None if request.dry_run else FileStore.create(folder, settings))
            store = FileStore.open(folder)
        except StoreError as error:
            raise RunRefused(str(error)) from None
        try:
            if not store.sessions:  # its data were never found, say: nothing is bound to its settings yet
                settings = looked_up(config.build(*request.base, *request.layers))
                store.begin_anew(settings)
                return cls(settings, store)
            settings = config.build(config.lasting(store.config), *request.layers)
            if store.config.search.initial is not None:  # what the run began with, whatever stands there by now
                settings = replace(settings, search=replace(settings.search, initial=store.config.search.initial))
            changed = config.differences(store.config, settings)
            if changed:
                listing = "\n  ".join(changed)
                raise RunRefused(
                    f"the run {folder} was made with other settings; leave them out to continue it, or choose "
                    f"another --run:\n  {listing}"
                )
            store.config = settings
            if is_complete(settings.search, store.population):
                if not request.dry_run:  # whoever finished it may have been killed before all was said
                    store.compact()
                    cls(settings, store)._conclude(store, COMPLETE)
                table = _found(settings, store)
                limit = "--budget" if len(store.population.evaluated) >= settings.search.budget else "--trainings"
                raise RunFinished(f"the run {folder} is finished (a larger {limit} continues it)\n{table}")
        except StoreError as error:
            store.close()
            raise RunRefused(str(error)) from None
        except BaseException:
            store.close()
            raise
        return cls(settings, store)

    def close(self) -> None:
        """Lets go of the run."""
        if self._store is not None:
            self._store.close()

    def refuse(self) -> None:
        """Lets go of the run, which cannot be searched here as it is asked for; RUN/status says so."""
        if self._store is not None:
            self._write_status(self._store, WRONG_USE)
            self._store.close()

    def control(self, end: ControllerEnd, workers: int, mpi_library: str, line: log.LiveLine, signals: Signals) -> int:
        """Searches with workers 1 to `workers`; returns the exit code."""
        store, settings = self._store, self.config
        assert store is not None, "a dry run searches nothing"
        log.also_to_file(store.folder / "log")
        progress = _Observer(settings.search, line, lambda: self._write_status(store, MORE_TO_DO))
        _logger.info("run %s: %d workers, budget %d", store.folder, workers, settings.search.budget)
        if store.sessions:
            progress.resumed(store.population)
        self._write_status(store, MORE_TO_DO)  # and so it stays if this session is killed
        software = {
            "hpcnas": __version__,
            "python": platform.python_version(),
            "numpy": importlib.metadata.version("numpy"),
            "h5py": importlib.metadata.version("h5py"),
            "mpi": mpi_library,
        }
        ranks = range(1, workers + 1)
        reason = walltime.reason_to_leave(settings.run.walltime, settings.run.grace, signals, _logger.warning)

        def attend() -> None:  # drawing may go on for minutes where next to nothing is allowed
            if (why := reason()) is not None:
                raise controller.SearchStopped(why, MORE_TO_DO)

        search = controller.Controller(
            settings,
            store,
            lambda facts: make_strategy(settings, facts, attend),
            end,
            ranks,
            software,
            progress,
            reason_to_leave=reason,
            attention=Attention(ranks, patience(settings.run.hang_timeout)),
        )
        exit_code = BROKEN  # should an exception end it
        try:
            search.run()
            exit_code = COMPLETE
        except controller.SearchStopped as stop:
            exit_code, population = stop.exit_code, store.population
            if exit_code == MORE_TO_DO:
                known, budget, waiting = len(population.evaluated), settings.search.budget, population.in_flight
                _logger.info("left with %d of %d evaluated and %d in flight", known, budget, waiting)
            else:
                _logger.error("%s", stop)
        except StoreError as error:
            _logger.error("%s", error)
        finally:
            line.clear()
            self._conclude(store, exit_code)  # while nobody else can open the run
            store.close()
        return exit_code

    def _conclude(self, store: FileStore, exit_code: int) -> None:
        """Writes what is left behind; a folder that cannot be written to is reported."""
        population = store.population
        if exit_code == COMPLETE and population.best is not None:
            best = store.folder / "best.toml"
            _replace_text(best, population.individual(population.best).genotype.text())
        self._write_status(store, exit_code)
        if exit_code == COMPLETE and population.best is not None:
            _logger.info("the search is complete\n%s\n  genotype            %s", _found(self.config, store), best)

    def _write_status(self, store: FileStore, exit_code: int) -> None:
        """Says where the run stands, as the exit code would."""
        population = store.population
        status = {
            "state": STATES[exit_code],
            "evaluated": len(population.evaluated),
            "budget": self.config.search.budget,
            "trainings": population.trainings,
            "failed": len(population.failures),
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        _replace_text(store.folder / "status", "".join(f"{key}={value}\n" for key, value in status.items()))


class _Observer(Progress):
    """Progress, and RUN/status for job scripts: if this session is killed, it says how far that had come."""

    def __init__(self, search: config.Search, line: log.LiveLine, write_status: Callable[[], None]) -> None:
        super().__init__(search, line)
        self._write_status = write_status
        self._written = -_STATUS_INTERVAL  # the first result is told at once

    def settled(self, result: Result, store: MemoryStore) -> None:
        super().settled(result, store)
        now = time.monotonic()
        if now - self._written >= _STATUS_INTERVAL:
            self._written = now
            self._write_status()


def _found(settings: config.Config, store: FileStore) -> str:
    """What the search has found: the final table and, where cost counts, the front."""
    table, search = final_table(store.population), settings.search
    if search.strategy != "nsga2" or not len(store.population.evaluated):
        return table
    cost = costs.cost(search.objective, sizing(settings, store.sessions[0].facts))
    return f"{table}\n{front_table(store.population, costs.NAMES[search.objective], cost)}"


def _replace_text(path: Path, text: str) -> None:
    """Gives a file new content; a folder that cannot be written to is reported, and no more."""
    try:
        durable.replace_text(path, text)
    except OSError as error:
        _logger.error("%s: expected to write it: %s", path, error.strerror)
