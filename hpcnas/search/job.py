"""One job: from the command line to what each rank does, and to the exit code that all of them return.

    rank 0 reads and checks ─► broadcast ─► every rank describes its seat ─► all bindings ─► controller | worker

A mistake is found on rank 0, printed once, and every rank leaves with exit code 2. Heavy modules are imported only by
the rank that needs them: HDF5 by the controller (`session`), torch by no rank at all.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcnas import plugins
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.job import devices, log
from hpcnas.job.launch import Leave, first_decides, load_plugins, say, started_as
from hpcnas.job.signals import Signals
from hpcnas.job.status import COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.job.world import FAREWELL, MpiWorld, World
from hpcnas.messages import Place
from hpcnas.search import attention, worker
from hpcnas.training.evaluator import Evaluator

if TYPE_CHECKING:
    from hpcnas.search.session import SearchSession


@dataclass(frozen=True)
class Orders:
    """What rank 0 tells every rank."""

    config: SearchConfig
    dry_run: bool
    measure: bool  # in a dry run


def run(world: World, arguments: list[str], signals: Signals) -> int:
    """This rank's part of the job; returns its exit code, the same on every rank."""
    orders, session = first_decides(world, lambda: _prepare(arguments, signals))
    if not isinstance(orders, Orders):
        return orders
    settings = orders.config
    seats = devices.told_apart(world.gather(devices.Seat.here()))
    try:
        load_plugins(world, settings.search.plugins)
        bindings = devices.bind(seats, settings.run.device, settings.run.threads)
    except (Leave, devices.DeviceError) as error:
        if world.rank == 0:
            print(f"{_name()}: {error}", file=sys.stderr)
        if session is not None:
            session.refuse()
        return WRONG_USE
    line = log.LiveLine(settings.run.progress)
    log.configure(world.rank, line)
    if orders.dry_run:
        from hpcnas.search import dry_run

        return dry_run.run(world, settings, seats, bindings, make_evaluator, orders.measure, signals)
    if session is not None:
        if isinstance(world, MpiWorld) and world.size > 1:
            return session.control(world.controller(), world.size - 1, world.library, line, signals)
        return _alone(settings, session, seats[0], bindings[0], line, signals)
    assert isinstance(world, MpiWorld), "only rank 0 has a session"
    binding = bindings[world.rank - 1]
    place = Place(world.rank, seats[world.rank].host, binding.device)
    del seats, bindings  # those of hundreds of ranks
    end = attention.Audible(world.worker(), attention.patience(settings.run.hang_timeout))
    return worker.run(end, place, make_evaluator(settings, binding), settings.measure)


def _prepare(arguments: list[str], signals: Signals) -> tuple[Orders, SearchSession | None]:
    """On rank 0: the configuration, and the run opened or created. Raises Leave."""
    from hpcnas.config import options
    from hpcnas.search.session import RunFinished, RunRefused, SearchSession
    from hpcnas.storage.lock import Interrupted

    try:
        request = options.parse(arguments)
        session = SearchSession.open(request, lambda: signals.first, lambda text: say(f"{_name()}: {text}"))
    except options.HelpWanted as help:
        raise Leave(str(help).rstrip(), COMPLETE) from None
    except RunFinished as finished:
        raise Leave(str(finished), COMPLETE) from None
    except Interrupted as interrupted:
        raise Leave(f"{_name()}: {interrupted}", MORE_TO_DO) from None
    except (options.UsageError, ConfigError, RunRefused) as error:
        raise Leave(f"{_name()}: {error}", WRONG_USE) from None
    return Orders(session.config, request.dry_run, request.measure), None if request.dry_run else session


def _alone(
    settings: SearchConfig,
    session: SearchSession,
    seat: devices.Seat,
    binding: devices.Binding,
    line: log.LiveLine,
    signals: Signals,
) -> int:
    """Controller and worker in one process: the worker in a thread of its own, its trainer in a child as ever."""
    from hpcnas.job.hub import Hub  # which workers over MPI do without

    hub = Hub(workers=1)
    place = Place(0, seat.host, binding.device)

    def work() -> None:
        try:
            end = attention.Audible(hub.worker(1), attention.patience(settings.run.hang_timeout))
            worker.run(end, place, make_evaluator(settings, binding), settings.measure)
        except BaseException as error:
            hub.broke(error)

    thread = threading.Thread(target=work, name="worker", daemon=True)  # not waited for after an exception
    thread.start()
    exit_code = session.control(hub.controller(), 1, "none", line, signals)
    thread.join(FAREWELL)  # an evaluator of others may never return
    return exit_code


def make_evaluator(settings: SearchConfig, binding: devices.Binding) -> Evaluator:
    """The configured evaluator, starting."""
    if settings.evaluation.evaluator in plugins.evaluators():
        from hpcnas.search.plugged import PluggedEvaluator

        return PluggedEvaluator(settings, binding)
    if settings.evaluation.evaluator == "synthetic":
        from hpcnas.search.synthetic import SyntheticEvaluator

        return SyntheticEvaluator(settings)
    from hpcnas.training.trainer_process import TrainerEvaluator

    return TrainerEvaluator(settings, binding)


def _name() -> str:
    """What messages begin with."""
    return started_as("hpcnas")
