"""The settings of a retraining (§4.1, Evaluation), its recipe: sections, presets, checks, and its command line.

A retraining takes a found cell, builds the large network around it and trains that network to the end. The defaults are
the paper's for CIFAR-10; the preset `imagenet` holds what is different there. Where the paper is silent, the choice is
marked **choice**. Standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hpcnas import plugins
from hpcnas.architecture.skeleton import STEMS, Skeleton
from hpcnas.config import bounds, data_spec
from hpcnas.config.job import JobSettings
from hpcnas.config.options import CommandLine
from hpcnas.config.settings import ConfigError, Scheme, Section, Settings, setting, with_default

_MOST_BROKEN = 100  # unreadable images of which 1.3 million are still as good


@dataclass(frozen=True)
class LargeNetworkSettings(Section, section="network"):
    """Network (§4.1): which cell, and what it is put into"""

    genotype: str = setting(
        "paper", "RUN, RUN:best or RUN:ID of a search, a genotype's FILE, or paper, the paper's cell", metavar="WHICH",
        paths_after="", alterable=True,  # to where the same genotype lies now: that it is the same is checked
    )  # fmt: skip
    weights: str | None = setting(
        None, "trained weights to start from: FILE of `hpcnas export weights`, RUN or RUN:SEED of a retraining",
        metavar="WHICH", paths_after="",
        alterable=True,  # to where the same weights lie now: that they are the same is checked by their fingerprint
    )  # fmt: skip
    plugins: str | None = setting(
        None, "modules with primitives of the genotype, or data; several with commas", metavar="MODULE", option="plugin"
    )
    channels: int = setting(64, "channels that the first cell reads, c0", low=1, high=bounds.CHANNELS, metavar="C0")
    cells: tuple[int, ...] = setting(
        (2, 2, 2), "cells of each group; resolution halves between groups", low=1, high=bounds.CELLS, metavar="N"
    )
    stem: str = setting(
        "plain", "before the first cell: a 3×3 convolution, or two of stride 2 with C0/2 and C0 channels", choices=STEMS
    )


@dataclass(frozen=True)
class RetrainingSettings(Section, section="training"):
    """Training (§4.1): how the network is trained, and how often"""

    runs: int = setting(
        1, "trainings, each with a seed of its own; the paper has 5", low=1, high=bounds.RUNS, metavar="N",
        alterable=True,
    )  # fmt: skip
    seed: int = setting(0, "seed of the first of them; the next ones count on", low=0, high=2**62, metavar="S")
    steps: int = setting(80_000, "optimiser steps of one training", low=1, metavar="S")
    epochs: float | None = setting(
        None, "instead of steps: how often a training sees all its images, such as 90 or 0.5", low=0.001,
        high=bounds.EPOCHS, metavar="E", instead_of="steps",
    )  # fmt: skip
    batch_size: int = setting(256, "images a step, over all ranks together", low=2, high=bounds.IMAGES, metavar="B")
    micro_batch: int = setting(
        32, "images that random numbers are drawn for together, and that batch statistics may be of", low=2,
        high=bounds.IMAGES, metavar="M",
    )  # fmt: skip
    batch_statistics: str = setting(
        "step", "batch normalisation over all images of a step, on all ranks together, or over each micro-batch",
        choices=("step", "micro-batch"),
    )  # fmt: skip  # choice: the paper does not say, and had one GPU for a network
    learning_rate: float = setting(0.1, "learning rate of the first step", low=0.0, metavar="LR")
    schedule: str = setting(
        "milestones", "divided by 10 at milestones, or falling to 0 along a cosine", choices=("milestones", "cosine")
    )
    milestones: tuple[float, ...] = setting(
        (0.5, 0.75, 0.875), "where it is divided by 10, as shares of the steps", low=0.0, high=1.0, metavar="F"
    )
    warm_up: float = setting(
        0.0, "share of the steps in which the learning rate rises in a straight line, from near 0 to the schedule's",
        low=0.0, high=1.0, metavar="F",
    )  # fmt: skip
    momentum: float = setting(0.9, "momentum of SGD", low=0.0, high=1.0, metavar="M")
    weight_decay: float = setting(3e-4, "weight decay, on all parameters", low=0.0, metavar="W")
    label_smoothing: float = setting(
        0.0, "share of a label that is spread over all classes", low=0.0, high=0.99, metavar="F"
    )
    class_weights: str | None = setting(
        None, "weight of each class in the loss: balanced (by how few its images are), 1,2,0.5 or a FILE of numbers",
        metavar="WEIGHTS", paths_after="",
    )  # fmt: skip
    drop_path: float = setting(
        0.0, "probability that a path is dropped, which rises from 0 to P", low=0.0, high=0.99, metavar="P"
    )
    auxiliary_weight: float = setting(0.0, "weight of a second classifier's loss; 0: none", low=0.0, metavar="W")
    freeze_cell: bool = setting(
        False, "keep the cells of --weights, and the convolutions after them, as they are: the first and the last "
        "layer learn",
    )  # fmt: skip
    weight_averaging: float = setting(
        0.0, "decay of the moving average of weights, which is tested and kept; 0: the last weights are",
        low=0.0, high=0.999999, metavar="D",
    )  # fmt: skip
    precision: str = setting(
        "auto", "numbers of feature maps; auto: bf16 on GPUs that have it, else fp32; fp64: of everything, for checks",
        choices=("auto", "fp32", "bf16", "fp64"),
    )  # fmt: skip


@dataclass(frozen=True)
class AugmentationSettings(Section, section="augmentation"):
    """Augmentation: what training images are made to look like"""

    crop: float = setting(
        0.75, "resident: side of the random crop as a share of the image's side (24 of 32 pixels)",
        low=0.1, high=1.0, metavar="F",
    )  # fmt: skip
    padding: int = setting(
        0, "resident: black pixels (zeros) around an image before the crop", low=0, high=255, metavar="N"
    )
    flip: bool = setting(True, "flip half of the images from left to right")
    crop_area: float = setting(
        0.08, "stream: least share of the image's area in a random crop of any place and size",
        low=0.01, high=1.0, metavar="F",
    )  # fmt: skip
    brightness: float = setting(0.4, "stream: brightness times 1 ± F", low=0.0, high=1.0, metavar="F")
    contrast: float = setting(0.4, "stream: contrast times 1 ± F", low=0.0, high=1.0, metavar="F")
    cutout: int = setting(
        0, "side of a square of pixels that is blanked, at random; 0: none", low=0, high=4096, metavar="N"
    )
    rand_augment: int = setting(
        0, "transformations of each image that RandAugment draws; 0: none", low=0, high=14, metavar="N"
    )
    rand_augment_magnitude: int = setting(9, "how strong they are, 0 to 30", low=0, high=30, metavar="M")
    mixup: float = setting(
        0.0, "mix images in pairs, and their labels, by shares from Beta(ALPHA, ALPHA); 0: none", low=0.0, high=1000.0,
        metavar="ALPHA",
    )  # fmt: skip


@dataclass(frozen=True)
class RetrainingDataSettings(Section, section="data"):
    """Data: what the network learns, and is tested on"""

    source: str = setting(
        "cifar10:data", "digits, arrays:FILE.h5|FILE.npz|DIR, imagefolder:DIR, cifar10:DIR, cifar100:DIR, "
        "fashion-mnist:DIR, mnist:DIR, svhn:DIR, synthetic:N", metavar="DATA",
        option="data", paths_after=":",
        alterable=True,  # to another place: that it is the same data is checked by their fingerprint
    )  # fmt: skip
    loading: str = setting(
        "resident", "all images on the device, or decoded when needed, from DIR/train and DIR/val of an imagefolder",
        choices=("resident", "stream"),
    )  # fmt: skip
    image_size: int = setting(299, "stream: side of the images that the network sees", low=8, high=4096, metavar="N")
    resize: float = setting(
        0.875, "stream: side of a test image's centre crop, as a share of its shorter side", low=0.1, high=1.0,
        metavar="F",
    )  # fmt: skip
    mean: tuple[float, ...] = setting(
        (), "mean of each channel, 0 to 255 (default: of the training images; stream: ImageNet's)", metavar="V"
    )
    std: tuple[float, ...] = setting((), "standard deviation of each channel, likewise", low=1e-6, metavar="V")
    validation_fraction: float = setting(
        0.0, "share of the training images, of each class, that is held out to validate on; 0: none",
        low=0.0, high=0.9, metavar="F",
    )  # fmt: skip
    max_broken: int | None = setting(
        None, "stream: unreadable images that are left out before the training stops, likewise of its test and "
        "validation (default: 100; of test and validation images 1 % of them, if that is fewer)",
        low=0, metavar="N", alterable=True,
    )  # fmt: skip

    def most_broken(self, scored: int | None = None) -> int:
        """How many images may be unreadable: of those to train on, or of so many to test or to validate on."""
        if self.max_broken is not None:
            return self.max_broken
        return _MOST_BROKEN if scored is None else min(_MOST_BROKEN, scored // 100)


@dataclass(frozen=True)
class RetrainingRunSettings(JobSettings, section="run"):
    """Run: where and how; may differ whenever a retraining is continued"""

    run: str = with_default("retrain-run", JobSettings, "run")
    grace: float = with_default(120.0, JobSettings, "grace")
    loaders: int | None = setting(
        None, "stream: processes of one rank that decode images; 0: the rank itself does (default: threads − 1)",
        low=0, high=256, metavar="N", alterable=True, after="threads",
    )  # fmt: skip
    compile: bool = setting(
        False, "compile the network with torch.compile; where that fails, train it as it is", alterable=True
    )
    recompute: str = setting(
        "auto", "compute feature maps again on the way back: less memory, more time; auto: where they do not fit",
        choices=("auto", "always", "never"), alterable=True,
        after="lock_wait",
    )  # fmt: skip
    smaller_batches: str = setting(
        "auto", "where even that does not fit when a retraining begins, normalise over fewer images, as many as fit; "
        "that changes the result, and is said and recorded",
        choices=("auto", "never"), alterable=True, after="recompute",
    )  # fmt: skip
    address: str | None = setting(
        None, "name or address of rank 0's host for the other ranks (default: its host name)", metavar="HOST",
        once=True, after="download",
    )  # fmt: skip
    history_every: int = setting(
        100, "steps that are averaged in one row of the history", low=1, metavar="S", after="progress"
    )
    validate_every: int = setting(
        1000, "steps between validations, if there is anything to validate on", low=1, metavar="S", alterable=True,
        after="history_every",
    )  # fmt: skip


@dataclass(frozen=True)
class RetrainingConfig:
    """All sections of a retraining. Raises ConfigError unless they fit together."""

    network: LargeNetworkSettings = LargeNetworkSettings()
    training: RetrainingSettings = RetrainingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    data: RetrainingDataSettings = RetrainingDataSettings()
    run: RetrainingRunSettings = RetrainingRunSettings()

    def __post_init__(self) -> None:
        training, data = self.training, self.data
        try:
            plugins.require(self.network.plugins)
        except plugins.PluginError as error:
            raise ConfigError(f"network.plugins: {error}") from None
        spec: data_spec.DataSpec | None = None
        try:
            spec = data_spec.parse(data.source)
        except data_spec.DataError as error:
            if not plugins.left_out(self.network.plugins):  # else it is only read, and the data may be a plugin's
                raise ConfigError(f"data.source: {error}") from None
        if data.loading == "stream" and not (isinstance(spec, data_spec.DataFolder) and spec.kind == "imagefolder"):
            raise ConfigError(f"data.loading: expected imagefolder:DIR to stream from, got {data.source!r}")
        if not 1 <= len(self.network.cells) <= bounds.GROUPS:
            raise ConfigError(
                f"network.cells: expected the cells of 1 to {bounds.GROUPS} groups, got {len(self.network.cells):,}"
            )
        bounds.check_size(self.network.channels, self.network.cells)
        if self.network.stem == "strided" and self.network.channels % 2:
            raise ConfigError(
                f"network.channels: expected an even number for a strided stem, got {self.network.channels}"
            )
        if training.batch_statistics == "micro-batch" and training.batch_size % training.micro_batch:
            raise ConfigError(
                f"training.micro_batch: expected a divisor of the batch of {training.batch_size} images, "
                f"got {training.micro_batch}"
            )
        if training.freeze_cell and self.network.weights is None:
            raise ConfigError("training.freeze_cell: expected network.weights, to keep the cells of, got none")
        if training.freeze_cell and training.drop_path:
            raise ConfigError("training.drop_path: expected 0 beside freeze_cell, since the cells stay as they are")
        if 0 < self.augmentation.mixup < 0.01:  # so small that the Beta distribution's numbers run out
            raise ConfigError(f"augmentation.mixup: expected 0 or at least 0.01, got {self.augmentation.mixup:g}")
        if list(training.milestones) != sorted(training.milestones):
            raise ConfigError(f"training.milestones: expected them in order, got {training.milestones}")
        if len(data.mean) != len(data.std) or len(data.mean) > data_spec.MOST_CHANNELS:
            raise ConfigError(
                f"data.mean, data.std: expected both, a number for each channel, got {data.mean} and {data.std}"
            )

    @property
    def seeds(self) -> range:
        """Of the trainings that are wanted, one each."""
        return range(self.training.seed, self.training.seed + self.training.runs)

    @property
    def micro_batches(self) -> int:
        """How many micro-batches a step has, over all ranks together."""
        return -(-self.training.batch_size // self.training.micro_batch)

    def on_images(self, training_images: int) -> RetrainingConfig:
        """It with the steps that its epochs come to where a training has so many images; itself where it has no
        epochs."""
        if self.training.epochs is None:
            return self
        steps = max(1, round(self.training.epochs * training_images / self.training.batch_size))
        return replace(self, training=replace(self.training, steps=steps))

    def with_smaller_batches(self, micro_batch: int | None) -> RetrainingConfig:
        """It with batch statistics of so many images at a time, a divisor of the batch; itself for None."""
        if micro_batch is None:
            return self
        cut = replace(self.training, batch_statistics="micro-batch", micro_batch=micro_batch)
        return replace(self, training=cut)

    def skeleton(self, facts: data_spec.ImageFacts) -> Skeleton:
        """What surrounds the cells in the network; height and width are those of an image as it is tested."""
        return Skeleton(
            image_channels=facts.image_channels,
            height=facts.height,
            width=facts.width,
            classes=facts.classes,
            channels=self.network.channels,
            cells=self.network.cells,
            stem=self.network.stem,
        )

    def trained_on(self, skeleton: Skeleton) -> Skeleton:
        """Likewise with height and width of an image as it is trained on."""
        if self.data.loading == "stream":
            return replace(skeleton, height=self.data.image_size, width=self.data.image_size)
        height, width = (max(1, round(self.augmentation.crop * side)) for side in (skeleton.height, skeleton.width))
        return replace(skeleton, height=height, width=width)

    def toml(self) -> str:
        """All settings that have a value, as TOML; `SCHEME.parse_toml` reads it back."""
        return SCHEME.toml(self)


SECTIONS: dict[str, type[Section]] = {
    kind.section: kind
    for kind in (
        LargeNetworkSettings,
        RetrainingSettings,
        AugmentationSettings,
        RetrainingDataSettings,
        RetrainingRunSettings,
    )
}

PRESETS: dict[str, Settings] = {
    # Minutes on two cores: the embedded digits.
    "quick": {
        "network": {"channels": 8, "cells": (1, 1)},
        "training": {"steps": 200, "batch_size": 64, "micro_batch": 16},
        "augmentation": {"crop": 1.0, "padding": 1, "flip": False},
        "data": {"source": "digits"},
        "run": {"history_every": 10, "validate_every": 50},
    },
    # §4.1: the defaults above.
    "cifar-large": {},
    # §4.1, ImageNet.
    "imagenet": {
        "network": {"cells": (1, 2, 2, 2), "stem": "strided"},
        "training": {
            "steps": 200_000, "batch_size": 1024, "weight_decay": 1e-4,
            # choice: of 32 images, as Goyal et al., Accurate, Large Minibatch SGD, 2017, §2.3; the paper does not say
            "batch_statistics": "micro-batch",
        },
        "data": {"source": "imagefolder:data", "loading": "stream"},
    },
}

SCHEME = Scheme(RetrainingConfig, SECTIONS, PRESETS, "quick")

RETRAINING = CommandLine(
    command="hpcnas retrain",
    screen="""\
Trains the large network of a found cell to the end, on all ranks together, and
tests it.

First, minutes on 2 cores: the paper's cell, on images that are built in:
  hpcnas retrain --preset quick --run large/first
The best cell of a search, five times, on 8 GPUs; add --dry-run to see more:
  mpirun -np 8 hpcnas retrain --preset cifar-large --runs 5 \\
      --genotype runs/cifar:best --run large/cifar
The same command continues one that was cut short; its folder alone suffices:
  mpirun -np 8 hpcnas retrain --run large/cifar
The test accuracies, as in the paper's Table 1:
  hpcnas table1 large/cifar

  --run DIR         folder of the retraining; an existing one is continued
  --preset NAME     settings to start from: quick, cifar-large, imagenet
  --config FILE     settings in TOML; they override the preset, options both
  --genotype WHICH  RUN:best or RUN:ID of a search, FILE.toml, or paper
  --data DATA       digits, cifar10:DIR, imagefolder:DIR, arrays:FILE.h5, …
  --runs N          trainings, each with a seed of its own
  --walltime T      how long this job may run: 4h (else SLURM or PBS is asked)
  --dry-run         print the configuration, sizes and bindings; train nothing
  --help-all        every option, by what it is about, with its default
  --version         print the version
""",
    description="Trains the large network of a found cell to the end, on all ranks together, and tests it.",
    epilog="Settings come from a preset, then --config, then options; a retraining that is continued keeps its own.",
    scheme=SCHEME,
    of_the_paper=frozenset({"network", "training"}),
    ours=frozenset({
        "training.runs", "training.seed", "training.micro_batch", "training.batch_statistics", "training.precision",
    }),  # fmt: skip
)
