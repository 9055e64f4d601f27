"""The paper's Table 1, with what retrainings have reached beside it: the numbers and their rows. Prints nothing.

Errors are shares of test images in percent, of the networks that were trained to the end. Retrainings of the same kind
of genotype, on the same data, by the same recipe make one row: mean and standard deviation over all their seeds, but
for those that diverged, which are counted. A published error stands only beside what was found as the paper's genotypes
were, and trained by the paper's recipe, as far as the paper tells both.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcnas.analysis import first_architecture
from hpcnas.analysis.first_architecture import ONE
from hpcnas.analysis.retrainings import Found
from hpcnas.config import data_spec
from hpcnas.config.data_spec import CIFAR10
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.retrain.record import Origin, Record

IMAGENET = "ImageNet"
IMAGENET_SIZE = (1000, 1_281_167)  # classes and training images of ILSVRC 2012
# Settings of a recipe that change nothing, have a column of their own, or are told in other words.
_ASIDE = (
    "network.channels", "network.plugins", "training.seed", "training.epochs", "run.history_every",
    "training.micro_batch", "training.batch_statistics", "training.precision",
)  # fmt: skip
_OF_RESIDENT = ("augmentation.crop", "augmentation.padding")  # what `stream` does not go by
_OF_STREAM = ("augmentation.crop_area", "augmentation.brightness", "augmentation.contrast", "data.image_size",
              "data.resize")  # fmt: skip
_SHORT = {"float32": "fp32", "bfloat16": "bf16", "float64": "fp64"}


@dataclass(frozen=True)
class Experiment:
    """What a row is about: how the genotype was found, and what its network was trained on."""

    data: str
    representation: str
    search: str
    channels: int  # c0
    departures: str = ""  # from the paper's recipe, but for c0


# Table 1 of arXiv 1711.00436v2, c0 = 64: error on CIFAR-10, mean ± standard deviation of 5 runs; on ImageNet, top-1 /
# top-5.
_PUBLISHED = (
    ("flat", ONE, "4.56 ± 0.11", "21.4 / 5.8"),
    ("flat", "random search, 200", "4.02 ± 0.11", "20.8 / 5.7"),
    ("flat", "evolution, 7000", "3.92 ± 0.06", "20.6 / 5.6"),
    ("flat", "parameter-constrained evolution, 7000", "4.17 ± 0.08", "21.2 / 5.8"),
    ("hierarchical", ONE, "4.21 ± 0.11", "21.5 / 5.8"),
    ("hierarchical", "random search, 200", "4.04 ± 0.20", "20.4 / 5.3"),
    ("hierarchical", "random search, 7000", "3.91 ± 0.15", "21.0 / 5.5"),
    ("hierarchical", "evolution, 7000", "3.75 ± 0.12", "20.3 / 5.2"),
)
PAPER: dict[Experiment, str] = {
    **{Experiment(CIFAR10, form, search, 64): error for form, search, error, _ in _PUBLISHED},
    Experiment(CIFAR10, "hierarchical", "evolution, 7000", 128): "3.63 ± 0.10",
    **{Experiment(IMAGENET, form, search, 64): error for form, search, _, error in _PUBLISHED},
}


def rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    """The table: the paper's rows in its order, those that it does not have after those of the same data. Errors in
    percent, None where nothing was measured; `seeds` is how many they are of, `diverged` how many are not among them
    because their loss was not finite; `paper` in its own words."""
    ours: dict[Experiment, list[Found]] = defaultdict(list)
    for each in found:
        ours[experiment(each.stored)].append(each)
    experiments = list(dict.fromkeys((*PAPER, *ours)))
    wanted = {each.data for each in ours}
    data = [name for name in dict.fromkeys(each.data for each in experiments) if name in wanted]
    return [_row(each, ours.get(each, [])) for name in data for each in experiments if each.data == name]


def experiment(stored: Record) -> Experiment:
    """What a retraining's row is about."""
    source, facts = stored.recipe.data.source, stored.facts
    name = data_spec.title(source, facts.classes, facts.fingerprint)
    held_out = facts.validation_images if stored.recipe.data.validation_fraction else 0
    if source.startswith("imagefolder:") and (facts.classes, facts.training_images + held_out) == IMAGENET_SIZE:
        name = IMAGENET
    told = departures(stored, "imagenet" if name == IMAGENET else "cifar-large")
    return Experiment(name, stored.origin.space, search(stored.origin), stored.inputs.skeleton.channels, told)


def departures(stored: Record, preset: str) -> str:
    """Where a retraining's recipe differs from the paper's in what changes the result: `key value` each, weights that
    it started from by their fingerprint, batch statistics and numbers in words of their own; but for c0 and seeds. The
    preset has all that the paper tells.

    Where the paper is silent, its batch statistics are taken to be over all images of a step, and its numbers to be
    fp32."""
    recipe = stored.recipe
    settings = SCHEME.departures(SCHEME.build(SCHEME.preset(preset)), recipe, (*_ASIDE, *idle(recipe)))
    weights = "" if stored.weights is None else f"weights {stored.weights:.8}"
    return ", ".join(filter(None, [settings, weights, batch_statistics(stored.trained_by), _precision(stored)]))


def idle(recipe: RetrainingConfig) -> tuple[str, ...]:
    """Settings, as `section.key`, that a retraining of this recipe does not go by."""
    found = _OF_RESIDENT if recipe.data.loading == "stream" else _OF_STREAM
    if recipe.training.schedule != "milestones":
        found = (*found, "training.milestones")
    if not recipe.augmentation.rand_augment:
        found = (*found, "augmentation.rand_augment_magnitude")
    return found


def batch_statistics(recipe: RetrainingConfig) -> str:
    """Over how many images they were, where those were not all of a step; else an empty text."""
    training = recipe.training
    if training.batch_statistics == "step" or recipe.micro_batches == 1:
        return ""
    return f"batch statistics of {training.micro_batch} images"


def _precision(stored: Record) -> str:
    """Which numbers feature maps were in, in any of the sessions, where those were not fp32 alone."""
    asked, found = stored.recipe.training.precision, []
    for session in stored.sessions:
        on_cpu = "fp32" if session.device == "cpu" else "unknown"
        found.append(_SHORT.get(session.numbers, on_cpu) if asked == "auto" else asked)
    return "" if set(found) <= {"fp32"} else f"precision {' and '.join(dict.fromkeys(found))}"


def search(origin: Origin) -> str:
    """How a genotype was found, in the words of the table, and where that was not the paper's way."""
    if origin.run is None:
        return "evolution, 7000" if origin.source == "paper" else f"the genotype {origin.source}"
    if origin.evaluation == 0:
        return first_architecture.called(origin)
    name = {"random": "random search", "tournament": "evolution"}.get(origin.strategy or "", origin.strategy)
    limited = limit = ""
    if origin.max_parameters is not None:  # the paper does not tell its own
        limited, limit = "parameter-constrained ", f"fewer than {origin.max_parameters:,} parameters"
    which = "" if origin.fittest else f", individual {origin.individual}"
    departures = "settings unknown" if origin.departures is None else origin.departures
    return ", ".join(filter(None, [f"{limited}{name}, {origin.evaluated}{which}", limit, departures]))


def _row(experiment: Experiment, found: Sequence[Found]) -> dict[str, Any]:
    trained = [training for each in found for training in each.complete]
    errors = [100 * (1 - training.test_accuracy) for training in trained if training.test_accuracy is not None]
    top5 = [100 * (1 - training.test_top5) for training in trained if training.test_top5 is not None]
    return {
        "data": experiment.data,
        "representation": experiment.representation,
        "search": experiment.search,
        "channels": experiment.channels,
        "departures": experiment.departures,
        "parameters": found[0].stored.parameters if found else None,
        "retrainings": [str(each.folder) for each in found],
        "seeds": len(errors),
        "diverged": sum(len(each.stored.diverged) for each in found),
        "error": statistics.fmean(errors) if errors else None,
        "error_std": statistics.stdev(errors) if len(errors) > 1 else None,
        "top5_error": statistics.fmean(top5) if top5 else None,
        "paper": PAPER.get(experiment),
    }
