"""Compiles `kernels.c` for this machine, once, and loads it; the rest of the package sees ordinary functions.

A second or two with the system's C compiler, kept in the user's cache folder for every process and run to come. Where
there is no compiler, `load` says so by None, and plans are not used.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("kernels.c")
KINDS = ("copy", "maximum", "average", "convolution", "depthwise", "separable", "stem", "head")
_NUMBERS = (
    *("kind", "images", "height", "width", "channels", "outputs", "stride", "out_height", "out_width"),
    *("row", "source_row"),
)
_POINTERS = (
    *("source", "d_source", "target", "d_target", "filters", "d_filters", "weights", "d_weights"),
    *("scale", "d_scale", "shift", "d_shift", "running_mean", "running_variance", "statistics"),
    *("raw", "d_raw", "middle", "d_middle", "totals", "sums", "winners", "zeros", "lowest", "room", "labels", "loss"),
)
STEP = np.dtype([(name, np.int64) for name in (*_NUMBERS, *_POINTERS)])
"""One step, as kernels.c has it: numbers and pointers, eight bytes each."""
NODE = np.dtype(
    [
        (name, np.int64)
        for name in ("images", "pixels", "channels", "outs", "first_out", "ins", "first_in", "map", "d_map")
    ]
)
"""One node, as kernels.c has it."""

_FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"),
    # Sums may be taken in any order; infinities and NaN keep their meaning, for a loss that is not finite must show.
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
)


class Kernels:
    """The functions of kernels.c for one type of numbers, float32 or float64."""

    def __init__(self, library: ctypes.CDLL, real: np.dtype) -> None:
        self.real = real
        number = ctypes.c_float if real == np.float32 else ctypes.c_double
        self._library = library
        library.step_size.restype = library.node_size.restype = ctypes.c_int64
        table: list[Any] = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        library.forward.argtypes, library.forward.restype = [*table, ctypes.c_int], None
        library.backward.argtypes, library.backward.restype = table, None
        library.update.restype = None
        library.update.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] + [number] * 3
        sizes = (library.step_size(), library.node_size())
        assert sizes == (STEP.itemsize, NODE.itemsize), "kernels.c and this file disagree about its records"

    def forward(self, nodes: np.ndarray, steps: np.ndarray, ins: np.ndarray, training: bool) -> None:
        """Runs a table of NODE and STEP records; `ins` (int64) numbers the steps into each node."""
        self._library.forward(nodes.ctypes.data, len(nodes), steps.ctypes.data, ins.ctypes.data, training)

    def backward(self, nodes: np.ndarray, steps: np.ndarray, ins: np.ndarray) -> None:
        """Runs it back, adding to the gradients of the parameters."""
        self._library.backward(nodes.ctypes.data, len(nodes), steps.ctypes.data, ins.ctypes.data)

    def update(
        self,
        values: np.ndarray,
        gradients: np.ndarray,
        velocity: np.ndarray,
        rate: float,
        momentum: float,
        decay: float,
    ) -> None:
        """One step of SGD in place; all three arrays (n,)."""
        pointers = (array.ctypes.data for array in (values, gradients, velocity))
        self._library.update(*pointers, len(values), rate, momentum, decay)


@functools.cache
def load(real: str = "float32", channels: int = 16) -> Kernels | None:
    """The kernels for `real` numbers, compiled if need be; None where that is not possible.

    Their vectors are as wide as the machine has them and a network of `channels` (c0) fills them.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    try:
        wide = channels * np.dtype(real).itemsize % 64 == 0
        path = _compiled(compiler, {"float32": "float", "float64": "double"}[real], 64 if wide else 32)
        return Kernels(ctypes.CDLL(str(path)), np.dtype(real))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(compiler: str, number: str, vector_bytes: int) -> Path:
    """The shared library of this source, compiler and processor. Raises OSError or SubprocessError."""
    defined = (f"-DREAL={number}", f"-DVECTOR_BYTES={vector_bytes}")
    of = [SOURCE.read_text(encoding="utf-8"), compiler, *_FLAGS, *defined, _processor()]
    name = f"kernels-{hashlib.sha256(chr(0).join(of).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpcnas"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home: for this process alone
        folder = Path(tempfile.mkdtemp(prefix="hpcnas-"))
    path = folder / name
    if not path.exists():
        temporary = path.with_name(f".{name}.{platform.node()}.{os.getpid()}.tmp")
        command = [*compiler.split(), *_FLAGS, *defined, str(SOURCE), "-o", str(temporary), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)
        os.rename(temporary, path)  # others may have compiled it meanwhile: one is as good as another
    return path


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
