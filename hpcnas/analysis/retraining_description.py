"""A retraining as the methods section of a paper tells it: sentences that are true of it, as far as it has come.

They say where the cell comes from, what its network was trained on and how, what the test error is the mean of, and
every setting that is not the paper's (the presets `cifar-large` and `imagenet`), but for where and how the program ran.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from hpcnas.analysis import table1
from hpcnas.analysis.citations import PAPER, Sentence, joined, program
from hpcnas.analysis.retrainings import Found
from hpcnas.analysis.search_description import shown, software
from hpcnas.config.retraining import SCHEME, RetrainingConfig
from hpcnas.job.log import many
from hpcnas.retrain.record import Record, State

# In sentences of their own, or without any bearing on what is trained.
_TOLD = ("network.genotype", "network.weights", "network.plugins", "training.runs", "training.seed",
         "training.micro_batch", "training.batch_statistics", "data.source", "data.max_broken")  # fmt: skip


def sentences(found: Found) -> list[Sentence]:
    """The paragraph."""
    stored = found.stored
    versions = [session.software.get("hpcnas") for session in stored.sessions]
    return [
        Sentence("The large network was trained with hpcnas, by the recipe of the paper where nothing else is said",
                 (PAPER, program(versions))),
        *_genotype(stored),
        *_network(stored),
        *_training(stored.recipe, stored),
        *_results(found),
        Sentence(_different(stored)),
        *_environment(stored),
    ]  # fmt: skip


def _genotype(stored: Record) -> Iterator[Sentence]:
    """Where the cell comes from."""
    origin = stored.origin
    if origin.run is None:
        if origin.source == "paper":
            yield Sentence("Its cell is the best hierarchical one that is published", (PAPER,))
        else:
            yield Sentence(f"Its cell is the genotype {origin.source} of the {origin.space} space")
        return
    best = {True: ", the result of that search by then", False: ", which was not the result of that search by then",
            None: ""}[origin.fittest]  # fmt: skip
    done = "" if origin.evaluated is None else f" of {many(origin.evaluated, 'evaluation')}"
    text = f"Its cell is individual {origin.individual} of a search{done}"
    if origin.strategy is not None:
        text += f" by the strategy {origin.strategy}"
    yield Sentence(f"{text} in the {origin.space} space{best}")
    if origin.max_parameters is not None:
        yield Sentence(f"That search allowed only networks of fewer than {origin.max_parameters:,} parameters")
    if origin.departures:
        yield Sentence(f"Its other settings that are not the paper's: {origin.departures}")


def _network(stored: Record) -> Iterator[Sentence]:
    """What was built of the cell, and what it learnt from."""
    network = stored.recipe.network
    cells = joined([str(number) for number in network.cells])
    stem = "two 3×3 convolutions of stride 2" if network.stem == "strided" else "a 3×3 convolution"
    yield Sentence(
        f"The network begins with {stem}, has {network.channels} channels at first and groups of {cells} cells, and "
        f"{stored.parameters:,} parameters"
    )
    if not stored.sessions:
        return
    facts = stored.facts
    held_out = ""
    if facts.validation_images:
        held_out = f"; {facts.validation_images:,} others were validated on while it trained"
    yield Sentence(
        f"It was trained on {facts.training_images:,} images of {table1.experiment(stored).data} in {facts.classes} "
        f"classes{held_out}"
    )


def _training(recipe: RetrainingConfig, stored: Record) -> Iterator[Sentence]:
    training = recipe.training
    rate = "falls to 0 along a cosine"
    if training.schedule == "milestones":
        rate = f"is divided by 10 after {joined([f'{100 * share:g} %' for share in training.milestones])} of the steps"
    start = "from scratch" if stored.weights is None else f"from trained weights (fingerprint {stored.weights})"
    yield Sentence(
        f"A training, {start}, has {training.steps:,} steps of SGD on batches of {training.batch_size:,} images, with "
        f"momentum {training.momentum:g}, weight decay {training.weight_decay:g} and a learning rate that begins at "
        f"{training.learning_rate:g} and {rate}"
    )
    if table1.batch_statistics(stored.trained_by):
        why = "" if stored.micro_batch is None else ", since memory had no room for more"
        yield Sentence(
            f"Batch statistics were of {stored.trained_by.training.micro_batch} images at a time instead of all of a "
            f"step{why}"
        )
    if training.weight_averaging:
        yield Sentence(f"Tested is a moving average of the weights, with the decay {training.weight_averaging:g}")


def _results(found: Found) -> Iterator[Sentence]:
    """The test error, and what it is the mean of."""
    stored, complete = found.stored, found.complete
    errors = [100 * (1 - one.test_accuracy) for one in complete if one.test_accuracy is not None]
    if errors:
        images = joined([f"{number:,}" for number in sorted({one.test_images or 0 for one in complete})])
        told, of = f"{errors[0]:.2f}", f"one training, with the seed {complete[0].seed}"
        if len(errors) > 1:
            told = f"{statistics.fmean(errors):.2f} ± {statistics.stdev(errors):.2f}"
            seeds = joined([str(one.seed) for one in complete])
            of = f"mean ± sample standard deviation of {len(errors)} trainings, with the seeds {seeds}"
        yield Sentence(f"Its error on {images} test images is {told} % ({of})")
    else:
        yield Sentence("No training is complete")
    if stored.diverged:
        beside = "Not among these" if errors else "Given up"
        yield Sentence(f"{beside}: {many(len(stored.diverged), 'training')} whose loss was not finite")
    waiting = [one for one in stored.trainings
               if one.state in (State.WAITING, State.TRAINING) and one.seed in stored.recipe.seeds]  # fmt: skip
    if waiting and errors:
        yield Sentence(f"{many(len(waiting), 'training')} more {'was' if len(waiting) == 1 else 'were'} not complete")


def _different(stored: Record) -> str:
    """The settings that are not the paper's, each with the paper's."""
    preset = "imagenet" if table1.experiment(stored).data == table1.IMAGENET else "cifar-large"
    usual, found = SCHEME.settings(SCHEME.build(SCHEME.preset(preset))), SCHEME.settings(stored.recipe)
    aside = {*_TOLD, *table1.idle(stored.recipe)}
    told = [
        f"{key} {shown(value)} ({shown(usual[section][key])})"
        for section, values in found.items()
        for key, value in values.items()
        if section != "run" and f"{section}.{key}" not in aside and value != usual[section][key]
    ]
    if not told:
        return f"All settings are the paper's (preset {preset})"
    return (
        f"Settings that are not the paper's (preset {preset}), with its own in parentheses: {', '.join(told)}"
    )


def _environment(stored: Record) -> Iterator[Sentence]:
    """Versions and devices, as the retraining has kept them."""
    sessions = stored.sessions
    if not sessions:
        return
    ranks = joined([f"{number:,}" for number in sorted({session.ranks for session in sessions})])
    jobs = "one job" if len(sessions) == 1 else f"{len(sessions)} jobs"
    devices = joined(list(dict.fromkeys(session.device for session in sessions)))
    text = software(session.software for session in sessions)
    used = f", with {text}" if text else ""
    yield Sentence(f"All ranks trained one network together: {ranks} in {jobs}, rank 0 on {devices}{used}")
    numbers = list(dict.fromkeys(session.numbers for session in sessions if session.numbers))
    if numbers:
        yield Sentence(f"Feature maps were of {joined(numbers)} numbers")
