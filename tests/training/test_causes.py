"""What exceptions of a training are about: literal texts as torch, Triton and the libraries of devices say them."""

from __future__ import annotations

import errno
import subprocess

import pytest

from hpcnas.messages import FailureKind
from hpcnas.retrain.process_group import PeerLost, _together
from hpcnas.training import causes

MEMORY = [
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB",
    "HIP out of memory. Tried to allocate 20.00 MiB",
    "CUDA error: out of memory",
    "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
    "CUDA driver error: out of memory",
    "CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY",
    "Triton Error [CUDA]: out of memory",
    "Triton Error [HIP]:  Code: 2, Messsage: out of memory",
    "HIP error: out of memory",
    "hipErrorOutOfMemory",
    "HIP error: hipErrorMemoryAllocation",
    "cudaErrorMemoryAllocation: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
    "miopenStatusAllocFailed",
    "rocblas_status_memory_error",
    "NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error, Cuda failure 2 'out of memory'",
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 1073741824 bytes.",
    "mmap failed: Cannot allocate memory (12)",
    "Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64",
    "std::bad_alloc",
]
PLACE = [
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: unspecified launch failure",
    "CUDA error: operation not permitted when stream is capturing",
    "CUDA error: operation failed due to a previous error during capture",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`",
    "CUDA driver error: device not ready",
    "CUDA driver error: unknown error",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "cudaErrorIllegalAddress",
    "Triton Error [CUDA]: an illegal memory access was encountered",
    "Triton Error [CUDA]: device kernel image is invalid",
    "Triton Error [HIP]:  Code: 700, Messsage: an illegal memory access was encountered",
    "No CUDA GPUs are available",
    "No HIP GPUs are available",
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices()?",
    "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env variable "
    "CUDA_VISIBLE_DEVICES after program start",
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.",
    "Unable to find a valid cuDNN algorithm to run convolution",
    "GET was unable to find an engine to execute this computation",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "cublasLt ran into an error!",
    "cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR",
    "cuFFT error: CUFFT_INTERNAL_ERROR",
    "NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error, NCCL version 2.21.5",
    "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.",
    "ncclInternalError",
    "HIP error: an illegal memory access was encountered",
    "hipErrorIllegalAddress",
    "hipErrorNoBinaryForGpu: Unable to find code object for all current devices!",
    "CUDA error: HIPBLAS_STATUS_INTERNAL_ERROR when calling `hipblasSgemm`",
    "rocblas_status_internal_error",
    "miopenStatusUnknownError",
    "NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp",
    "`ptxas` failed with error code 139",
    "NVRTC error: NVRTC_ERROR_INTERNAL_ERROR",
    "can't start new thread",
]
NETWORK = [
    "mat1 and mat2 shapes cannot be multiplied (16x64 and 32x10)",
    "Given groups=1, weight of size [8, 4, 1, 1], expected input[16, 8, 8, 8] to have 4 channels",
    "of all things",
    "",
]


@pytest.mark.parametrize("text", MEMORY)
def test_memory_that_runs_out_is_out_of_memory_in_all_words(text: str) -> None:
    assert causes.kind(RuntimeError(text)) is FailureKind.OOM
    assert causes.is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("text", PLACE)
def test_what_a_device_its_driver_and_its_libraries_say_is_a_crash(text: str) -> None:
    assert causes.kind(RuntimeError(text)) is FailureKind.CRASH
    assert not causes.is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("text", NETWORK)
def test_all_else_would_come_again(text: str) -> None:
    assert causes.kind(RuntimeError(text)) is FailureKind.ERROR


def of(module: str, name: str, *bases: type) -> Exception:
    """An exception of a library's type with a text that says nothing."""
    found: Exception = type(name, bases or (RuntimeError,), {"__module__": module})("something went wrong")
    return found


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "OOM"),
        (of("numpy._core._exceptions", "_ArrayMemoryError", MemoryError), "OOM"),
        (of("torch", "OutOfMemoryError"), "OOM"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "OOM"),
        (of("torch", "AcceleratorError"), "CRASH"),
        (of("torch.cuda", "CudaError"), "CRASH"),
        (of("torch.cuda", "DeferredCudaCallError", Exception), "CRASH"),
        (of("torch.distributed", "DistBackendError"), "CRASH"),
        (of("triton.runtime.errors", "OutOfResources", Exception), "CRASH"),
        (of("triton.runtime.errors", "PTXASError", Exception), "CRASH"),
        (OSError(errno.EIO, "Input/output error"), "CRASH"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/scratch/images.npy"), "CRASH"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "CRASH"),
        (subprocess.CalledProcessError(1, ["gcc", "main.c"]), "CRASH"),
        (of("triton.compiler.errors", "CompilationError", Exception), "ERROR"),
        (AssertionError(), "ERROR"),
        (ZeroDivisionError("division by zero"), "ERROR"),
        (KeyError("out"), "ERROR"),
    ],
)
def test_types_say_it_where_texts_do_not(error: Exception, kind: str) -> None:
    assert causes.kind(error) is FailureKind[kind]


def test_the_types_are_called_so_where_they_are_there() -> None:
    """By the names that this torch and this Triton give them."""
    import torch
    import torch.distributed
    from triton.runtime import errors

    assert causes.kind(torch.OutOfMemoryError("")) is FailureKind.OOM
    assert causes.kind(torch.AcceleratorError("")) is FailureKind.CRASH
    assert causes.kind(torch.cuda.DeferredCudaCallError("")) is FailureKind.CRASH
    assert causes.kind(torch.distributed.DistBackendError("")) is FailureKind.CRASH
    assert causes.kind(errors.OutOfResources(147456, 101376, "shared memory")) is FailureKind.CRASH
    assert causes.kind(errors.PTXASError("")) is FailureKind.CRASH


def raised(outer: Exception, inner: Exception, how: str) -> Exception:
    """`outer` as if raised from `inner`, or while it was handled, or in its place."""
    outer.__context__, outer.__cause__ = inner, inner if how == "from" else None
    outer.__suppress_context__ = how != "while"
    return outer


CAPTURE = RuntimeError("CUDA error: operation failed due to a previous error during capture")
FULL, SICK = RuntimeError("CUDA out of memory."), RuntimeError("Triton Error [CUDA]: misaligned address")


@pytest.mark.parametrize(
    ("outer", "inner", "how", "kind"),
    [
        (CAPTURE, FULL, "while", "OOM"),  # the end of torch.cuda.graph, which notices that its capture has failed
        (ValueError("no result"), FULL, "from", "OOM"),
        (ValueError("no result"), SICK, "while", "CRASH"),
        (ValueError("no result"), SICK, "in place", "ERROR"),
        (SICK, KeyError("x"), "while", "CRASH"),
        (AttributeError("no attribute 'foo'"), FileNotFoundError(2, "No such file"), "while", "ERROR"),
        (ValueError("no images"), FileNotFoundError(2, "No such file"), "from", "CRASH"),
        (ValueError("no images"), OSError(errno.ENOMEM, "Cannot allocate memory"), "while", "OOM"),
        (ValueError("no result"), KeyError("x"), "while", "ERROR"),
    ],
)
def test_an_exception_is_what_it_came_from(outer: Exception, inner: Exception, how: str, kind: str) -> None:
    assert causes.kind(raised(outer, inner, how)) is FailureKind[kind]


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("HIP error: an illegal memory access was encountered", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", True),
        ("NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled cuda error, NCCL version 2.21.5", False),
        ("ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.", False),
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:45123", False),
        ("connect: Resource temporarily unavailable", False),
    ],
)
def test_what_the_own_device_says_is_told_from_what_others_do(text: str, own: bool) -> None:
    assert causes.is_of_own_device(RuntimeError(text)) is own
    with pytest.raises(RuntimeError if own else PeerLost), _together():
        raise RuntimeError(text)


def test_causes_that_go_in_a_circle_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert causes.kind(first) is FailureKind.ERROR
