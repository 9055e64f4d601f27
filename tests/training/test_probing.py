"""What is tried before a worker is ready, and what is said where the fastest way does not work."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_cuda_program import DEVICE  # the interpreter, where there is no GPU

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import DataSettings, TrainingSettings
from hpcnas.data.datasets import load_training
from hpcnas.training import caches, probing
from hpcnas.training.cpu import kernels
from hpcnas.training.cpu.compiled import CompiledTraining, CompiledTrainings
from hpcnas.training.cpu.kernels import NoKernels
from hpcnas.training.cuda.stacked import StackedTraining
from hpcnas.training.method import TrainingData
from hpcnas.training.plain import PlainTraining
from hpcnas.training.probing import NothingWorks, Way, find

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SETTINGS = TrainingSettings(replicates=1, steps=1_000_000, batch_size=256, crop=0.5)
SKELETON = Skeleton(1, 8, 8, 10, 8, (1,))


@pytest.fixture(scope="module")
def data() -> TrainingData:
    torch.set_num_threads(1)
    return TrainingData.prepare(load_training("synthetic:50:1x8x8"), DataSettings(), CPU)


# ── on CPUs ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_kernels_that_work_are_used_and_nothing_is_said(data: TrainingData) -> None:
    assert find(CPU, 1, SETTINGS, SKELETON, data) == Way(CompiledTraining)
    several = find(CPU, 2, SETTINGS, SKELETON, data)
    assert issubclass(several.method, CompiledTrainings) and several.method.side_by_side == 2
    assert (several.name, several.remarks) == ("PlannedTrainings", ())


def test_images_of_which_there_are_few_and_odd_settings_do_not_hinder(data: TrainingData) -> None:
    few = dataclasses.replace(data, pixels=data.pixels[:1], labels=data.labels[:1])
    settings = dataclasses.replace(
        SETTINGS, learning_rate=9e18, weight_decay=9e18, batch_size=2, crop=1.0, replicates=255
    )
    assert find(CPU, 1, settings, SKELETON, few).method is CompiledTraining


@pytest.mark.parametrize(
    ("of_run", "tried"),
    [
        (Skeleton(3, 32, 32, 10, 16, (1, 1, 1)), Skeleton(3, 32, 32, 10, 16, (1, 1))),
        (Skeleton(1, 8, 7, 10, 64, (2,)), Skeleton(1, 8, 7, 10, 64, (1,))),
        (Skeleton(3, 500, 20, 99, 16384, (9,) * 99), Skeleton(3, 32, 20, 99, 64, (1, 1))),
        (Skeleton(3, 8, 8, 10, 200, (1,)), Skeleton(3, 8, 8, 10, 72, (1,))),  # 200 and 72 fill vectors of 32 bytes
    ],
)
def test_on_a_cpu_what_is_tried_is_small_and_has_vectors_of_the_same_width(
    of_run: Skeleton, tried: Skeleton, data: TrainingData
) -> None:
    few = dataclasses.replace(data, pixels=torch.zeros(4, of_run.height, of_run.width, of_run.image_channels))
    found, around = probing._cut(few, of_run)
    assert around == tried and found.pixels.shape[1:3] == (tried.height, tried.width)
    assert (of_run.channels % 16 == 0) == (tried.channels % 16 == 0)
    assert (found.facts.height, found.facts.width) == (tried.height, tried.width)


def test_without_kernels_the_plain_network_is_trained_and_that_is_said(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(real: str, channels: int) -> kernels.Kernels:
        raise NoKernels("/tmp: No space left on device")

    monkeypatch.setattr(kernels, "load", load)
    way = find(CPU, 1, SETTINGS, SKELETON, data)
    assert way == Way(PlainTraining, (), "/tmp: No space left on device")
    assert way.remarks == (
        "trains the plain network, which can be several times slower: /tmp: No space left on device",
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (AssertionError(), "AssertionError: "),
        (RuntimeError("first\nsecond\n"), "RuntimeError: second"),
        (
            RuntimeError("ptxas /tmp/tmpab_12xyz.ptx, line 7; error at 0x7f3a in process 4711: 12.5 GiB of 79 GiB"),
            "RuntimeError: ptxas /tmp/*.ptx, line 7; error at * in process *: * GiB of * GiB",
        ),
        (
            NoKernels("/c: gcc ended with 1: /c/.kernels-1a_b2.tmp/ccXy12Zw.s:7: no space"),
            "/c: gcc ended with 1: /c/*/*.s:7: no space",
        ),
        (RuntimeError("x" * 9999), f"RuntimeError: {'x' * 386} …"),
    ],
)
def test_whatever_is_raised_is_a_reason(
    error: Exception, said: str, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(CompiledTraining, "__init__", fail)
    assert find(CPU, 1, SETTINGS, SKELETON, data) == Way(PlainTraining, (), said)


@pytest.mark.parametrize(
    "error", [MemoryError("none left"), RuntimeError("CUDA out of memory."), NoKernels("cc: Cannot allocate memory")]
)
def test_memory_that_runs_out_decides_nothing(
    error: Exception, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(CompiledTraining, "__init__", fail)
    with pytest.raises(NothingWorks, match="expected memory for training a small network: .*(memory|none left)"):
        find(CPU, 1, SETTINGS, SKELETON, data)


def test_what_did_not_serve_on_the_way_is_said(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.load("float32", 8), "drawbacks", ("/home: Read-only file system",))
    way = find(CPU, 1, SETTINGS, SKELETON, data)
    assert way.method is CompiledTraining
    assert way.remarks == ("what did not serve for compiled kernels: /home: Read-only file system",)


def test_settings_without_kernels_are_a_reason(data: TrainingData) -> None:
    half = dataclasses.replace(SETTINGS, precision="bf16")
    reason = "the C kernels compute in fp32 alone (--precision)"
    assert find(CPU, 1, half, SKELETON, data) == Way(PlainTraining, (), reason)


# ── on GPUs, by stand-ins: what they do to a CPU ────────────────────────────────────────────────────────────────────
@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which there are a home and a place for temporary files."""
    monkeypatch.setattr(probing, "why_plain", lambda *_: "")
    monkeypatch.setattr(probing, "fastest_method", lambda *_: StackedTraining)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    for name in ("TRITON_CACHE_DIR", "TRITON_HOME"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(caches, "_TEMPORARY", ())
    return tmp_path


def temporary(gpu: Path) -> str:
    return str(gpu / f"hpcnas-{os.getuid()}" / "triton")


def fails_at(monkeypatch: pytest.MonkeyPatch, *attempts: str) -> list[str]:
    """Trainings that raise these words, attempt by attempt, "" for none; returns Triton's cache folder at each."""
    seen: list[str] = []
    words = iter(attempts)

    def train(method: Any, settings: TrainingSettings, skeleton: Skeleton, data: TrainingData) -> None:
        seen.append(f"{method.stored_name} {os.environ.get('TRITON_CACHE_DIR', 'own')}")
        if word := next(words):
            raise RuntimeError(word)

    monkeypatch.setattr(probing, "_train", train)
    return seen


def test_stacks_are_tried_with_the_batch_and_the_channels_of_the_run(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    def train(method: Any, settings: TrainingSettings, skeleton: Skeleton, data: TrainingData) -> None:
        batches.append((settings.batch_size, skeleton))

    monkeypatch.setattr(probing, "_train", train)
    assert find(GPU, 1, SETTINGS, SKELETON, data) == Way(StackedTraining)
    assert batches == [(256, SKELETON)]


def test_a_cache_with_which_it_fails_is_exchanged_for_a_temporary_one(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fails_at(monkeypatch, "file too short", "")
    way = find(GPU, 1, SETTINGS, SKELETON, data)
    assert seen == ["StackedTraining own", f"StackedTraining {temporary(gpu)}"]
    assert way == Way(StackedTraining, ("what did not serve for compiled kernels: RuntimeError: file too short",))


def test_what_triton_holds_in_memory_is_not_what_it_tries_again(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpcnas.training.cuda import backward, forward

    functions = [SimpleNamespace(device_caches=defaultdict(list, {0: ["a damaged kernel"]})) for _ in range(2)]
    for module, function in zip((forward, backward), functions, strict=True):
        monkeypatch.setattr(module, "of_triton", function, raising=False)
    seen = []

    def train(*_: Any) -> None:
        seen.append([len(function.device_caches) for function in functions])
        if len(seen) == 1:
            raise RuntimeError("Triton Error [CUDA]: device kernel image is invalid")

    monkeypatch.setattr(probing, "_train", train)
    assert find(GPU, 1, SETTINGS, SKELETON, data).method is StackedTraining
    assert seen == [[1, 1], [0, 0]]


def test_what_triton_holds_in_memory_is_called_so() -> None:
    """By this Triton; in a process of its own, where nothing is interpreted."""
    code = (
        "from hpcnas.training import probing\n"
        "from hpcnas.training.cuda import backward, forward\n"
        "from triton.runtime.jit import JITFunction\n"
        "each = [one for module in (forward, backward) for one in vars(module).values()"
        " if isinstance(one, JITFunction)]\n"
        "for one in each: dict.__setitem__(one.device_caches, 0, 'kernel')\n"
        "probing._forget_kernels()\n"
        "print(len(each) > 9, {len(one.device_caches) for one in each})"
    )
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True)
    assert done.stdout == "True {0}\n", done.stderr


@pytest.mark.parametrize("kind", ["a file", "of all", "no home", "TRITON_HOME", "TRITON_CACHE_DIR"])
def test_a_cache_that_does_not_serve_is_not_even_tried(
    kind: str, gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "of all":
        (gpu / "home" / ".triton" / "cache").mkdir(parents=True)
        (gpu / "home" / ".triton" / "cache").chmod(0o777)
    else:
        (gpu / "home").write_text("")
    if kind == "no home":
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    elif kind not in ("a file", "of all"):
        monkeypatch.setenv("HOME", str(gpu))
        monkeypatch.setenv(kind, str(gpu / "home"))
    seen = fails_at(monkeypatch, "")
    way = find(GPU, 1, SETTINGS, SKELETON, data)
    assert way.method is StackedTraining and seen == [f"StackedTraining {temporary(gpu)}"]
    assert len(way.remarks) == 1 and ("home" if kind == "no home" else str(gpu / "home")) in way.remarks[0]


def test_a_cache_that_is_named_by_no_absolute_path_is_told_so(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "cache")
    fails_at(monkeypatch, "")
    assert find(GPU, 1, SETTINGS, SKELETON, data).drawbacks == (
        "what did not serve for compiled kernels: cache: it is no absolute path",
    )


def test_a_library_that_was_cut_short_is_not_loaded(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would end the process, which nothing here could live with."""
    place = gpu / "home" / ".triton" / "cache" / "ABC"
    place.mkdir(parents=True)
    library = Path(sys.modules["_ctypes"].__file__ or "").read_bytes()
    (place / "launcher.so").write_bytes(library)
    seen = fails_at(monkeypatch, *[""] * 5)
    assert find(GPU, 1, SETTINGS, SKELETON, data).remarks == ()
    for size in (0, 63, 4096, len(library) - 1):
        (place / "launcher.so").write_bytes(library[:size])
        way = find(GPU, 1, SETTINGS, SKELETON, data)
        assert seen.pop() == f"StackedTraining {temporary(gpu)}"
        assert way.method is StackedTraining and f"{place / 'launcher.so'} is cut short, remove it" in way.remarks[0]
        monkeypatch.delenv("TRITON_CACHE_DIR")


def test_what_other_workers_are_writing_is_not_looked_at(tmp_path: Path) -> None:
    """Triton moves its files out of such a folder, and removes it, at any moment."""
    for name in ("tmp.pid_17_ab", "other"):
        (tmp_path / "ABC" / name).mkdir(parents=True)
    (tmp_path / "ABC" / "tmp.pid_17_ab" / "launcher.so").write_bytes(b"half")
    assert caches.cut_short(tmp_path) is None
    (tmp_path / "ABC" / "other" / "launcher.so").write_bytes(b"half")
    assert caches.cut_short(tmp_path) == tmp_path / "ABC" / "other" / "launcher.so"
    assert caches.cut_short(tmp_path / "nowhere") is None


def test_where_triton_does_not_work_at_all_the_plain_network_is_trained(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fails_at(monkeypatch, "fatal error: Python.h", "fatal error: Python.h", "")
    assert find(GPU, 1, SETTINGS, SKELETON, data) == Way(PlainTraining, (), "RuntimeError: fatal error: Python.h")
    assert seen[-1].startswith("Training ")


def test_a_gpu_on_which_nothing_works_is_refused(
    gpu: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(monkeypatch, "CUDA error", "CUDA error", "CUDA error: unknown")
    with pytest.raises(NothingWorks, match="a device that can train a network: RuntimeError: CUDA error: unknown"):
        find(GPU, 1, SETTINGS, SKELETON, data)


def test_the_stack_itself_is_tried(data: TrainingData) -> None:
    """Interpreted where there is no GPU, and so with two images of 4×4 pixels to validate with."""
    prepared = TrainingData.prepare(load_training("synthetic:10:1x8x8"), DataSettings(), DEVICE)
    few, small = probing._cut(probing._few(prepared), dataclasses.replace(SKELETON, height=4, width=4, channels=2))
    shape = dataclasses.replace(SETTINGS, steps=1, batch_size=2, replicates=2, crop=1.0)
    probing._train(StackedTraining, shape, small, few)


# ── by a whole search ───────────────────────────────────────────────────────────────────────────────────────────────
TINY = "--preset quick --steps 2 --replicates 1 --budget 2 --initial-population 2 --data synthetic:50:1x8x8".split()


def search(folder: Path, *options: str, **environment: str) -> str:
    """All that a search says."""
    command = [sys.executable, "-m", "hpcnas", *TINY, "--run", str(folder / "run"), *options]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_search_without_compilers_says_so_in_its_log_and_in_the_final_table(tmp_path: Path) -> None:
    said = search(tmp_path, "--threads", "1", CC="/no/compiler", XDG_CACHE_HOME=str(tmp_path), PATH="/nowhere")
    reason = "/no/compiler: No such file or directory"
    assert f"trains the plain network, which can be several times slower: {reason}" in said
    assert f"trained by         Training on 1 worker: SLOWER THAN IT MIGHT BE, {reason}" in said


def test_a_search_on_two_threads_says_how_it_trains(tmp_path: Path) -> None:
    said = search(tmp_path, "--threads", "2")
    assert "training PlannedTrainings, threads 2" in said and "WARNING" not in said
    assert "trained by         PlannedTrainings on 1 worker\n" in said
