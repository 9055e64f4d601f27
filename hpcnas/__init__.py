"""hpcnas: evolutionary architecture search over hierarchical genotypes, as an MPI batch program.

The system of *Hierarchical Representations for Efficient Architecture Search* (Liu, Simonyan, Vinyals, Fernando,
Kavukcuoglu; ICLR 2018). `hpcnas --help` is the way in from a shell, API.md beside this file from Python.

Importing this package starts nothing and loads nothing: the names of the public interface load what they need when they
are asked for (PEP 562), because every rank of a job imports it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from hpcnas.architecture.genotype import Genotype as Genotype
    from hpcnas.architecture.sizes import Size as Size
    from hpcnas.errors import Error as Error
    from hpcnas.public.networks import build_network as build_network
    from hpcnas.public.networks import draw as draw
    from hpcnas.public.networks import mutate as mutate
    from hpcnas.public.networks import size as size
    from hpcnas.public.retrainings import Retraining as Retraining
    from hpcnas.public.retrainings import Training as Training
    from hpcnas.public.retrainings import open_retraining as open_retraining
    from hpcnas.public.runs import Individual as Individual
    from hpcnas.public.runs import Run as Run
    from hpcnas.public.runs import Session as Session
    from hpcnas.public.runs import open_run as open_run

__version__ = "0.2.0"

_PLACES = {
    "Error": "errors",
    "Genotype": "architecture.genotype",
    "Individual": "public.runs",
    "Retraining": "public.retrainings",
    "Run": "public.runs",
    "Session": "public.runs",
    "Size": "architecture.sizes",
    "Training": "public.retrainings",
    "build_network": "public.networks",
    "draw": "public.networks",
    "mutate": "public.networks",
    "open_retraining": "public.retrainings",
    "open_run": "public.runs",
    "size": "public.networks",
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # by name: whoever imports this package does not import the house above it

    return getattr(importlib.import_module(f"hpcnas.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _OlderNames:
    """Asks `renamed` for modules that nobody else has found: those of before 0.2."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not name.startswith("hpcnas."):
            return None
        from hpcnas import renamed  # seldom needed, and every rank is here

        return renamed.find_spec(name)


sys.meta_path.append(_OlderNames)
