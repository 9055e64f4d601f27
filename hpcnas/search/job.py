"""One job: from the command line to what each rank does, and to the exit code that all of them return.

    rank 0 reads and checks ─► broadcast ─► every rank describes its seat ─► all bindings ─► controller | worker

A mistake is found on rank 0, printed once, and every rank leaves with exit code 2. Heavy modules are imported only by
the rank that needs them: HDF5 by the controller (`session`), torch by no rank at all.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcnas import plugins
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.job import devices, log
from hpcnas.job.launch import Leave, first_decides, load_plugins, say, started_as
from hpcnas.job.signals import Signals
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.job.world import FAREWELL, MpiWorld, World
from hpcnas.messages import Place
from hpcnas.search import attention, worker
from hpcnas.training.evaluator import Evaluator, EvaluatorRefused, Loaded, warnings

if TYPE_CHECKING:
    from hpcnas.search.session import SearchSession


@dataclass(frozen=True)
class Orders:
    """What rank 0 tells every rank."""

    config: SearchConfig
    dry_run: bool


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
        return _dry_run(world, settings, seats, bindings)
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
    return Orders(session.config, request.dry_run), None if request.dry_run else session


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


@dataclass(frozen=True)
class _Looked:
    """What the first worker has found: its data, and lines about how it trains."""

    facts: DataFacts
    training: list[str]


def _dry_run(world: World, settings: SearchConfig, seats: list[devices.Seat], bindings: list[devices.Binding]) -> int:
    """Prints what a search would do. The first worker looks at the data, as it would in a search."""
    found: _Looked | tuple[str, int] | None = None
    first_worker = min(1, world.size - 1)
    if world.rank == first_worker:
        with contextlib.closing(make_evaluator(settings, bindings[0])) as evaluator:
            try:
                while (loaded := evaluator.ready(timeout=1.0)) is None:
                    pass
                found = _Looked(loaded.facts, _trains(loaded, warnings(evaluator)))
            except EvaluatorRefused as refusal:
                found = str(refusal), MORE_TO_DO if refusal.passes else WRONG_USE
            except plugins.PluginFault as fault:
                found = str(fault), BROKEN
    found = world.gather(found)[first_worker]
    if world.rank == 0:
        from hpcnas.search import dry_run

        if isinstance(found, _Looked):
            print(dry_run.text(settings, found.facts, seats, bindings, found.training), flush=True)
        else:
            print(f"{_name()}: {found[0]}", file=sys.stderr)
    return COMPLETE if isinstance(found, _Looked) else found[1]


def _trains(loaded: Loaded, remarks: list[str]) -> list[str]:
    """Lines about how a worker trains, where it does, and what it has said beside that."""
    name = loaded.software.get("training")
    if name is None:
        return remarks
    told = f"trains: {name}"
    if loaded.slower:
        told = f"{told}: SLOWER THAN IT MIGHT BE, {loaded.slower}"
    return [told, *(text for text in remarks if not loaded.slower or loaded.slower not in text)]


def _name() -> str:
    """What messages begin with."""
    return started_as("hpcnas")
