"""What a search would do, in words (--dry-run): the resolved configuration, network sizes, the devices of workers.

The first worker looks at the data as it would in a search, but downloads none: where they are not at hand, it goes by
what is known of them (`presumed`). With --measure every worker trains a few steps (`costs`), then of made-up images.
Nothing is written.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hpcnas import plugins, seeds
from hpcnas.architecture import expansion, genotype, mutation, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import data_spec
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.presumed import presumed
from hpcnas.config.search import SearchConfig
from hpcnas.config.settings import ConfigError
from hpcnas.job.devices import Binding, Seat
from hpcnas.job.launch import started_as
from hpcnas.job.signals import Signals
from hpcnas.job.status import BROKEN, COMPLETE, MORE_TO_DO, WRONG_USE
from hpcnas.job.world import World
from hpcnas.search import costs
from hpcnas.search.controller import SearchStopped
from hpcnas.training.evaluator import Evaluator, EvaluatorRefused, Loaded, warnings

_SAMPLE = 101  # random genotypes that the typical one is the median of
_UNMEASURED = "evaluations are not trainings: how long they take is not measured"

MakeEvaluator = Callable[[SearchConfig, Binding], Evaluator]
Refusal = tuple[str, int]  # one line, and the exit code


@dataclass(frozen=True)
class _Looked:
    """What the first worker has found: its data, lines about how it trains, and why the data are not at hand."""

    facts: DataFacts
    training: list[str]
    absent: str = ""


# ── on the ranks ────────────────────────────────────────────────────────────────────────────────────────────────────
def run(
    world: World,
    config: SearchConfig,
    seats: Sequence[Seat],
    bindings: Sequence[Binding],
    make: MakeEvaluator,
    measure: bool,
    signals: Signals,
) -> int:
    """This rank's part; rank 0 prints. A worker that measures leaves where a signal asks it to. Returns the exit code,
    the same on every rank."""
    first = min(1, world.size - 1)  # worker
    looked = world.gather(_look(config, bindings[0], make, signals) if world.rank == first else None)[first]
    if not isinstance(looked, _Looked):
        return _refuse(world, looked)
    lines: list[str] = []
    if measure and config.evaluation.evaluator != "training":
        lines = [_UNMEASURED]
    elif measure:
        mine = _measured(config, looked, bindings[world.rank - first], signals) if world.rank >= first else None
        found = world.gather(mine)[first:]
        for one in found:
            if not isinstance(one, costs.WorkerCosts):
                return _refuse(world, one)
        told = world.gather(_forecast(config, looked.facts, found) if world.rank == 0 else None)[0]
        if isinstance(told, tuple):
            return _refuse(world, told)
        lines = told
    if world.rank == 0:
        if looked.absent:
            print(f"{_name()}: the data are not looked at: {looked.absent}", file=sys.stderr)
        print(text(config, looked.facts, seats, bindings, looked.training, lines), flush=True)
    return COMPLETE


def _name() -> str:
    """What messages begin with."""
    return started_as("hpcnas")


def _refuse(world: World, refusal: Refusal) -> int:
    if world.rank == 0:
        print(f"{_name()}: {refusal[0]}", file=sys.stderr)
    return refusal[1]


def _look(config: SearchConfig, binding: Binding, make: MakeEvaluator, signals: Signals) -> _Looked | Refusal:
    """On the first worker."""
    try:
        with contextlib.closing(make(replace(config, run=replace(config.run, download=False)), binding)) as evaluator:
            while (loaded := evaluator.ready(timeout=1.0)) is None:
                if signals.first is not None:
                    return f"{signals.first} came before the data were looked at", MORE_TO_DO
            return _Looked(loaded.facts, _trains(loaded, warnings(evaluator)))
    except EvaluatorRefused as refusal:
        if refusal.of_data and _not_at_hand(config):
            return _Looked(_presumed(config), [], str(refusal))
        return str(refusal), MORE_TO_DO if refusal.passes else WRONG_USE
    except plugins.PluginFault as fault:
        return str(fault), BROKEN


def _not_at_hand(config: SearchConfig) -> bool:
    """Whether the data are in a folder or file that is not there, or would be downloaded."""
    spec = data_spec.parse(config.data.source)
    elsewhere = isinstance(spec, data_spec.DataFolder | data_spec.ArrayData) and not spec.path.exists()
    return config.run.download or elsewhere


def _presumed(config: SearchConfig) -> DataFacts:
    """The data as their specification has them."""
    found = presumed(data_spec.parse(config.data.source))
    held_out, images = round(config.data.validation_fraction * found.count), found.images
    shape = images.image_channels, images.height, images.width, images.classes
    return DataFacts(*shape, found.count - held_out, held_out, f"not read, taken for {found.whose}")


def _trains(loaded: Loaded, remarks: list[str]) -> list[str]:
    """Lines about how a worker trains, where it does, and what it has said beside that."""
    name = loaded.software.get("training")
    if name is None:
        return remarks
    told = f"trains: {name}"
    if loaded.slower:
        told = f"{told}: SLOWER THAN IT MIGHT BE, {loaded.slower}"
    return [told, *(text for text in remarks if not loaded.slower or loaded.slower not in text)]


def _measured(
    config: SearchConfig, looked: _Looked, binding: Binding, signals: Signals
) -> costs.WorkerCosts | Refusal:
    """On every worker."""
    facts = looked.facts
    if looked.absent:
        shape = f"{facts.image_channels}x{facts.height}x{facts.width}"
        source = f"synthetic:{facts.training_images + facts.validation_images}:{shape}"
        training = replace(config.training, class_weights=None)  # those made up are ten classes, as many of each
        config = replace(config, data=replace(config.data, source=source), training=training)
    drawn = _drawn(config, config.skeleton(facts))
    drawn.sort(key=lambda one: one[1].flops)
    three = {"smallest": drawn[0], "typical": drawn[_SAMPLE // 2], "largest": drawn[-1]}
    try:
        networks = {name: network for name, (network, _) in three.items()}
        return costs.measure(config, binding, networks, lambda: signals.first)
    except EvaluatorRefused as refusal:
        return str(refusal), MORE_TO_DO if refusal.passes else WRONG_USE
    except costs.NotMeasured as refusal:
        return str(refusal), MORE_TO_DO if refusal.passes else BROKEN


def _forecast(config: SearchConfig, facts: DataFacts, found: Sequence[costs.WorkerCosts]) -> list[str] | Refusal:
    """On rank 0."""
    try:
        return costs.forecast(config, facts, found)
    except ConfigError as error:
        return str(error), WRONG_USE
    except SearchStopped as stop:
        return f"the search would stop: {stop}", stop.exit_code


# ── in words ────────────────────────────────────────────────────────────────────────────────────────────────────────
def text(
    config: SearchConfig,
    facts: DataFacts,
    seats: Sequence[Seat],
    bindings: Sequence[Binding],
    training: Sequence[str] = (),
    cost: Sequence[str] = (),
) -> str:
    """Everything, for the terminal. `seats` of all ranks, `bindings` of the workers; `training`: lines about how the
    first of them trains; `cost`: lines about what was measured."""
    schedule = ", ".join(str(round(share * config.training.steps)) for share in config.training.milestones)
    lines = [
        config.toml(),
        "# data",
        f"{facts.training_images} training and {facts.validation_images} validation images of "
        f"{facts.height}×{facts.width}, {facts.image_channels} channels, {facts.classes} classes "
        f"(fingerprint {facts.fingerprint})",
        f"learning rate divided by 10 at the steps {schedule}",
        "",
        "# networks",
        *_sizes(config, config.skeleton(facts)),
        "",
        *(("# how the first worker trains", *training, "") if training else ()),
        "# ranks",
    ]
    if len(seats) > 1:
        lines.append(f"rank 0  {seats[0].host}  controller")
    first = 1 if len(seats) > 1 else 0
    for rank, (seat, binding) in enumerate(zip(seats[first:], bindings, strict=True), start=first):
        role = "worker" if first else "controller and worker"
        lines.append(f"rank {rank}  {seat.host}  {role}, {binding.device}, {binding.threads} threads")
    if cost:
        lines += ["", "# what it will cost", *cost]
    return "\n".join(lines)


def _sizes(config: SearchConfig, skeleton: Skeleton) -> list[str]:
    """Parameters and FLOPs of a typical genotype of the space and of the paper's cell."""
    drawn = sorted((size for _, size in _drawn(config, skeleton)), key=lambda size: size.parameters)
    paper = sizes.size(expansion.expand(genotype.named("paper")), skeleton)
    return [
        _line(f"typical genotype (median of {_SAMPLE} random ones)", drawn[_SAMPLE // 2]),
        _line("smallest of them", drawn[0]),
        _line("largest of them", drawn[-1]),
        _line("the paper's cell", paper),
    ]


def _drawn(config: SearchConfig, skeleton: Skeleton) -> list[tuple[Genotype, sizes.Size]]:
    """Random genotypes of the space, as many as _SAMPLE, and their sizes; the same on every rank."""
    generator = seeds.birth_generator(config.search.seed, 0)
    drawn = []
    for _ in range(_SAMPLE):
        candidate, _ = mutation.redraw_until(
            lambda: mutation.diversified(config.space, config.search.initial_mutations, generator),
            expansion.is_valid,
        )
        drawn.append((candidate, sizes.size(expansion.expand(candidate), skeleton)))
    return drawn


def _line(name: str, size: sizes.Size) -> str:
    return f"{name}: {size.parameters:,} parameters, {size.flops / 1e6:,.1f} MFLOPs an image"
