"""The environment of a child process that imports modules of the tests, as pytest lets tests import them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parent


def importing_tests(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment with the folders of the tests before all others on PYTHONPATH."""
    folders = [TESTS, *sorted(path for path in TESTS.iterdir() if path.is_dir())]
    path = os.pathsep.join([*map(str, folders), *filter(None, [environment.get("PYTHONPATH")])])
    return {**environment, "PYTHONPATH": path}
