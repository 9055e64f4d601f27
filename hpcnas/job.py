"""One job: from the command line to what each rank does, and to the exit code that all of them return.

    rank 0 reads and checks ─► broadcast ─► every rank describes its seat ─► all bindings ─► controller | worker

A mistake is found on rank 0, printed once, and every rank leaves with exit code 2. Heavy modules are imported only by
the rank that needs them: HDF5 by the controller, torch by no rank at all.
"""

from __future__ import annotations

import datetime
import logging
import platform
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from hpcnas import __version__, config, durable, jobenv, log, options, transport, worker
from hpcnas.evaluator import Evaluator, EvaluatorRefused, TrainerEvaluator
from hpcnas.messages import DataFacts, Place
from hpcnas.settings import ConfigError
from hpcnas.transport import ControllerEnd, World

if TYPE_CHECKING:
    from hpcnas.store import FileStore

COMPLETE, BROKEN, WRONG_USE = 0, 1, 2  # exit codes
_logger = logging.getLogger("hpcnas")


class Leave(Exception):
    """The job ends before it began: what to print, and the exit code."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Orders:
    """What rank 0 tells every rank."""

    config: config.Config
    dry_run: bool


def run(world: World, arguments: list[str]) -> int:
    """This rank's part of the job; returns its exit code, the same on every rank."""
    store: FileStore | None = None
    orders: Orders | int
    if world.rank == 0:
        try:
            orders, store = _prepare(arguments)
        except Leave as leave:
            print(leave, file=sys.stdout if leave.exit_code == COMPLETE else sys.stderr, flush=True)
            orders = leave.exit_code
    orders = world.broadcast(orders if world.rank == 0 else None)
    if isinstance(orders, int):
        return orders
    seats = world.gather(jobenv.Seat.here())
    try:
        bindings = jobenv.bind(seats, orders.config.run.device, orders.config.run.threads)
    except jobenv.DeviceError as error:
        if world.rank == 0:
            print(f"hpcnas: {error}", file=sys.stderr)
        return WRONG_USE
    line = log.LiveLine(orders.config.run.progress)
    log.configure(world.rank, line)
    if orders.dry_run:
        return _dry_run(world, orders.config, seats, bindings)
    if isinstance(world, transport.AloneWorld):
        return _alone(orders.config, store, seats[0], bindings[0], line)
    if world.rank == 0:
        return _control(orders.config, store, world.controller(), world.size - 1, world.library, line)
    binding = bindings[world.rank - 1]
    place = Place(world.rank, seats[world.rank].host, binding.device)
    return worker.run(world.worker(), place, _evaluator_factory(orders.config, binding))


# ── before the start, on rank 0 ─────────────────────────────────────────────────────────────────────────────────────
def _prepare(arguments: list[str]) -> tuple[Orders, FileStore | None]:
    """The configuration, and the run opened or created. Raises Leave."""
    try:
        request = options.parse(arguments)
    except options.HelpWanted as help:
        raise Leave(str(help).rstrip(), COMPLETE) from None
    except (options.UsageError, ConfigError) as error:
        raise Leave(f"hpcnas: {error}", WRONG_USE) from None
    from hpcnas.runfile import StoreError
    from hpcnas.store import FileStore

    folder = Path(config.build(*request.layers).run.run)
    try:
        if not FileStore.exists(folder):
            settings = config.build(*request.base, *request.layers)
            store = None if request.dry_run else FileStore.create(folder, settings)
            return Orders(settings, request.dry_run), store
        store = FileStore.open(folder)
    except StoreError as error:
        raise Leave(f"hpcnas: {error}", WRONG_USE) from None
    settings = config.build(store.config.settings(), *request.layers)
    changed = config.differences(store.config, settings)
    if changed:
        listing = "\n  ".join(changed)
        raise Leave(
            f"hpcnas: the run {folder} was made with other settings; leave them out to continue it, or choose "
            f"another --run:\n  {listing}",
            WRONG_USE,
        )
    store.config = settings
    if len(store.population.evaluated) >= settings.search.budget and not store.population.in_flight:
        from hpcnas.progress import final_table

        store.close()
        table = final_table(store.population)
        raise Leave(f"the run {folder} is finished (a larger --budget continues it)\n{table}", COMPLETE)
    if request.dry_run:
        store.close()
        return Orders(settings, dry_run=True), None
    return Orders(settings, dry_run=False), store


# ── roles ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _control(
    settings: config.Config,
    store: FileStore | None,
    end: ControllerEnd,
    workers: int,
    mpi_library: str,
    line: log.LiveLine,
) -> int:
    """The controller's part; returns the exit code."""
    from hpcnas.controller import Controller, SearchStopped
    from hpcnas.evolution import make_strategy
    from hpcnas.progress import Progress, final_table
    from hpcnas.runfile import StoreError

    assert store is not None, "rank 0 has opened the run"
    log.also_to_file(0, store.folder / "log")
    progress = Progress(settings.search.budget, line)
    _logger.info("run %s: %d workers, budget %d", store.folder, workers, settings.search.budget)
    if store.sessions:
        progress.resumed(store.population)
    software = {"hpcnas": __version__, "python": platform.python_version(), "numpy": numpy.__version__}
    controller = Controller(
        settings,
        store,
        lambda facts: make_strategy(settings, facts),
        end,
        range(1, workers + 1),
        {**software, "mpi": mpi_library},
        progress,
    )
    state, exit_code = "complete", COMPLETE
    try:
        controller.run()
    except (SearchStopped, StoreError) as error:
        line.clear()
        _logger.error("%s", error)
        exit_code = error.exit_code if isinstance(error, SearchStopped) else BROKEN
        state = "wrong-use" if exit_code == WRONG_USE else "broken"
    finally:
        line.clear()
        store.close()
    if state == "complete" and store.population.best is not None:
        best = store.folder / "best.toml"
        durable.replace_text(best, store.population.individual(store.population.best).genotype.text())
        _logger.info("the search is complete\n%s\n  genotype            %s", final_table(store.population), best)
    _write_status(store, state, settings.search.budget)
    return exit_code


def _write_status(store: FileStore, state: str, budget: int) -> None:
    """RUN/status, last and by rename: what job scripts decide on, since launchers' exit codes prove nothing."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    population = store.population
    durable.replace_text(
        store.folder / "status",
        f"state={state}\nevaluated={len(population.evaluated)}\nbudget={budget}\n"
        f"failed={len(population.failures)}\ntime={now}\n",
    )


def _alone(
    settings: config.Config,
    store: FileStore | None,
    seat: jobenv.Seat,
    binding: jobenv.Binding,
    line: log.LiveLine,
) -> int:
    """Controller and worker in one process: the worker in a thread of its own, its trainer in a child as ever."""
    hub = transport.Hub(workers=1)
    place = Place(0, seat.host, binding.device)

    def work() -> None:
        try:
            worker.run(hub.worker(1), place, _evaluator_factory(settings, binding))
        except BaseException as error:
            hub.broke(error)

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    try:
        return _control(settings, store, hub.controller(), 1, "none", line)
    finally:
        thread.join()


def _evaluator_factory(settings: config.Config, binding: jobenv.Binding) -> Callable[[], Evaluator]:
    if settings.evaluation.evaluator == "synthetic":
        from hpcnas.synthetic import SyntheticEvaluator

        return lambda: SyntheticEvaluator(settings)
    return lambda: TrainerEvaluator(settings, binding)


def _dry_run(world: World, settings: config.Config, seats: list[jobenv.Seat], bindings: list[jobenv.Binding]) -> int:
    """Prints what a search would do. The first worker looks at the data, as it would in a search."""
    found: DataFacts | str | None = None
    first_worker = min(1, world.size - 1)
    if world.rank == first_worker:
        try:
            evaluator = _evaluator_factory(settings, bindings[0])()
            found = evaluator.facts
            evaluator.close()
        except EvaluatorRefused as refusal:
            found = str(refusal)
    found = world.gather(found)[first_worker]
    if isinstance(found, str):
        if world.rank == 0:
            print(f"hpcnas: {found}", file=sys.stderr)
        return WRONG_USE
    if world.rank == 0:
        from hpcnas import dryrun

        assert found is not None, "the first worker has looked"
        print(dryrun.text(settings, found, seats, bindings), flush=True)
    return COMPLETE
