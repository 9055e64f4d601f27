"""What a test needs and does not find: a reason to skip it, except where it is demanded."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def absent(reason: str, variable: str) -> NoReturn:
    """Skips the test; fails it where the environment variable is 1."""
    if os.environ.get(variable) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def package(name: str) -> ModuleType:
    """A module of the test environment, such as "sklearn.datasets"."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent(f"{error}: `make test` installs it", "HPCNAS_DEMAND_PACKAGES")
