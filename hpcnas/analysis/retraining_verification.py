"""Whether a retraining is sound: its record against itself and against what can be computed again, the files beside it,
and the genotype against the search that it comes from.

A retraining may be under way: what its job writes while the files are read is read once more. Nothing is trained, and
nothing is changed. What the files beside retrain.h5 hold is `retraining_files`' business.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnas.analysis import retraining_files, training_curves
from hpcnas.architecture import expansion, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.settings import ConfigError
from hpcnas.retrain import record_file, weights_source
from hpcnas.retrain.rates import learning_rate
from hpcnas.retrain.record import Origin, Record, Row, State, Trained, Validation
from hpcnas.search import references, run_file
from hpcnas.search.references import InFile, Paper, WrongReference
from hpcnas.storage.folder import StoreError

ATTEMPTS = 3  # at reading files that a job renews meanwhile
_RATE = 1e-9  # relative difference between learning rates of two machines
_COUNT = 1e-6  # of an image, where a share times a number of images must be a whole number


@dataclass(frozen=True)
class RetrainingVerification:
    """What was found of a retraining."""

    record: Record | None  # None where its values are not those of a retraining
    problems: list[str]  # one line each; none for a sound retraining
    notes: list[str]  # what could not be looked at, and what is worth knowing

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(folder: Path) -> RetrainingVerification:
    """Checks the retraining in a folder. Raises StoreError where there is nothing to check."""
    for _ in range(ATTEMPTS):
        before = retraining_files.stamps(folder)
        found = _once(folder)
        if found.sound or retraining_files.stamps(folder) == before:
            break
    return found


def _once(folder: Path) -> RetrainingVerification:
    if wrong := record_file.faults(folder):
        return RetrainingVerification(None, wrong, [])
    record, notes = record_file.read(folder), list[str]()
    problems = [*faults(record), *retraining_files.faults(folder, record, notes.append)]
    problems += _wrong_origin(record.origin, record.genotype, notes)
    notes += _other_start(record)
    return RetrainingVerification(record, problems, notes)


def faults(record: Record) -> Iterator[str]:
    """What is wrong within a record, a line each; nothing for a sound one."""
    yield from _wrong_network(record)
    yield from _wrong_seeds(record)
    for training in record.trainings:
        rows = training_curves.history(record, training.seed)
        validations = training_curves.validations_of(record, training.seed)
        for wrong in (
            _wrong_state(record, training),
            _wrong_history(record, training, rows),
            _wrong_validations(record, training, validations),
            _wrong_test(training),
        ):
            yield from (f"seed {training.seed}: {told}" for told in wrong)


def _wrong_network(record: Record) -> Iterator[str]:
    """Sizes that are not those of the genotype, and a network that is not the recipe's."""
    skeleton = record.inputs.skeleton
    size = sizes.size(expansion.expand(record.genotype), skeleton)
    if (record.parameters, record.flops) != (size.parameters, size.flops):
        got = f"{record.parameters} and {record.flops}"
        yield f"network: expected {size.parameters} parameters and {size.flops} FLOPs of its genotype, got {got}"
    if record.sessions and (wanted := record.recipe.skeleton(record.facts)) != skeleton:
        yield f"network: expected that of the recipe and the data, {wanted}, got {skeleton}"
    if str(record.genotype.space) != record.origin.space:
        yield f"origin: expected the genotype's space {record.genotype.space}, got {record.origin.space}"


def _wrong_seeds(record: Record) -> Iterator[str]:
    """Trainings that are not there, rows of none, more than one under way, and trainings without a start."""
    seeds = {one.seed for one in record.trainings}
    if missing := [seed for seed in record.recipe.seeds if seed not in seeds]:
        yield f"trainings: expected a row for each of {record.recipe.training.runs} seeds, got none for {missing[0]}"
    for name, rows in (("history", record.history), ("validations", record.validations)):
        if unknown := sorted({row.seed for row in rows} - seeds):
            yield f"{name}: expected rows of trainings alone, got some of seed {unknown[0]}"
    under_way = [one.seed for one in record.trainings if one.state is State.TRAINING]
    if len(under_way) > 1:
        yield f"trainings: expected one under way at the most, got seeds {', '.join(map(str, under_way))}"
    if not record.sessions and any(one.state is not State.WAITING for one in record.trainings):
        yield "sessions: expected one before the first training, got none"
    tested = {one.test_images + one.test_broken for one in record.trainings
              if one.test_images is not None and one.test_broken is not None}  # fmt: skip
    if len(tested) > 1:
        yield f"trainings: expected the same test images for every seed, got {' and '.join(map(str, sorted(tested)))}"


def _wrong_state(record: Record, training: Trained) -> Iterator[str]:
    """Steps, times and results that do not fit where the training stands."""
    steps, state = record.recipe.training.steps, training.state
    if training.step > steps or (state is State.COMPLETE and training.step != steps):
        yield f"expected {steps} steps{' at the most' if state is not State.COMPLETE else ''}, got {training.step}"
    if state is State.WAITING and training.step:
        yield f"expected no step of a training that waits, got {training.step}"
    if state is not State.COMPLETE and training.test_accuracy is not None:
        yield f"expected no test before the training is complete, got test_accuracy {training.test_accuracy}"
    if state is State.COMPLETE and not training.test_images:
        yield f"expected test images, for it was tested, got {training.test_images}"
    yield from _wrong_figures(training.images_per_second, training.input_wait)
    if not 0 <= training.training_seconds < math.inf:
        yield f"expected training_seconds a number ≥ 0, got {training.training_seconds}"


def _wrong_figures(images_per_second: float | None, input_wait: float | None) -> Iterator[str]:
    if images_per_second is not None and not 0 <= images_per_second < math.inf:
        yield f"expected images_per_second a number ≥ 0, got {images_per_second}"
    if input_wait is not None and not 0 <= input_wait <= 1:
        yield f"expected input_wait a share from 0 to 1, got {input_wait}"


def _wrong_history(record: Record, training: Trained, rows: Sequence[Row]) -> Iterator[str]:
    """Rows at other steps than those at which there is one, learning rates that are not the schedule's, and values that
    no step has."""
    recipe, every = record.recipe, record.recipe.run.history_every
    expected = list(range(every, training.step + 1, every))
    if training.step == recipe.training.steps and training.step % every:
        expected.append(training.step)
    got = [row.step for row in rows]
    if got != expected:
        wrong = next((pair for pair in zip(expected, got, strict=False) if pair[0] != pair[1]), None)
        told = f"got one after step {wrong[1]} in place of {wrong[0]}" if wrong else f"got {len(got)}"
        yield f"expected {len(expected)} rows of the history, one every {every} steps up to {training.step}, {told}"
    for row in rows:
        at = f"history, step {row.step}: "
        if not math.isfinite(row.loss):
            yield f"{at}expected a finite loss, got {row.loss}"
        yield from (at + told for told in _wrong_figures(row.images_per_second, row.input_wait))
        if not 1 <= row.step <= recipe.training.steps:
            continue  # which is told above
        rate = learning_rate(recipe.training, row.step - 1)
        if not math.isclose(row.learning_rate, rate, rel_tol=_RATE, abs_tol=1e-15):
            yield f"{at}expected the learning rate {rate:.9g} of the schedule, got {row.learning_rate:.9g}"


def _wrong_validations(record: Record, training: Trained, validations: Sequence[Validation]) -> Iterator[str]:
    """Validations out of order or after the last step, of more images than there are, or with shares of no whole
    numbers of images."""
    images = record.facts.validation_images if record.sessions else 0
    before = 0
    for one in validations:
        at = f"validation after step {one.step}: "
        if not before < one.step <= training.step:
            yield f"{at}expected a step from {before + 1} to {training.step}, got {one.step}"
        before = max(before, one.step)
        if one.images > images:
            yield f"{at}expected at most the {images} validation images of the data, got {one.images}"
        if not _whole(one.accuracy, one.images):
            yield f"{at}expected a share of {one.images} images, got {one.accuracy}"
    if validations and training.state is State.COMPLETE and before != training.step:
        yield f"expected the last validation after step {training.step}, got it after step {before}"


def _wrong_test(training: Trained) -> Iterator[str]:
    """Shares of no whole numbers of test images, and fewer images among the best five than are right."""
    images, accuracy, top5 = training.test_images, training.test_accuracy, training.test_top5
    for name, share in (("test_accuracy", accuracy), ("test_top5", top5)):
        if images and share is not None and not _whole(share, images):
            yield f"expected {name} a share of {images} images, got {share}"
    if accuracy is not None and top5 is not None and top5 < accuracy:
        yield f"expected test_top5 at least the test_accuracy of {accuracy}, got {top5}"


def _whole(share: float, images: int) -> bool:
    return abs(share * images - round(share * images)) <= _COUNT


def _wrong_origin(origin: Origin, genotype: Genotype, notes: list[str]) -> Iterator[str]:
    """Whether the genotype is that of where it comes from; a note where that cannot be looked at now."""
    if origin.run is not None and origin.individual is not None:
        folder = Path(origin.source.rpartition(":")[0])
        try:
            run = run_file.read(folder)
        except StoreError as error:
            notes.append(f"the genotype is not compared with the search that it comes from: {error}")
            return
        if run.run != origin.run:
            notes.append(f"the genotype is not compared with the search that it comes from: {folder} holds another one")
        elif origin.individual >= len(run.population):
            yield f"origin: expected individual {origin.individual} in {folder}, got {len(run.population)} individuals"
        elif run.population.individual(origin.individual).genotype != genotype:
            yield f"origin: expected the genotype of individual {origin.individual} of {folder}, got another one"
        return
    try:
        named = references.one(origin.source)
    except WrongReference as error:
        notes.append(f"the genotype is not compared with what it comes from: {error}")
        return
    if named.genotype != genotype:
        if isinstance(references.parse(origin.source), Paper):
            yield "origin: expected the paper's genotype, got another one"
        elif isinstance(references.parse(origin.source), InFile):
            notes.append(f"{origin.source} holds another genotype by now")


def _other_start(record: Record) -> Iterator[str]:
    """What of the weights that trainings start from is not as it was: the next job would be refused."""
    if record.weights is None:
        return
    try:
        start = weights_source.find(record.recipe, record.genotype)
    except ConfigError as error:
        yield f"the weights that trainings start from are not looked at: {error}"
        return
    if start is None or start.fingerprint != record.weights:
        yield f"{record.recipe.network.weights} holds other weights by now than those that trainings have started from"
