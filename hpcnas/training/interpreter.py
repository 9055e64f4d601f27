"""A Python process that imports the same modules as this one, from the same places in the same order.

Where `hpcnas` comes from (the current folder, PYTHONPATH, site-packages, an editable installation) is the parent's
affair: PYTHONPATH could only say it by putting that folder before the standard library, whose modules the folder may
have old namesakes of.
"""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> list[str]:
    """The command line that runs `code`; what is added to it stands in `sys.argv` from 1 on."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"]  # sys itself is built in
