"""What torch saves to be read again, in sealed files: checkpoints of searches and retrainings, and weights.

Whole or as before at any time, whatever is killed, and looked at bit by bit before torch reads them: a bit that has
turned over in a weight is no error to torch, and would be trained on. Files of versions without seals end with what
torch has written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import torch

from hpcnas.storage import durable, sealed

_LAST = b"PK\x05\x06"  # begins the last record of what torch.save writes, of 22 bytes


class Unsealed(Exception):
    """A file without a checksum, which torch may be able to read: an earlier version of this program has written it."""

    def __init__(self) -> None:
        super().__init__("it carries no checksum: an earlier version has written it")


def save(path: Path, state: Any) -> None:
    """Puts a state, of tensors and plain values, in place of what stands at `path`. Raises OSError and leaves that."""

    def fill(file: sealed.Sealing) -> None:
        torch.save(state, file)  # type: ignore[arg-type]  # which writes and flushes, no more

    durable.replace(path, lambda temporary: sealed.write(temporary, fill))


def load(path: Path) -> Any:
    """The state that was saved, on the CPU. Raises OSError, sealed.Damaged, Unsealed, and, for what was sealed as it is
    but is no state, whatever torch makes of it."""
    with sealed.opened(path) as file:
        if sealed.content_length(file) is None:
            raise Unsealed() if _ends_as_torch_ends(file) else sealed.Damaged("its end is not what is written there")
        return _read(file)


def load_unsealed_too(path: Path) -> Any:
    """Likewise, but takes what has no seal as torch reads it, which need not notice damage. Raises OSError,
    sealed.Damaged, and whatever torch makes of something else."""
    with sealed.opened(path) as file:
        sealed.content_length(file)
        return _read(file)


def _read(file: IO[bytes]) -> Any:
    return torch.load(file, map_location="cpu", weights_only=True)


def _ends_as_torch_ends(file: IO[bytes]) -> bool:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), len(_LAST), max(0, size - 22)) == _LAST
