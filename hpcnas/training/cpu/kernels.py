"""Compiles `kernels.c` for this machine, once, and loads it; the rest of the package sees ordinary functions.

A second or two with the system's C compiler, kept in a cache folder (`caches`) for every process and run to come:

    kernels-NAME.so     the library, then its SHA-256

Only what is whole is loaded, since a library that was cut short ends the process that calls it; what is not, or does
not load, is made anew. CC may name the compiler and options of its own, which come last: `gcc -march=x86-64-v3`.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hpcnas.storage import durable
from hpcnas.training import caches

SOURCE = Path(__file__).with_name("kernels.c")
KINDS = ("maximum", "average", "convolution", "depthwise", "separable", "stem", "head")


def _record(fields: str) -> np.dtype:
    """A record of kernels.c: numbers and pointers, eight bytes each."""
    return np.dtype([(name, np.int64) for name in fields.split()])


BLOCK = _record("images pixels map d_map scale d_scale shift d_shift running_mean running_variance constants totals")
USE = _record("block first last")
STEP = _record(
    "kind use result results stride height width filters d_filters filter_row weights d_weights turned winners"
    " pixels channels bias d_bias means d_means scores d_scores labels classes class_weights loss"
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

_COMPILERS = ("cc", "gcc", "clang")  # beside CC
_PATIENCE = 120.0  # seconds for a compiler
_TRIAL_PATIENCE = 60.0  # seconds for a look at what it made
_DIGEST = hashlib.sha256().digest_size
_FLAGS = (
    *("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"),
    # Sums may be taken in any order; infinities and NaN keep their meaning, for a loss that is not finite must show.
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"),
)


_TRIAL = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
numbers = (ctypes.c_double * 512)()
library.update.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] + [getattr(ctypes, f"c_{sys.argv[2]}")] * 3
library.update(*[numbers] * 3, 64, 0.1, 0.9, 0.1)
"""


class NoKernels(Exception):
    """Compiled kernels cannot be had here: one line that says why."""


class _Unfit(Exception):
    """A library cannot be made, loaded or used here: why, in a few words."""


class _NoCompiler(Exception):
    """A compiler cannot be used at all: why, in a few words."""


class Kernels:
    """The functions of kernels.c for one type of numbers, float32 or float64.

    `drawbacks` are lines for a person: what did not serve on the way to them.
    """

    def __init__(self, library: ctypes.CDLL, real: np.dtype) -> None:
        """Raises AttributeError or _Unfit where the library is another."""
        self.real = real
        self.drawbacks: tuple[str, ...] = ()
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
        if sizes != ours:
            raise _Unfit("kernels.c and kernels.py disagree about its records")

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
def load(real: str = "float32", channels: int = 16) -> Kernels:
    """The kernels for `real` numbers, compiled if need be. Raises NoKernels.

    Their vectors are as wide as the machine has them and a network of `channels` (c0) fills them.
    """
    vector_bytes = 64 if channels * np.dtype(real).itemsize % 64 == 0 else 32
    refusals: list[str] = []
    for compiler in _compilers():
        for folder in caches.folders():
            try:
                found = _from_folder(folder, compiler, np.dtype(real), vector_bytes)
            except (caches.DoesNotServe, _Unfit) as error:
                refusals.append(f"{folder}: {error}")
            except _NoCompiler as error:  # in whatever folder
                refusals.append(f"{shlex.join(compiler)}: {error}")
                break
            else:
                found.drawbacks = tuple(dict.fromkeys(refusals))
                return found
    raise NoKernels("; ".join(dict.fromkeys(refusals)) or f"no C compiler is found (CC, {', '.join(_COMPILERS)})")


def _compilers() -> Iterator[list[str]]:
    """Command lines to try, best first."""
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError:  # a quotation without an end
        named = os.environ["CC"].split()
    yield from (command for command in (named, *([path] for path in map(shutil.which, _COMPILERS) if path)) if command)


def _from_folder(folder: Path, compiler: list[str], real: np.dtype, vector_bytes: int) -> Kernels:
    """The kernels that the folder holds, or gets now. Raises DoesNotServe, _Unfit or _NoCompiler."""
    number = {"float32": "float", "float64": "double"}[real.name]
    defined = [f"-DREAL={number}", f"-DVECTOR_BYTES={vector_bytes}"]
    of = [SOURCE.read_text(encoding="utf-8"), *compiler, *_FLAGS, *defined, platform.machine(), _processor()]
    path = folder / f"kernels-{hashlib.sha256(chr(0).join(of).encode()).hexdigest()[:16]}.so"
    try:
        caches.look_into(folder)
        return _opened(path, real)
    except (caches.DoesNotServe, _Unfit):
        pass  # it is made anew
    caches.prepare(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".kernels-", suffix=".tmp", dir=folder) as room:
            content = _compiled(compiler, defined, number, Path(room))
        durable.replace(path, lambda temporary: temporary.write_bytes(content + hashlib.sha256(content).digest()))
    except OSError as error:  # also where another process, of another host, was faster: then the file is there
        if not path.exists():
            raise _Unfit(_reason(error)) from None
    return _opened(path, real)


def _compiled(compiler: list[str], defined: list[str], number: str, room: Path) -> bytes:
    """The shared library of this source, which has been loaded and used once, by a process that it may end. Raises
    _Unfit, _NoCompiler or OSError."""
    made = room / "kernels.so"
    own = next((place for place, word in enumerate(compiler) if word.startswith("-")), len(compiler))
    given = [*_FLAGS, *defined, str(SOURCE), "-o", str(made), "-lm"]
    try:
        _run([*compiler[:own], *given, *compiler[own:]], _PATIENCE, room)
    except OSError as error:
        raise _NoCompiler(_reason(error)) from None
    except subprocess.TimeoutExpired:
        raise _NoCompiler(f"not done after {_PATIENCE:g} s") from None
    try:
        _run([sys.executable, "-I", "-c", _TRIAL, str(made), number], _TRIAL_PATIENCE, room)
    except subprocess.TimeoutExpired:
        raise _Unfit(f"what {compiler[0]} has made hangs") from None
    return made.read_bytes()


def _run(command: list[str], patience: float, room: Path) -> None:
    """Runs a program that may put temporary files into `room`. Raises _Unfit with the last line that it says where it
    fails, OSError where there is no such program, TimeoutExpired."""
    done = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(room)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=patience,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _Unfit(f"{command[0]} ended with {done.returncode}: {said[-1] if said else 'without a word'}")


def _opened(path: Path, real: np.dtype) -> Kernels:
    """The kernels in a file. Raises _Unfit where it is not whole, or another thing."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            raise _Unfit(f"{path.name} is damaged")
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _Unfit(_reason(error)) from None
    try:
        return Kernels(library, real)
    except (AttributeError, _Unfit) as error:
        _ctypes.dlclose(library._handle)  # else its name would stand for it ever after
        raise _Unfit(str(error)) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _processor() -> str:
    """What `-march=native` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
