"""The settings of a search: sections, presets, and the checks that sections fit together.

A section is a frozen dataclass. Its fields carry help text and bounds; from these come the checks, the command line
(`options`) and the TOML form. When a run is continued, a setting that decides what the search computes must stay as it
was; one that decides where and how it runs may differ from start to start. Reads no data and makes no network. Standard
library alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from hpcnas import plugins
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import Space, SpaceError
from hpcnas.config import bounds, data_spec, measures
from hpcnas.config.data_spec import ImageFacts
from hpcnas.config.job import JobSettings
from hpcnas.config.measures import FitnessMeasure
from hpcnas.config.settings import ConfigError, Scheme, Section, none_of, setting
from hpcnas.config.settings import Settings as Settings

STRATEGIES = ("tournament", "random", "aging", "nsga2", "guided")
OBJECTIVES = ("parameters", "flops", "training-seconds", "validation-seconds", "latency")
DUPLICATES = ("retrain", "resample", "average")
EVALUATORS = ("training", "synthetic")
LEAST_CONFIRMATIONS = 2  # new trainings of each network that is confirmed


@dataclass(frozen=True)
class SearchSettings(Section, section="search"):
    """Search (§3): which genotypes are evaluated"""

    space: str = setting(
        "hierarchical",
        "hierarchical, flat, or MOTIFSxNODES a level, such as 6x4/1x5; :NAME,NAME chooses primitives (1x1, dw, sep, "
        "max, avg, id), +NAME adds a plugin's",
    )
    strategy: str = setting(
        "tournament", f"how the next genotype is chosen: {', '.join(STRATEGIES)}, or a plugin's", metavar="NAME"
    )
    budget: int = setting(
        7000, "evaluations in all, the initial population included", low=1, metavar="N", alterable=True
    )
    initial_population: int = setting(200, "genotypes drawn at random before the evolution starts", low=1, metavar="N")
    tournament_fraction: float = setting(
        0.05, "share of the evaluated individuals in a tournament", low=0.0, high=1.0, metavar="F"
    )
    plugins: str | None = setting(
        None, "modules or entry points that bring primitives, data, strategies or evaluators; several with commas",
        option="plugin", metavar="MODULE",
    )  # fmt: skip
    initial: str | None = setting(
        None, "what the initial population begins with: the best of RUN, its K best (RUN:topK), individual ID of it "
        "(RUN:ID; before 0.2 RUN:3 meant the 3 best: now RUN:top3), genotypes of FILE, or paper; several with commas",
        metavar="RUN[:…]|FILE,…", paths_after=",",
    )  # fmt: skip
    aging_population: int = setting(
        100, "aging: how many of the youngest compete, P", low=1, high=bounds.INDIVIDUALS, metavar="P"
    )
    aging_sample: int = setting(
        25, "aging: how many of them are drawn for a tournament, S", low=1, high=bounds.INDIVIDUALS, metavar="S"
    )
    survivors: int = setting(100, "nsga2: how many survive to compete, N", low=2, high=bounds.INDIVIDUALS, metavar="N")
    objective: str = setting(
        "parameters", f"nsga2: the cost that fitness is weighed against: {', '.join(OBJECTIVES)} (of one image, "
        "measured), or a plugin's", metavar="NAME",
    )  # fmt: skip
    initial_mutations: int = setting(1000, "mutations that diversify an initial genotype", low=0, high=bounds.MUTATIONS,
        metavar="N",
    )  # fmt: skip
    max_parameters: int | None = setting(None, "only genotypes whose network has fewer parameters", low=1, metavar="P")
    max_flops: int | None = setting(
        None, "only genotypes whose network takes fewer FLOPs an image (a multiply-add is two)", low=1, metavar="F"
    )
    duplicates: str = setting(
        "retrain", "a genotype whose network is known is evaluated like any other, drawn again, or trained once and "
        "averaged in", choices=DUPLICATES,
    )  # fmt: skip
    scheduling: str = setting(
        "fitness", "one task is all trainings of a fitness, or a single one, on any worker",
        choices=("fitness", "replicate"), alterable=True,
    )  # fmt: skip
    racing: bool = setting(False, "give up individuals whose first trainings show that they are worse than the best")
    racing_confidence: float = setting(
        0.95, "racing: how sure each such decision must be", low=0.5, high=0.9999, metavar="F"
    )
    early_stopping: bool = setting(
        False, "end a training at a rung where its learning curve shows that it will be worse than the best (--rungs)"
    )
    early_stopping_confidence: float = setting(
        0.95, "early-stopping: how sure each such decision must be", low=0.5, high=0.9999, metavar="F"
    )
    confirm: int = setting(
        0, "at the end train the K best networks again, with new seeds, until one is the best with 95 % confidence; "
        "the new trainings alone are its fitness", low=0, high=1000, metavar="K", alterable=True,
    )  # fmt: skip
    confirm_trainings: int | None = setting(
        None, "confirm: these trainings in all, at the most (by default 8 for each network)", low=1, metavar="N",
        alterable=True,
    )  # fmt: skip
    trainings: int | None = setting(
        None,
        "trainings in all; the search ends when they are spent, or --budget is",
        low=1,
        metavar="N",
        alterable=True,
    )
    seed: int = setting(0, "seed of everything that is drawn", low=0, high=2**63 - 1, metavar="S")
    tournament_draw: str = setting(
        "winner", "draw the winner of a tournament, or its sample as older runs did (slower, else the same)",
        choices=("winner", "sample"),
    )  # fmt: skip


@dataclass(frozen=True)
class NetworkSettings(Section, section="network"):
    """Network (§4.1): what a cell is put into"""

    channels: int = setting(16, "channels of the first convolution, c0", low=1, high=bounds.CHANNELS, metavar="C0")
    cells_per_group: int = setting(1, "cells of one resolution, N", low=1, high=bounds.CELLS, metavar="N")
    groups: int = setting(
        3, "groups of cells; the resolution halves from one to the next", low=1, high=bounds.GROUPS, metavar="G"
    )


@dataclass(frozen=True)
class TrainingSettings(Section, section="training"):
    """Training (§4.1): what one fitness is the mean of"""

    replicates: int = setting(4, "trainings from scratch of one fitness", low=1, high=255, metavar="R")
    steps: int = setting(5000, "optimiser steps of one training", low=1, metavar="S")
    batch_size: int = setting(256, "images a step", low=2, high=bounds.IMAGES, metavar="B")
    learning_rate: float = setting(0.1, "learning rate of the first step", low=0.0, metavar="LR")
    milestones: tuple[float, ...] = setting(
        (0.8, 0.9), "where the learning rate is divided by 10, as shares of the steps", low=0.0, high=1.0, metavar="F"
    )
    momentum: float = setting(0.9, "momentum of SGD", low=0.0, high=1.0, metavar="M")
    weight_decay: float = setting(3e-4, "weight decay, on all parameters", low=0.0, metavar="W")
    fitness: str = setting(
        "accuracy", f"what the fitness is, on the validation images: {', '.join(measures.NAMES)} (its negative), or a "
        "plugin's", metavar="NAME",
    )  # fmt: skip
    rungs: tuple[float, ...] = setting(
        (), "where a training is validated on its way, as shares of the steps (as 0.1 0.3): learning curves",
        low=0.0, high=1.0, metavar="F",
    )  # fmt: skip
    class_weights: str | None = setting(
        None, "weight of each class in the loss: balanced (by how few its images are), 1,2,0.5 or a FILE of numbers",
        metavar="WEIGHTS", paths_after="",
    )  # fmt: skip
    crop: float = setting(
        0.75, "side of the random crop as a share of the image's side (0.75: 24 of 32 pixels; 1: none)",
        low=0.1, high=1.0, metavar="F",
    )  # fmt: skip
    padding: int = setting(
        0, "black pixels (zeros) around a training image before the crop (4 with --crop 1: padded 32×32 crops)",
        low=0, high=255, metavar="N",
    )  # fmt: skip
    flip: bool = setting(True, "flip half of the training images from left to right")
    precision: str = setting(
        "auto", "numbers of feature maps; auto: bf16 on GPUs that have it, else fp32", choices=("auto", "fp32", "bf16")
    )

    @property
    def rung_steps(self) -> tuple[int, ...]:
        """After how many steps each rung is: int, rising, from 1 to `steps` − 1."""
        return tuple(max(1, round(share * self.steps)) for share in self.rungs)


@dataclass(frozen=True)
class DataSettings(Section, section="data"):
    """Data: what the networks learn"""

    source: str = setting(
        "digits",
        "digits (embedded), arrays:FILE.h5|FILE.npz|DIR, imagefolder:DIR, cifar10:DIR, cifar100:DIR, "
        "fashion-mnist:DIR, mnist:DIR, svhn:DIR, synthetic:N",
        metavar="DATA",
        option="data",
        paths_after=":",
        alterable=True,  # to another place: that it is the same data is checked by their fingerprint
    )
    validation_fraction: float = setting(
        0.2, "share of the training images that are held out to measure fitness on", low=0.001, high=0.999, metavar="F"
    )
    split_seed: int = setting(0, "seed of the choice of these images", low=0, high=2**63 - 1, metavar="S")


@dataclass(frozen=True)
class EvaluationSettings(Section, section="evaluation"):
    """Evaluator: what a worker does with a genotype"""

    evaluator: str = setting(
        "training",
        "training: train networks; synthetic: look fitness up in a landscape and add noise; or a plugin's",
        metavar="NAME",
    )
    synthetic_noise: float = setting(
        0.002, "standard deviation of one synthetic training", low=0.0, high=1.0, metavar="SIGMA"
    )
    synthetic_seconds: float = setting(
        0.0, "mean duration of one synthetic evaluation", low=0.0, metavar="T", alterable=True, duration=True
    )
    synthetic_spread: float = setting(
        0.0, "standard deviation of these durations, as a share of their mean", low=0.0, high=100.0, metavar="F",
        alterable=True,
    )  # fmt: skip
    synthetic_crashes: float = setting(0.0, "share of synthetic attempts that crash", low=0.0, high=1.0, metavar="F")
    synthetic_hangs: float = setting(
        0.0, "share of synthetic attempts that hang, until --hang-timeout is over", low=0.0, high=1.0, metavar="F"
    )
    synthetic_nans: float = setting(0.0, "share of synthetic trainings that diverge", low=0.0, high=1.0, metavar="F")


@dataclass(frozen=True)
class RunSettings(JobSettings, section="run"):
    """Run: where and how; may differ whenever a run is continued"""

    profile: bool = setting(
        False, "write a trace of the first evaluation that begins to RUN/profile.json", once=True, after="threads"
    )
    max_attempts: int = setting(
        2, "attempts at an evaluation that crashes, hangs or runs out of memory; one whose loss is not finite is tried "
        "once more, where there is another device", low=1, high=100, metavar="N", alterable=True,
        after="progress",
    )  # fmt: skip
    hang_timeout: float = setting(
        600.0, "seconds without a sign of life after which a trainer counts as hung", low=0.1, metavar="T",
        alterable=True, duration=True,
    )  # fmt: skip
    evaluation_timeout: float | None = setting(
        None, "seconds that one evaluation may take at most", low=0.1, metavar="T", alterable=True, duration=True
    )
    device_failures: int = setting(
        3, "a device is taken out of use after K failures in a row of what succeeds elsewhere", low=1, metavar="K",
        alterable=True, after="grace",
    )  # fmt: skip
    max_failures: int = setting(20, "stop when K individuals in a row have failed", low=1, metavar="K", alterable=True)
    compact_interval: float = setting(
        30.0, "least seconds between two renewals of population.h5", low=0.0, metavar="T", alterable=True,
        duration=True,
    )  # fmt: skip


SECTIONS: dict[str, type[Section]] = {
    kind.section: kind
    for kind in (SearchSettings, NetworkSettings, TrainingSettings, DataSettings, EvaluationSettings, RunSettings)
}


@dataclass(frozen=True)
class SearchConfig:
    """All sections of a search. Raises ConfigError unless they fit together."""

    search: SearchSettings = SearchSettings()
    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()
    data: DataSettings = DataSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    run: RunSettings = RunSettings()

    def __post_init__(self) -> None:
        try:
            plugins.require(self.search.plugins)
        except plugins.PluginError as error:
            raise ConfigError(f"search.plugins: {error}") from None
        unknown = plugins.left_out(self.search.plugins)  # where a run is only read: any name may be of one of these
        _check_names("data.source", data_spec.KINDS, plugins.data())
        if not unknown:
            _check_name("search.strategy", self.search.strategy, STRATEGIES, plugins.strategies())
            _check_name("search.objective", self.search.objective, OBJECTIVES, plugins.objectives())
            _check_name("evaluation.evaluator", self.evaluation.evaluator, EVALUATORS, plugins.evaluators())
            _check_name("training.fitness", self.training.fitness, measures.NAMES, plugins.measures())
        try:
            Space.parse(self.search.space)
        except SpaceError as error:
            reason = plugins.NotNamed(unknown) if unknown and "+" in self.search.space else error
            raise ConfigError(f"search.space: {reason}") from None
        try:
            data_spec.parse(self.data.source)
        except data_spec.DataError as error:
            if not unknown:
                raise ConfigError(f"data.source: {error}") from None
        if (largest := self.space.largest_cell) > bounds.OPERATIONS:
            raise ConfigError(
                f"search.space: expected cells of at most {bounds.OPERATIONS:,} operations, but the largest of "
                f"{self.search.space:.100} has {largest:,}"
            )
        network = self.network
        bounds.check_size(network.channels, [network.cells_per_group] * network.groups)
        _check_search(self.search)
        if list(self.training.milestones) != sorted(self.training.milestones):
            raise ConfigError(f"training.milestones: expected them in order, got {self.training.milestones}")
        _check_rungs(self.search, self.training)
        if self.evaluation.evaluator == "synthetic" and self.measured_objective is not None:
            raise ConfigError(
                f"search.objective: expected no cost of trained networks with --evaluator synthetic, got "
                f"{self.search.objective}: leave one out"
            )
        if self.evaluation.evaluator == "synthetic" and self.training.fitness != measures.ACCURACY.name:
            raise ConfigError(
                "training.fitness: expected accuracy with --evaluator synthetic, whose landscape has nothing else, got "
                f"{self.training.fitness}: leave one out"
            )

    @property
    def measure(self) -> FitnessMeasure:
        """What a fitness is."""
        return measures.named(self.training.fitness)

    @property
    def measured_objective(self) -> str | None:
        """The cost of trained networks that the search weighs, which workers measure; None where it weighs none."""
        name, brought = self.search.objective, plugins.objectives()
        measured = name == "latency" or name in brought and brought[name].trained
        return name if measured and self.search.strategy == "nsga2" else None

    @property
    def space(self) -> Space:
        """The space of genotypes that is searched."""
        return Space.parse(self.search.space)

    def settings(self) -> dict[str, dict[str, object]]:
        """Every setting, section → key → value."""
        return SCHEME.settings(self)

    def toml(self) -> str:
        """All settings that have a value, as TOML; `parse_toml` reads it back."""
        return SCHEME.toml(self)

    def skeleton(self, facts: ImageFacts) -> Skeleton:
        """What surrounds the cells in the networks that are trained on these data."""
        return Skeleton(
            image_channels=facts.image_channels,
            height=facts.height,
            width=facts.width,
            classes=facts.classes,
            channels=self.network.channels,
            cells=(self.network.cells_per_group,) * self.network.groups,
        )


def _check_search(search: SearchSettings) -> None:
    """Raises ConfigError where ways of searching do not go together."""
    if search.racing and search.strategy == "nsga2":
        raise ConfigError("search.racing: expected a strategy that goes by fitness alone, got nsga2: leave one out")
    if search.duplicates == "average" and search.strategy == "nsga2":
        raise ConfigError(
            "search.duplicates: expected retrain or resample with nsga2, whose survivors are never measured again, "
            "got average: leave one out"
        )
    if search.duplicates == "average" and search.racing:
        raise ConfigError(
            "search.duplicates: expected retrain or resample with racing, which gives up by the trainings of an "
            "individual alone, got average: leave one out"
        )
    if search.confirm and search.strategy == "nsga2":
        raise ConfigError(
            "search.confirm: expected a strategy that goes by fitness alone, got nsga2, whose result is a front: "
            "leave one out"
        )
    if search.confirm > search.budget:
        raise ConfigError(
            f"search.confirm: expected at most as many networks as evaluations, {search.budget}, got {search.confirm}"
        )
    least = LEAST_CONFIRMATIONS * search.confirm
    if search.confirm_trainings is not None and search.confirm_trainings < least:
        raise ConfigError(
            f"search.confirm_trainings: expected {least} at least, {LEAST_CONFIRMATIONS} for each network of "
            f"confirm = {search.confirm}, got {search.confirm_trainings}"
        )


def _check_rungs(search: SearchSettings, training: TrainingSettings) -> None:
    """Raises ConfigError for rungs that are none, or that early stopping lacks."""
    rungs, steps = training.rungs, (0, *training.rung_steps, training.steps)
    if not all(low < high for low, high in itertools.pairwise((0.0, *rungs, 1.0))):
        raise ConfigError(f"training.rungs: expected rising shares between 0 and 1, got {rungs}")
    if rungs and not all(low < high for low, high in itertools.pairwise(steps)):
        raise ConfigError(
            f"training.rungs: expected a step of its own for each of {rungs}, before the last of {training.steps}, got "
            f"the steps {', '.join(map(str, training.rung_steps))}"
        )
    if len(rungs) > bounds.RUNGS:
        raise ConfigError(f"training.rungs: expected at most {bounds.RUNGS}, got {len(rungs)}")
    if not search.early_stopping:
        return
    if not rungs:
        raise ConfigError("search.early_stopping: expected rungs to stop at, such as --rungs 0.1 0.3, got none")
    if search.strategy == "nsga2":
        raise ConfigError(
            "search.early_stopping: expected a strategy that goes by fitness alone, got nsga2: leave one out"
        )
    if search.duplicates == "average":
        raise ConfigError(
            "search.duplicates: expected retrain or resample with early stopping, which leaves nothing to average, got "
            "average: leave one out"
        )


def _check_names(setting: str, own: Iterable[str], brought: Iterable[str]) -> None:
    """Raises ConfigError where a plugin brings a name that hpcnas itself has."""
    if taken := sorted(set(own) & set(brought)):
        raise ConfigError(f"search.plugins: expected new names for {setting}, but {', '.join(taken)} is there already")


def _check_name(setting: str, name: str, own: Iterable[str], brought: Iterable[str]) -> None:
    """Raises ConfigError unless the name is one of hpcnas itself or of a plugin."""
    _check_names(setting, own, brought)
    if name not in (known := [*own, *brought]):
        raise ConfigError(none_of(setting, name, known))


PRESETS: dict[str, Settings] = {
    # A whole search in minutes on two cores; the paper's algorithm at a hundredth of its size.
    "quick": {
        "search": {"budget": 30, "initial_population": 10, "tournament_fraction": 0.2},
        "network": {"channels": 8},
        "training": {"replicates": 2, "steps": 150, "batch_size": 64, "flip": False},
        "data": {"source": "digits"},
    },
    # §4.1 to the last number: the defaults above, and CIFAR-10.
    "paper": {"data": {"source": "cifar10:data"}},
    # Not the paper's: as many trainings as its 28,000, but one each of mutants that a model prefers, whose networks are
    # not known; then the best are trained again, for one training of each cannot say which that is.
    "efficient": {
        "search": {
            "strategy": "guided",
            "budget": 28_000,
            "trainings": 28_000,
            "duplicates": "resample",
            "confirm": 10,
        },
        "training": {"replicates": 1},
        "data": {"source": "cifar10:data"},
    },
    "paper-flat": {"search": {"space": "flat"}, "data": {"source": "cifar10:data"}},
}
DEFAULT_PRESET = "quick"


SCHEME = Scheme(SearchConfig, SECTIONS, PRESETS, DEFAULT_PRESET)
preset, build, parse_toml = SCHEME.preset, SCHEME.build, SCHEME.parse_toml
differences, lasting = SCHEME.differences, SCHEME.lasting
