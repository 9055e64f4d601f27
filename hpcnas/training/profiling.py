"""A torch profiler trace of how one evaluation begins, for a trace viewer (chrome://tracing, Perfetto)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch

from hpcnas.storage import durable

BEATS = 8  # signs of life that a trace covers: steps on a CPU, each 25 of them on a GPU; a whole one would be huge


def claim(path: Path) -> bool:
    """Whether this process is the first of all to claim a file, and so the one that writes it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        return False
    return True


class Trace:
    """Records from the beginning of a `with` to its end, or to the BEATS-th call of `beat`; then writes the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beats = 0
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        self._profiler: torch.profiler.profile | None = torch.profiler.profile(activities=kinds)

    def __enter__(self) -> Self:
        assert self._profiler is not None, "a trace is made once"
        self._profiler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def around(self, beat: Callable[[], None]) -> Callable[[], None]:
        """A beat that also counts."""

        def counted() -> None:
            self._beats += 1
            if self._beats == BEATS:
                self._write()
            beat()

        return counted

    def _write(self) -> None:
        """Writes the trace, or says why not: the evaluation goes on without it."""
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return
        profiler.stop()
        try:
            durable.replace(self._path, lambda temporary: profiler.export_chrome_trace(str(temporary)))
        except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
            print(f"no trace {self._path}: {error}", file=sys.stderr, flush=True)
