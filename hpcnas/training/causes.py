"""What an exception of a training is about: memory, the place where it ran, or the network itself.

    OOM     memory of the host or of the device did not suffice: fewer trainings at a time may fit
    CRASH   the device, its driver, a library on it, a file or the system refused: another place may do better
    ERROR   all else: it would come again anywhere

Decided by types and texts, of an exception and of those that it came from: a graph that is captured when memory runs
out says only that its capture has failed. But what is raised while a file is found missing need not be about files:
types of CRASH count where a cause is named (`raise … from`). Types are named, not imported: neither torch nor Triton is
needed here.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpcnas.messages import FailureKind

MEMORY_TYPES = frozenset({"builtins.MemoryError", "torch.OutOfMemoryError"})
MEMORY_TEXTS = (  # in small letters
    *("out of memory", "out_of_memory", "outofmemory", "std::bad_alloc"),
    *("can't allocate memory", "cannot allocate memory", "not enough memory", "unable to allocate"),
    *("alloc_failed", "allocation_failed", "statusallocfailed", "memoryallocation", "rocblas_status_memory_error"),
)
PLACE_TYPES = frozenset(
    {
        *("torch.AcceleratorError", "torch.cuda.CudaError", "torch.cuda.DeferredCudaCallError"),
        *("torch.distributed.DistBackendError",),
        *("triton.runtime.errors.OutOfResources", "triton.runtime.errors.PTXASError"),
        *("builtins.OSError", "subprocess.SubprocessError"),  # a file system, or a compiler, of this host
    }
)
DEVICE_TEXTS = (  # in small letters
    *("cuda error", "cuda driver error", "cuda runtime error", "cuda unknown error", "cuda_error_", "cudaerror"),
    *("cuda initialization", "unexpected error from cuda", "unexpected error from hip"),
    *("triton error", "ptxas", "nvrtc", "nvml"),
    *("cudnn_status_", "cudnn error", "cudnn_frontend", "valid cudnn algorithm", "unable to find an engine"),
    *("cublas_status_", "cublas error", "cublaslt", "cusolver_status_", "cusparse_status_", "cufft_", "curand_status_"),
    *("hip error", "hiperror", "hip runtime error", "hipblas_status_", "hipsolver_status_", "hipsparse_status_"),
    *("rocblas_status_", "rocblas error", "miopen", "hsa_status_"),
    *("no cuda gpus are available", "no hip gpus are available", "no cuda-capable device", "found no nvidia driver"),
    "ecc error",
)
GROUP_TEXTS = ("nccl error", "ncclerror", "nccl_", "ncclunhandled", "ncclsystem", "ncclinternal", "rccl")
PLACE_TEXTS = (*DEVICE_TEXTS, *GROUP_TEXTS, "can't start new thread", "resource temporarily unavailable")


def kind(error: BaseException) -> FailureKind:
    """The kind of failure that an exception is; OOM goes before CRASH, and CRASH before ERROR, along its causes."""
    if is_out_of_memory(error):
        return FailureKind.OOM
    at_fault = any(_is(one, PLACE_TYPES) for one in _chain(error, named=True)) or _says(error, PLACE_TEXTS)
    return FailureKind.CRASH if at_fault else FailureKind.ERROR


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the host or of the device, in whatever words that was said."""
    return any(_is(one, MEMORY_TYPES) for one in _chain(error)) or _says(error, MEMORY_TEXTS)


def is_of_own_device(error: BaseException) -> bool:
    """Whether this process's device, its driver or a library on it refused, and not what brings devices together."""
    return _says(error, DEVICE_TEXTS) and not _says(error, GROUP_TEXTS)


def _is(error: BaseException, types: frozenset[str]) -> bool:
    return any(f"{each.__module__}.{each.__qualname__}" in types for each in type(error).__mro__)


def _says(error: BaseException, texts: tuple[str, ...]) -> bool:
    """Whether one of the texts is said by an exception, or one that it came from."""
    return any(text in str(one).lower() for one in _chain(error) for text in texts)


def _chain(error: BaseException, named: bool = False) -> Iterator[BaseException]:
    """An exception and those that it came from, as a traceback shows them; with `named`, only by `raise … from`."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        context = None if named or current.__suppress_context__ else current.__context__
        current = current.__cause__ or context
