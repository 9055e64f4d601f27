"""One job of a retraining: from the command line to what each rank does, and to the exit code that all of them return.

    rank 0 reads and checks ─► broadcast ─► bindings ─► data ─► process group ─► trainings, one seed after another

A mistake is found before anything is trained, printed once, and every rank leaves with exit code 2. Rank 0 alone reads
and writes the folder of the run, and speaks: its `keeper` is another one than that of the others. All ranks train
(`loop`). Torch is imported only when the rank's device is known.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcnas import collector
from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype
from hpcnas.config import class_weights
from hpcnas.config.data_spec import DataError
from hpcnas.config.options import HelpWanted, UsageError, parse
from hpcnas.config.retraining import RETRAINING, RetrainingConfig
from hpcnas.config.settings import ConfigError
from hpcnas.errors import Error
from hpcnas.job import allocator, devices, log, walltime
from hpcnas.job.launch import Abandoned, Leave, first_decides, load_plugins, say, started_as, together
from hpcnas.job.signals import Signals
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.job.world import World
from hpcnas.plugins import PluginFault
from hpcnas.retrain import inspection, shares
from hpcnas.retrain.hearing import Impatience
from hpcnas.retrain.keeper import Bystander, Keeper
from hpcnas.retrain.record import Origin, Start
from hpcnas.retrain.record_keeper import RecordKeeper
from hpcnas.retrain.session import RetrainingFinished, RetrainingRefused, open_retraining, read_plan
from hpcnas.storage.lock import Interrupted
from hpcnas.training import causes

if TYPE_CHECKING:
    import torch

    from hpcnas.retrain.feed import Appearance, Feed
    from hpcnas.retrain.process_group import Group

Reason = Callable[[], str | None]
_logger = logging.getLogger("hpcnas")


@dataclass(frozen=True)
class Orders:
    """What rank 0 tells every rank."""

    recipe: RetrainingConfig  # as it is gone by: with smaller batches where memory has asked for them
    genotype: Genotype
    origin: Origin
    seeds: tuple[int, ...]  # of the trainings that are not complete
    start: Start | None  # the weights that a training begins with; None where they are drawn, or none begins
    dry_run: bool
    measure: bool = False  # in a dry run
    begins: bool = True  # whether no training has been begun, or all of them begin anew


class UnusableDevice(Error):
    """A device that torch cannot use: one sentence."""


def run(world: World, arguments: list[str], signals: Signals) -> int:
    """This rank's part of the job; returns its exit code, the same on every rank."""
    orders, kept = first_decides(world, lambda: _prepare(arguments, signals))
    if not isinstance(orders, Orders):
        return orders
    keeper: Keeper = Bystander() if kept is None else kept
    unsaid: list[str] = []  # until there is a log
    reason = _reason_to_leave(world, orders, signals, unsaid.append)
    exit_code = BROKEN  # should an exception end it
    if world.rank == 0:
        world.hears = Impatience(reason)
    try:
        load_plugins(world, orders.recipe.network.plugins)
        exit_code = _carry_out(world, orders, keeper, reason, unsaid)
    except Leave as leave:  # on all ranks alike
        exit_code = leave.exit_code
        if keeper.logs:
            _logger.error("%s", leave)
        elif world.rank == 0:
            print(f"{_name()}: {leave}", file=sys.stderr, flush=True)
    except PluginFault as fault:
        if keeper.logs:
            log.fault(str(fault), "".join(traceback.format_exception(fault)))
        raise
    except Abandoned as abandoned:
        exit_code = MORE_TO_DO  # what is saved counts
        if world.rank == 0:
            _logger.error("%s", abandoned)
        raise
    finally:
        keeper.close(exit_code)
    return exit_code


def _prepare(arguments: list[str], signals: Signals) -> tuple[Orders, RecordKeeper | None]:
    """On rank 0: what is to be trained, and the keeper of the folder, opened or created; none in a dry run. Raises
    Leave."""
    try:
        request = parse(arguments, RETRAINING)
        if request.dry_run:
            keeper, plan = None, read_plan(request)
        else:
            keeper = open_retraining(request, lambda: signals.first, lambda text: say(f"{_name()}: {text}"))
            plan = keeper.plan
    except HelpWanted as help:
        raise Leave(str(help).rstrip(), COMPLETE) from None
    except RetrainingFinished as finished:
        raise Leave(str(finished), COMPLETE) from None
    except Interrupted as interrupted:
        raise Leave(f"{_name()}: {interrupted}", MORE_TO_DO) from None
    except (UsageError, ConfigError, RetrainingRefused) as error:
        raise Leave(f"{_name()}: {error}", WRONG_USE) from None
    recipe = plan.recipe.with_smaller_batches(plan.micro_batch)
    begins = plan.record is None or plan.anew
    orders = Orders(
        recipe, plan.genotype, plan.origin, plan.waiting, plan.start, request.dry_run, request.measure, begins
    )
    return orders, keeper


def _reason_to_leave(world: World, orders: Orders, signals: Signals, warn: Callable[[str], None]) -> Reason:
    """Why this rank is to leave, once it is. Rank 0 alone knows when the job ends, which it finds out here and once."""
    if world.rank == 0 and not orders.dry_run:
        return walltime.reason_to_leave(orders.recipe.run.walltime, orders.recipe.run.grace, signals, warn)
    return lambda: signals.first


def _carry_out(world: World, orders: Orders, keeper: Keeper, reason: Reason, unsaid: list[str]) -> int:
    recipe = orders.recipe
    seats = devices.told_apart(world.gather(devices.Seat.here()))
    try:
        bindings = devices.bind_all(seats, recipe.run.device, recipe.run.threads)
    except devices.DeviceError as error:
        raise Leave(str(error), WRONG_USE) from None
    _check_ranks(recipe, seats, bindings)
    line = log.LiveLine(recipe.run.progress)
    log.configure(world.rank, line)
    if orders.dry_run:
        return _dry_run(world, orders, seats, bindings, reason)
    keeper.begin(line)
    for text in unsaid:
        _warning(text)
    device = _device(world, bindings[world.rank])
    feed = inspection.open_feed(world, recipe, device, bindings[world.rank].threads)
    orders = replace(orders, recipe=recipe.on_images(feed.appearance.facts.training_images))
    try:
        return _train_all(world, orders, keeper, feed, bindings[0].device, device, reason)
    finally:
        feed.close()


def _dry_run(
    world: World, orders: Orders, seats: list[devices.Seat], bindings: list[devices.Binding], reason: Reason
) -> int:
    """Rank 0 prints what the retraining would do; with --measure all ranks train some steps of it first."""
    from hpcnas.retrain import dry_run

    cost = _measure(world, orders, bindings, reason) if orders.measure else []
    told = together(
        world,
        lambda: dry_run.text(orders.recipe, orders.genotype, orders.origin, seats, bindings, cost)
        if world.rank == 0
        else None,
    )
    if told is not None:
        print(told, flush=True)
    return COMPLETE


def _measure(world: World, orders: Orders, bindings: list[devices.Binding], reason: Reason) -> list[str]:
    """Lines about what the retraining will cost, by some steps. Raises Leave."""
    from hpcnas.retrain import dry_run, timekeeper

    recipe = dry_run.at_hand(orders.recipe)
    if recipe is None:
        return ["not measured: the images are not here"]
    keeper, binding = timekeeper.Timekeeper(), bindings[world.rank]
    device = _device(world, binding)
    feed = inspection.open_feed(world, recipe, device, binding.threads)
    try:
        recipe = recipe.on_images(feed.appearance.facts.training_images)
        some = replace(orders, recipe=recipe, seeds=tuple(recipe.seeds[:1]), start=None)
        _train_all(world, some, keeper, feed, bindings[0].device, device,
                   lambda: "measured" if keeper.enough() else reason())  # fmt: skip
    finally:
        feed.close()
    if (signal := next(filter(None, world.gather(reason())), None)) is not None:
        raise Leave(f"{signal} came before all was measured", MORE_TO_DO)
    found = world.gather(together(world, keeper.timed, BROKEN))
    return timekeeper.told(recipe.training, found, recipe.training.runs)


def _check_ranks(recipe: RetrainingConfig, seats: list[devices.Seat], bindings: list[devices.Binding]) -> None:
    """Whether every rank gets work and, as far as that is known, a device of its own. Raises Leave."""
    ranks, training = len(seats), recipe.training
    if ranks > shares.most_ranks(recipe):
        each, or_else = f"{training.micro_batch} images", ""
        if training.batch_statistics == "step":
            each = "image"
        elif training.micro_batch > 2:
            or_else = ", or give a smaller --micro-batch to a new --run"
        raise Leave(
            f"expected at most {shares.most_ranks(recipe)} ranks, one for each {each} of a batch of "
            f"{training.batch_size}, got {ranks}; start fewer{or_else}",
            WRONG_USE,
        )
    without = sorted({seat.host for seat, each in zip(seats, bindings, strict=True) if each.gpu is None})
    if without and any(each.gpu for each in bindings):
        raise Leave(
            f"expected a GPU for every rank or for none, but ranks on {', '.join(without)} see none and others do; "
            "check CUDA_VISIBLE_DEVICES and nvidia-smi there, or use --device cpu",
            WRONG_USE,
        )
    for host in sorted({seat.host for seat in seats}):
        here = [each.card for seat, each in zip(seats, bindings, strict=True) if seat.host == host and each.card]
        if len(set(here)) < len(here):
            raise Leave(
                f"expected a GPU for every rank, but {len(here)} ranks share {len(set(here))} on {host}; "
                f"start {len(set(here))} there",
                WRONG_USE,
            )


def _device(world: World, binding: devices.Binding) -> torch.device:
    """The device of this rank, made ready. Raises Leave on all ranks where torch cannot use that of one of them."""
    os.environ.update(devices.device_variables(binding.gpu))  # before torch looks
    with collector.spared_imports():
        import torch

    together(world, lambda: _check_usable(binding.gpu))
    torch.set_num_threads(binding.threads)
    if binding.gpu is None:
        allocator.keep_memory()
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True  # all micro-batches are of one shape
    torch.cuda.set_device(0)
    return torch.device("cuda", 0)


def _number_of(recipe: RetrainingConfig, device: torch.device) -> torch.dtype:
    """The type of the numbers of this rank's feature maps."""
    from hpcnas.retrain import loop  # torch

    return loop.numbers(recipe.training, device)


def _check_usable(gpu: str | None) -> None:
    import torch

    if gpu is not None and not torch.cuda.is_available():
        raise UnusableDevice(
            f"expected the GPU {gpu} to be usable, but torch {torch.__version__} sees none; "
            "install a torch that was built for it, or use --device cpu"
        )


def _train_all(
    world: World, orders: Orders, keeper: Keeper, feed: Feed, first: str, device: torch.device, reason: Reason
) -> int:
    """A look at what is to be tested, then one training after another; the exit code, the same on every rank. `first`
    is what rank 0's device is called."""
    from hpcnas.retrain import fitting
    from hpcnas.retrain.process_group import AddressError, Group, PeerFailed, PeerLost

    group: Group | None = None
    try:
        group = Group(world, device, orders.recipe.run.address, lambda: _is_to_leave(reason, keeper))
        if not orders.dry_run:
            inspection.look(group, orders.recipe, feed)
        given, sizes = orders.recipe.training.class_weights, feed.appearance.class_sizes
        together(world, lambda: class_weights.scaled(given, sizes))  # before the training
        weights = together(world, lambda: _start(orders, feed.appearance) if world.rank == 0 else None)
        graph, recipe = expansion.expand(orders.genotype), orders.recipe
        skeleton, number = recipe.skeleton(feed.appearance.facts), _number_of(recipe, device)
        fit = fitting.fit(world, recipe, graph, skeleton, number.itemsize, device, orders.begins)
        orders = replace(orders, recipe=recipe.with_smaller_batches(fit.micro_batch))
        feed.use(orders.recipe, fit.scored)
        _appear(world, orders.recipe, keeper, feed, first, device, fit.micro_batch)
        exit_code = COMPLETE
        for seed in orders.seeds:
            exit_code = _train(world, orders, seed, keeper, feed, group, device, reason, weights, fit.recomputed)
            if exit_code != COMPLETE:
                break
        group.close()
        return exit_code
    except AddressError as error:
        raise Leave(str(error), WRONG_USE) from None
    except PeerLost as lost:
        raise Abandoned(f"{lost}; the same command goes on from what is saved") from None
    except PeerFailed as failed:  # all ranks hear the same
        world.waits = True
        raise Leave(str(failed), BROKEN) from None
    except (Leave, PluginFault):
        raise
    except Exception as error:
        told = None if group is None else group.tell(inspection.sentence(world, error))
        if told is None:
            raise
        if not causes.is_out_of_memory(error):
            traceback.print_exc()
        world.waits = world.size > 1
        raise Leave(told, BROKEN) from None
    finally:
        if group is not None:
            group.stop_listening()


def _start(orders: Orders, found: Appearance) -> dict[str, torch.Tensor] | None:
    """On rank 0: the weights that trainings begin with; a person is told what they do not have. Raises
    UnusableWeights."""
    from hpcnas.retrain import trained_weights

    start = orders.start
    if start is None:
        return None
    weights = trained_weights.read(start.file, expansion.expand(orders.genotype), orders.recipe.skeleton(found.facts))
    if trained_weights.classes_differ(weights):
        _warning(f"the weights of {start.file} are not of {found.facts.classes} classes: the classifier begins anew")
    elif start.class_names not in ((), found.class_names):
        _warning(f"the weights of {start.file} are of other classes, as many: the classifier begins with theirs")
    return weights


def _appear(
    world: World, recipe: RetrainingConfig, keeper: Keeper, feed: Feed, first: str, device: torch.device,
    micro_batch: int | None,
) -> None:  # fmt: skip
    """The run becomes that of these data; a person is told of them. Raises Leave where it is of others."""
    numbers = str(_number_of(recipe, device)).removeprefix("torch.")
    together(world, lambda: keeper.appear(feed.appearance, world.size, world.library, first, numbers, micro_batch))
    _logger.info("to be tested on %s", feed.tested_on)
    if feed.validation_images:
        _logger.info("to be validated on %s every %d steps", feed.validated_on, recipe.run.validate_every)
    keeper.note_broken(set().union(*world.gather(feed.broken_tests)))


def _train(
    world: World, orders: Orders, seed: int, keeper: Keeper, feed: Feed, group: Group, device: torch.device,
    reason: Reason, weights: dict[str, torch.Tensor] | None, recomputed: bool,
) -> int:  # fmt: skip
    """One training and its test; the exit code, the same on every rank. `weights` are what rank 0 begins with, if it
    does not go on from a checkpoint."""
    from hpcnas.retrain.loop import DistributedTraining
    from hpcnas.retrain.scoring import ImagesMissing, TooManyBroken
    from hpcnas.training.method import LossNotFinite

    recipe, graph = orders.recipe, expansion.expand(orders.genotype)
    skeleton = recipe.skeleton(feed.appearance.facts)
    training = DistributedTraining(graph, skeleton, recipe, seed, feed, group, device, _warning, recomputed)
    state = together(world, lambda: keeper.checkpoint(seed, training))
    if weights is not None and state is None:
        training.start_from(weights)
    training.resume(state)
    keeper.training_begins(seed, training)
    try:
        complete = training.run(
            leave=lambda: _is_to_leave(reason, keeper),
            save_due=keeper.save_due,
            save=keeper.save,
            made_step=keeper.made_step,
        )
        tested = training.test() if complete and not orders.dry_run else None
        if tested is None:
            together(world, lambda: keeper.left(reason()), BROKEN)
            return MORE_TO_DO
        keeper.note_broken(set().union(*world.gather(feed.broken_tests)))
    except (TooManyBroken, ImagesMissing) as error:  # on all ranks alike
        keeper.broke()
        raise Leave(str(error), BROKEN) from None
    except LossNotFinite as error:  # likewise
        keeper.diverged()
        none_complete = orders.seeds == tuple(recipe.seeds) and seed == orders.seeds[0]
        where = "begin it anew" if none_complete else "are for another --run, since a seed of this one is complete"
        text = f"{error}; another --learning-rate, or other settings of how it trains, {where}"
        raise Leave(text, BROKEN) from None
    except DataError as error:
        raise Leave(str(error), WRONG_USE) from None
    together(world, lambda: keeper.training_complete(seed, training, tested), BROKEN)
    return COMPLETE


def _is_to_leave(reason: Reason, keeper: Keeper) -> bool:
    return reason() is not None or keeper.lost is not None


def _warning(text: str) -> None:
    _logger.warning("%s", text)


def _name() -> str:
    """What messages begin with."""
    return started_as("hpcnas.retrain")
