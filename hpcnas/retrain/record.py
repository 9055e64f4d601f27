"""What is known of a retraining: where its genotype comes from, what its network reads, its trainings, its starts; and
what of it is wanted.

Plain records. How they are written is `record_file`'s business, when is `record_keeper`'s. No HDF5, torch or MPI.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.measures import ACCURACY
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.evolution.individuals import Birth
from hpcnas.job.session import Session


class State(IntEnum):
    """Where a training stands. The numbers are part of the file format."""

    WAITING = 1
    TRAINING = 2
    COMPLETE = 3
    DIVERGED = 4  # ended with a loss that was not finite; `step` is the last one saved


@dataclass(frozen=True)
class Origin:
    """Where a genotype comes from. What a search alone can say is None for a file or the paper's cell."""

    source: str  # as it was given: RUN:ID, FILE.toml, paper
    space: str
    run: str | None = None  # the search's own name, 32 hexadecimal digits
    individual: int | None = None
    strategy: str | None = None
    fitness: float | None = None
    evaluation: int | None = None  # its place in the order of evaluations, from 0
    evaluated: int | None = None  # individuals evaluated when the retraining began
    fittest: bool | None = None  # whether it was the best of them
    max_parameters: int | None = None  # the search's constraint; None also where it had none
    departures: str | None = None  # `key value` where the search went another way than the paper's; None: not known
    birth: Birth | None = None  # how the individual came to be; None also in older files

    @property
    def measure(self) -> str:
        """What the fitness is, as `--fitness` has it: by the departures, for the paper's is accuracy."""
        told = [one.partition(" ") for one in (self.departures or "").split(", ")]
        return next((value for key, _, value in told if key == "fitness"), ACCURACY.name)


@dataclass(frozen=True)
class Inputs:
    """What the network is built for: images as they are tested, and what their pixels become."""

    skeleton: Skeleton  # its height and width are those of the middle of a test image, which is classified
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # of each channel, in pixel values (0 to 255 of uint8); an input is (pixel − mean) / std
    std: tuple[float, ...]
    resize: int  # pixels that the shorter side of a test image is resized to, before its middle is taken
    type: str = "uint8"  # of the pixels; test images are of the same


@dataclass(frozen=True)
class Trained:
    """One training. What is not known yet is None."""

    seed: int
    state: State = State.WAITING
    step: int = 0
    training_seconds: float = 0.0
    images_per_second: float | None = None
    input_wait: float | None = None  # share of the time that the ranks waited for images
    test_images: int | None = None
    test_accuracy: float | None = None  # 0 to 1
    test_top5: float | None = None  # likewise; where there are more than 5 classes
    test_loss: float | None = None
    started: float | None = None  # seconds since 1970, UTC
    finished: float | None = None
    peak_memory: int | None = None  # bytes that tensors took of rank 0's GPU at the most; None on CPUs
    test_broken: int | None = None  # test images that could not be read
    test_balanced_accuracy: float | None = None  # 0 to 1; this and what follows also not known in older files
    test_macro_f1: float | None = None  # likewise
    test_auroc: float | None = None  # likewise; None also where there is none, or of too many images and classes


@dataclass(frozen=True)
class Row:
    """The mean of some steps of a training, the last of them `step` (from 1)."""

    seed: int
    step: int
    loss: float
    accuracy: float  # on augmented training images, 0 to 1
    learning_rate: float  # of the last of the steps
    images_per_second: float
    input_wait: float


@dataclass(frozen=True)
class Validation:
    """How the network of a training does on the validation images after some step (from 1)."""

    seed: int
    step: int
    images: int  # those that could be read
    accuracy: float  # 0 to 1
    loss: float | None  # mean cross-entropy; None where it is not finite
    seconds: float  # that it took, in which nothing was trained


@dataclass(frozen=True)
class RetrainingSession(Session):
    """One start of a retraining; the device, and the type of the numbers of its feature maps, are those of rank 0."""

    device: str
    numbers: str = ""  # float32, bfloat16 or float64; empty where it is not known, as in older files


@dataclass
class Record:
    """All that is known of a retraining: what retrain.h5 holds."""

    run: str  # the retraining's own name, 32 hexadecimal digits
    recipe: RetrainingConfig
    genotype: Genotype
    origin: Origin
    inputs: Inputs
    parameters: int
    flops: int  # of one forward pass of one image
    trainings: list[Trained] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    sessions: list[RetrainingSession] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)  # of each training in the order of steps
    weights: str | None = None  # fingerprint of those that all trainings start from; None: they are drawn
    micro_batch: int | None = None  # images that batch statistics are of where memory had no room for the recipe's

    @property
    def trained_by(self) -> RetrainingConfig:
        """The recipe as it is gone by: with smaller batches where memory has asked for them."""
        return self.recipe.with_smaller_batches(self.micro_batch)

    @property
    def facts(self) -> DataFacts:
        """Of the data, which are the same in every session."""
        return self.sessions[-1].facts

    def on_its_images(self, recipe: RetrainingConfig) -> RetrainingConfig:
        """A recipe with the steps that its epochs come to on these data."""
        return recipe.on_images(self.facts.training_images) if self.sessions else recipe

    def last_validation(self, seed: int) -> Validation | None:
        """Of the training of that seed, the last one; None where there is none."""
        return next((found for found in reversed(self.validations) if found.seed == seed), None)

    @property
    def diverged(self) -> list[int]:
        """Seeds of the trainings whose loss was not finite."""
        return [found.seed for found in self.trainings if found.state is State.DIVERGED]

    @property
    def test_accuracies(self) -> list[float]:
        """Of the complete trainings, in the order of their seeds."""
        return [found.test_accuracy for found in self.trainings if found.test_accuracy is not None]


@dataclass(frozen=True)
class Start:
    """Weights that trainings start from."""

    file: Path
    fingerprint: str  # 16 hexadecimal digits over the bytes of the file
    class_names: tuple[str, ...] = ()  # of the scores that they give; empty where only the file is known


@dataclass(frozen=True)
class Plan:
    """What is to be trained."""

    recipe: RetrainingConfig
    genotype: Genotype
    origin: Origin
    record: Record | None  # of what was trained so far; None where the retraining is new
    anew: bool = False  # what has diverged is trained with other settings, from the beginning
    start: Start | None = None  # what a training that begins starts from; None where none begins, or it draws weights

    @property
    def micro_batch(self) -> int | None:
        """Images that batch statistics are of where memory had no room for the recipe's when it began."""
        return None if self.record is None else self.record.micro_batch

    @property
    def waiting(self) -> tuple[int, ...]:
        """Seeds of the trainings that are wanted and not complete."""
        trained = [] if self.record is None else self.record.trainings
        done = {found.seed for found in trained if found.state is State.COMPLETE}
        return tuple(seed for seed in self.recipe.seeds if seed not in done)
