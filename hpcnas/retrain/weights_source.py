"""Which trained weights `--weights` names, for a retraining to start from: a file, or a training of another retraining.

    FILE        a state_dict, as `hpcnas export weights` writes it
    RUN         the complete training of the least seed in that retraining
    RUN:SEED    that of the seed

What is there goes before the grammar: a name with a colon that is there is that file or folder. What a retraining was
of is known here, and compared; of a file alone only the tensors tell, which `trained_weights` looks at. No torch.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from hpcnas.architecture import expansion
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.retraining import RetrainingConfig
from hpcnas.config.settings import ConfigError
from hpcnas.retrain import record_file
from hpcnas.retrain.record import Record, Start, State
from hpcnas.storage import sealed
from hpcnas.storage.folder import StoreError


def find(recipe: RetrainingConfig, genotype: Genotype) -> Start | None:
    """What the recipe's `weights` name, for a network of that genotype; None where it has none. Raises ConfigError
    where there are none, or they are known to be another network's."""
    text = recipe.network.weights
    if text is None:
        return None
    try:
        file, record = _named(text)
        if record is not None:
            _require_alike(record, recipe, genotype)
        fingerprint = _fingerprint(file)
    except OSError as error:
        raise ConfigError(
            f"--weights {text:.200}: expected a file of weights or a retraining that can be read: {error.strerror}; "
            "where they were moved, say where they lie now"
        ) from None
    except (_Wrong, sealed.Damaged, StoreError) as error:
        raise ConfigError(f"--weights {text:.200}: {error}") from None
    return Start(file, fingerprint, () if record is None else record.inputs.class_names)


def readings(text: str) -> list[Path]:
    """The folders that RUN or RUN:SEED may mean."""
    folder, colon, seed = text.rpartition(":")
    return [Path(text), *([Path(folder)] if colon and re.fullmatch(r"\d{1,19}", seed) else [])]


class _Wrong(Exception):
    """What is expected, and what came."""


def _named(text: str) -> tuple[Path, Record | None]:
    """The file of the weights, and the retraining that it lies in where that was named. Raises _Wrong, StoreError."""
    folder = next((folder for folder in readings(text) if record_file.exists(folder)), None)
    if folder is None:
        if os.path.isdir(text):
            raise _Wrong("expected a retraining, or a file of weights, but that folder is none")
        return Path(text), None
    record = record_file.read(folder)
    complete = [training.seed for training in record.trainings if training.state is State.COMPLETE]
    if not complete:
        raise _Wrong("expected a retraining with a complete training, but none is yet")
    seed = min(complete) if folder == Path(text) else int(text.rpartition(":")[2])
    if seed not in complete:
        raise _Wrong(f"expected the seed of a complete training ({', '.join(map(str, sorted(complete)))}), got {seed}")
    return record_file.weights_path(folder, seed), record


def _fingerprint(file: Path) -> str:
    """16 hexadecimal digits over its bytes. Raises OSError, sealed.Damaged."""
    digest = hashlib.blake2b(digest_size=8)
    with sealed.opened(file) as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _require_alike(record: Record, recipe: RetrainingConfig, genotype: Genotype) -> None:
    """Raises _Wrong unless the retraining is of this cell in a network of the same cells."""
    if expansion.expand(record.genotype) != expansion.expand(genotype):
        raise _Wrong(f"expected the weights of this cell, got those of another one, {record.origin.source:.200}")
    network, theirs = recipe.network, record.inputs.skeleton
    for name, wanted, found in (
        ("--channels", network.channels, theirs.channels),
        ("--cells", " ".join(map(str, network.cells)), " ".join(map(str, theirs.cells))),
        ("--stem", network.stem, theirs.stem),
    ):
        if wanted != found:
            raise _Wrong(f"expected the weights of a network with {name} {wanted}, got one with {name} {found}")
