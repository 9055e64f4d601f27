"""Finds out, before a worker says that it is ready, whether the fastest way of training works on its machine (D7).

It trains a small network for a few steps, with the run's channels, images and precision: that compiles, loads and runs
the kernels. A fault of compilers, caches or drivers shows here; then the plain network is trained, and a remark says
that this is slower, and why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.measures import ACCURACY
from hpcnas.config.search import TrainingSettings
from hpcnas.training import caches, causes
from hpcnas.training.choice import fastest_method, why_plain
from hpcnas.training.cpu import kernels
from hpcnas.training.fitness import FitnessInProgress
from hpcnas.training.method import TrainingData, Trainings
from hpcnas.training.plain import PlainTraining

PLAIN = "trains the plain network, which can be several times slower"
_IMAGES = 32  # of each split, at the most
_SIDE, _CHANNELS = 32, 64  # pixels and channels on a CPU, about the most
_ON_CPU = 4  # images a step; on a GPU as many as later, since kernels are made for that
_LONGEST = 400  # characters of a reason
_DIFFERS = re.compile(  # names as the C library, gcc, Python, this program and Triton give them
    r"(?<=/)(?:\.kernels-\w+\.tmp|cc\w{6}(?=\.)|tmp\w{8}|tmp\.pid_\w+)"
    r"|\b0x[0-9a-f]+|\b\d+(?:\.\d+)?(?= (?:bytes|[KMGT]i?B)\b)|(?<=\b[Pp]rocess )\d+|(?<=\bpid )\d+"
)
_EVERY_PRIMITIVE = """\
format = "hpcnas genotype 1"
space = "1x5"
[level-2]
M1 = ["1-2 sep", "1-3 dw", "2-3 max", "3-4 avg", "2-4 1x1", "4-5 id", "1-5 1x1"]
"""


class NothingWorks(Exception):
    """Not even the plain network can be trained on this device, or memory does not suffice to find out: one line."""


@dataclass(frozen=True)
class Way:
    """How this worker trains. `drawbacks` are lines about what could not be used; `slower` says why it trains the plain
    network, and is empty where it does not."""

    method: type[Trainings]
    drawbacks: tuple[str, ...] = ()
    slower: str = ""

    @property
    def name(self) -> str:
        """The name of the method as files have it."""
        return self.method.stored_name

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines that a person should see."""
        if not self.slower:
            return self.drawbacks
        return (f"{PLAIN}: {self.slower}",)


def find(device: torch.device, threads: int, settings: TrainingSettings, skeleton: Skeleton, data: TrainingData) -> Way:
    """The fastest way that works here. Raises NothingWorks where a GPU trains in no way, and where memory runs out:
    that says nothing about compilers, and the answer holds for all evaluations to come."""
    reason = why_plain(device, settings, skeleton)
    if reason:
        return Way(PlainTraining, slower=reason)
    method = fastest_method(device, threads, settings, skeleton)
    small, shape = _few(data), _short(settings, device)
    around = skeleton
    if device.type == "cpu":
        small, around = _cut(small, skeleton)
    refusals: list[str] = []
    for _ in _triton_caches(refusals) if device.type == "cuda" else (None,):
        try:
            _train(method, shape, around, small)
        except Exception as error:  # compilers, drivers and libraries raise what they like
            if causes.is_out_of_memory(error):
                raise NothingWorks(f"expected memory for training a small network: {_reason(error)}") from error
            refusals.append(_reason(error))
        else:
            if device.type == "cpu":
                refusals += map(_same_everywhere, kernels.load("float32", skeleton.channels).drawbacks)
            drawbacks = [f"what did not serve for compiled kernels: {text}" for text in dict.fromkeys(refusals)]
            return Way(method, tuple(drawbacks))
    if device.type == "cuda":
        try:
            _train(PlainTraining, shape, skeleton, small)
        except Exception as error:
            raise NothingWorks(f"expected a device that can train a network: {_reason(error)}") from error
    return Way(PlainTraining, slower="; ".join(dict.fromkeys(refusals)))


def _train(method: type[Trainings], settings: TrainingSettings, skeleton: Skeleton, data: TrainingData) -> None:
    """A fitness of two short trainings. Raises whatever goes wrong."""
    genotype = Genotype.from_text(_EVERY_PRIMITIVE)
    FitnessInProgress(genotype, (1, 2), skeleton, data, settings, method).run(_nothing, _nothing)


def _nothing() -> None:
    """In place of a beat: nothing waits for these trainings."""


def _few(data: TrainingData) -> TrainingData:
    """The first of the images."""
    facts = data.facts
    return replace(
        data,
        pixels=data.pixels if data.places is not None else data.pixels[:_IMAGES],
        places=None if data.places is None else data.places[:_IMAGES],
        labels=data.labels[:_IMAGES],
        validation_pixels=data.validation_pixels if data.places is not None else data.validation_pixels[:_IMAGES],
        validation_places=None if data.validation_places is None else data.validation_places[:_IMAGES],
        validation_labels=data.validation_labels[:_IMAGES],
        facts=replace(
            facts,
            training_images=min(_IMAGES, facts.training_images),
            validation_images=min(_IMAGES, facts.validation_images),
        ),
    )


def _cut(data: TrainingData, skeleton: Skeleton) -> tuple[TrainingData, Skeleton]:
    """Smaller images, and a network with fewer channels that fill the same vectors: the whole may need minutes or
    gigabytes."""
    height, width = min(_SIDE, skeleton.height), min(_SIDE, skeleton.width)
    channels = skeleton.channels
    if channels > _CHANNELS:
        channels = _CHANNELS + channels % _CHANNELS
    cut = replace(
        data,
        pixels=data.pixels[:, :height, :width],
        validation_pixels=data.validation_pixels[:, :height, :width],
        facts=replace(data.facts, height=height, width=width),
    )
    cells = (1,) * min(2, len(skeleton.cells))
    return cut, replace(skeleton, height=height, width=width, channels=channels, cells=cells)


def _short(settings: TrainingSettings, device: torch.device) -> TrainingSettings:
    """Three steps, of which a GPU replays the last, with losses that are finite however the run learns, judged by what
    needs neither images of every class nor a plugin."""
    batch = settings.batch_size if device.type == "cuda" else min(_ON_CPU, settings.batch_size)
    return replace(
        settings, steps=3, batch_size=batch, learning_rate=1e-3, weight_decay=0.0, replicates=2,
        fitness=ACCURACY.name,
    )  # fmt: skip


def _triton_caches(refusals: list[str]) -> Iterator[None]:
    """Has Triton keep what it compiles in one folder after the other: the user's own, then a temporary one."""
    own = os.environ.get("TRITON_CACHE_DIR") or os.path.join(
        os.environ.get("TRITON_HOME") or os.path.expanduser("~"), ".triton", "cache"
    )
    try:
        if not os.path.isabs(own):
            raise caches.DoesNotServe("there is no home" if own.startswith("~") else "it is no absolute path")
        caches.prepare(Path(own))
        _look_for_damage(Path(own))
    except caches.DoesNotServe as error:
        refusals.append(f"{own}: {error}")
    else:
        yield None
    for folder in caches.temporary_folders():
        try:
            caches.prepare(folder)
            _look_for_damage(folder / "triton")
        except caches.DoesNotServe as error:
            refusals.append(f"{folder}: {error}")
            continue
        os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
        _forget_kernels()
        yield None
        return


def _forget_kernels() -> None:
    """Triton keeps what it has read from a cache in memory, also where the device does not take it."""
    from hpcnas.training.cuda import backward, forward

    for module in (forward, backward):
        for found in vars(module).values():
            if hasattr(found, "device_caches"):  # a function of Triton's that is not interpreted
                found.device_caches.clear()


def _look_for_damage(folder: Path) -> None:
    """Triton keeps no checksums. Raises DoesNotServe."""
    if (path := caches.cut_short(folder)) is not None:
        raise caches.DoesNotServe(f"{path} is cut short, remove it")


def _same_everywhere(text: str) -> str:
    """The text without temporary names, addresses, amounts of memory and process ids, so that the same fault of many
    workers is one message."""
    return _DIFFERS.sub("*", text)


def _reason(error: Exception) -> str:
    """One line of an exception: its class, where the text does not say enough, and the text's last line."""
    lines = str(error).strip().splitlines()
    last = lines[-1].strip() if lines else ""
    text = _same_everywhere(last if isinstance(error, kernels.NoKernels) else f"{type(error).__name__}: {last}")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
