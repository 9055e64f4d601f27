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

import numpy as np

SOURCE = Path(__file__).with_name("kernels.c")
KINDS = ("maximum", "average", "convolution", "depthwise", "separable", "stem", "head")


def _record(fields: str) -> np.dtype:
    """A record of kernels.c: numbers and pointers, eight bytes each."""
    return np.dtype([(name, np.int64) for name in fields.split()])


BLOCK = _record("images pixels map d_map scale d_scale shift d_shift running_mean running_variance constants totals")
USE = _record("block first last")
STEP = _record(
    "kind use result results stride height width filters d_filters filter_row weights d_weights turned winners"
    " pixels channels bias d_bias means d_means scores d_scores labels classes loss"
)
NODE = _record("images height width uses first_use steps first_step")
PROGRAM = _record(
    "nodes count uses steps blocks active middle result d_results d_active d_middle spread zeros lines"
    " ahead ahead_end ranges"
)
RANGE = _record("next end")
CONSTANTS = 7
"""Vectors that a block's `constants` take."""
ALIGNMENT = 64
"""Bytes: where memory that kernels read as vectors may begin."""

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
        library.size_of.argtypes, library.size_of.restype = [ctypes.c_int64], ctypes.c_int64
        library.lanes.restype = ctypes.c_int64
        library.forward.argtypes, library.forward.restype = [ctypes.c_void_p, ctypes.c_int], None
        library.backward.argtypes, library.backward.restype = [ctypes.c_void_p], None
        library.update.restype = None
        library.update.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] + [number] * 3
        self.lanes: int = library.lanes()
        """Channels of a block."""
        sizes = [library.size_of(record) for record in range(6)]
        ours = [record.itemsize for record in (BLOCK, USE, STEP, NODE, PROGRAM, RANGE)]
        assert sizes == ours, "kernels.c and this file disagree about its records"

    def forward(self, program: np.ndarray, training: bool) -> None:
        """Runs a PROGRAM record, whose tables and memory the caller keeps."""
        self._library.forward(program.ctypes.data, training)

    def backward(self, program: np.ndarray) -> None:
        """Runs it back, adding to the gradients of the parameters."""
        self._library.backward(program.ctypes.data)

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


def aligned(count: int, real: np.dtype) -> np.ndarray:
    """Zeros, (count,), at a place that kernels can use as vectors."""
    room = np.zeros(count * real.itemsize + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + count * real.itemsize].view(real)


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
