"""hpcnas: evolutionary architecture search over hierarchical genotypes, as an MPI batch program.

The system of *Hierarchical Representations for Efficient Architecture Search* (Liu, Simonyan, Vinyals, Fernando,
Kavukcuoglu; ICLR 2018). `hpcnas --help` is the way in from a shell, API.md beside this file from Python.

Importing this package starts nothing and loads nothing: the names of the public interface load what they need when they
are asked for (PEP 562), because every rank of a job imports it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hpcnas.renamed import OlderNames

if TYPE_CHECKING:
    from hpcnas.interface import Error as Error
    from hpcnas.interface import Genotype as Genotype
    from hpcnas.interface import Individual as Individual
    from hpcnas.interface import Retraining as Retraining
    from hpcnas.interface import Run as Run
    from hpcnas.interface import Session as Session
    from hpcnas.interface import Size as Size
    from hpcnas.interface import Training as Training
    from hpcnas.interface import build_network as build_network
    from hpcnas.interface import draw as draw
    from hpcnas.interface import mutate as mutate
    from hpcnas.interface import open_retraining as open_retraining
    from hpcnas.interface import open_run as open_run
    from hpcnas.interface import size as size

__version__ = "0.2.0"

__all__ = [
    "Error",
    "Genotype",
    "Individual",
    "Retraining",
    "Run",
    "Session",
    "Size",
    "Training",
    "__version__",
    "build_network",
    "draw",
    "mutate",
    "open_retraining",
    "open_run",
    "size",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # by name: whoever imports this package does not import the house above it

    return getattr(importlib.import_module("hpcnas.interface"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.meta_path.append(OlderNames)  # names of files before 0.2
