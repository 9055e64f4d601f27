"""Packages that a search does without, such as matplotlib and onnx: what brings one that is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hpcnas.analysis.runs import AnalysisError

COMMAND = "pip install 'hpcnas[tools]'"


@contextlib.contextmanager
def packages(purpose: str, command: str = COMMAND) -> Iterator[None]:
    """Around imports. Raises AnalysisError with the command that installs the package where one is missing."""
    try:
        yield
    except ImportError as error:
        raise AnalysisError(f"expected {error.name} for {purpose}, but {error}: {command}") from error
