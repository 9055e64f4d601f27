"""The files beside retrain.h5 against its record: checkpoint, weights, predictions, genotype.toml and status. Changes
nothing.

Checkpoints and weights are looked at bit by bit, by their seals, and then as torch reads them: a checkpoint must be a
state that the training under way can go on from, weights must be those of the network. Without torch, that is not
looked at, and said.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hpcnas import text_file
from hpcnas.analysis import job_state, training_curves
from hpcnas.analysis.runs import AnalysisError
from hpcnas.architecture.genotype import Genotype, GenotypeError
from hpcnas.retrain import predictions, record_file
from hpcnas.retrain.record import Record, State, Trained
from hpcnas.storage import sealed
from hpcnas.storage.folder import StoreError

CHECKPOINT, GENOTYPE = "checkpoint.pt", "genotype.toml"
Tell = Callable[[str], object]


def stamps(folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether any file of the folder was renewed: names, sizes and times, without log and lock."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            status = path.stat()
        except OSError:  # it has just been renamed, say
            continue
        if path.name not in ("log", "lock"):
            found.append((path.name, status.st_size, status.st_mtime_ns))
    return found


def faults(folder: Path, record: Record, note: Tell) -> Iterator[str]:
    """What is wrong with the files, a line each. `note` hears what could not be looked at, and what is of no harm."""
    yield from _wrong_genotype(folder / GENOTYPE, record.genotype)
    yield from _wrong_status(folder, record)
    for training in record.trainings:
        if training.state is State.COMPLETE:
            yield from _wrong_predictions(folder, record, training, note)
    if importlib.util.find_spec("torch") is None:
        note("weights and checkpoint are not looked at, since torch is not installed")
        return
    yield from _wrong_weights(folder, record, note)
    yield from _wrong_checkpoint(folder / CHECKPOINT, record, note)


def _wrong_genotype(path: Path, genotype: Genotype) -> Iterator[str]:
    if not path.exists():
        return  # it is for people alone
    try:
        if Genotype.from_text(text_file.read(path)) != genotype:
            yield f"{path}: expected the genotype of {record_file.NAME}, got another one"
    except (GenotypeError, text_file.Unreadable) as error:
        yield f"{path}: expected the genotype of {record_file.NAME}, but it cannot be read: {error}"


def _wrong_status(folder: Path, record: Record) -> Iterator[str]:
    said = job_state.status(folder)
    waiting = [one.seed for one in record.trainings
               if one.state is not State.COMPLETE and one.seed in record.recipe.seeds]  # fmt: skip
    if said == "complete" and waiting:
        yield f"{folder / 'status'}: expected more to do, for seed {waiting[0]} is not complete, got complete"


def _wrong_predictions(folder: Path, record: Record, training: Trained, note: Tell) -> Iterator[str]:
    """Predictions of another number of test images, or of another accuracy, than the record has."""
    path = predictions.path(folder, training.seed)
    try:
        found = predictions.read(folder, record, training.seed)
    except StoreError as error:
        yield str(error)
        return
    if found is None:
        note(f"there is no {path.name}: an earlier version has tested seed {training.seed}, or it was taken away")
        return
    rows, right = len(found.labels), int(np.count_nonzero(found.right))
    if rows != training.test_images:
        yield f"{path}: expected a row for each of {training.test_images} test images, got {rows}"
    elif training.test_accuracy is not None and right != round(training.test_accuracy * rows):
        yield f"{path}: expected {round(training.test_accuracy * rows)} images classified correctly, got {right}"


def _wrong_weights(folder: Path, record: Record, note: Tell) -> Iterator[str]:
    """Weights of complete trainings that are missing, damaged, of another network or not finite."""
    complete = [one.seed for one in record.trainings if one.state is State.COMPLETE]
    for path in sorted(folder.glob("weights-*.pt")):
        named = re.fullmatch(r"weights-(\d{1,19})\.pt", path.name)
        if named and int(named[1]) not in complete:
            note(f"{path.name} is that of no complete training")
    if not complete:
        return
    from hpcnas.analysis import classifier  # brings torch
    from hpcnas.architecture import expansion
    from hpcnas.training.network import Network

    network = Network(expansion.expand(record.genotype), record.inputs.skeleton)
    for seed in complete:
        path = record_file.weights_path(folder, seed)
        try:
            if not _is_sealed(path):
                note(f"{path.name} carries no checksum: an earlier version has written it")
            classifier.load_weights(network, path)
        except FileNotFoundError:
            yield f"{path}: expected the weights of seed {seed}, but there is no such file"
        except (AnalysisError, OSError) as error:
            yield str(error)
        except sealed.Damaged as error:
            yield f"{path} is damaged: {error}"
        else:
            wrong = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
            if wrong:
                yield f"{path}: expected finite numbers, but {wrong[0]} has others"


def _is_sealed(path: Path) -> bool:
    """Whether a file has a seal, which then fits it. Raises OSError, sealed.Damaged."""
    with sealed.opened(path) as file:
        return sealed.content_length(file) is not None


def _wrong_checkpoint(path: Path, record: Record, note: Tell) -> Iterator[str]:
    """A checkpoint that is missing, damaged, or no state that the training under way can go on from."""
    under_way = next((one for one in record.trainings if one.state is State.TRAINING and one.step), None)
    if under_way is None:
        if path.exists() and not record.diverged:  # of which the last state stays
            note(f"{path.name} is there, though no training is under way that has saved a step")
        return
    from hpcnas.analysis import checkpoint_state  # brings torch

    try:
        if not _is_sealed(path):
            note(f"{path.name} carries no checksum: an earlier version has written it")
        found = checkpoint_state.read(path, record, under_way.seed)
    except FileNotFoundError:
        yield f"{path}: expected the state of seed {under_way.seed}, but there is no such file"
        return
    except sealed.Damaged as error:
        yield f"{path} is damaged: {error}"
        return
    except checkpoint_state.WrongState as error:
        yield f"{path}: {error}"
        return
    if found.step < under_way.step:
        yield f"{path}: expected the state after step {under_way.step} or a later one, got step {found.step}"
    elif found.step == under_way.step and found.history != training_curves.history(record, under_way.seed):
        yield f"{path}: expected the history of {record_file.NAME}, got another one"
