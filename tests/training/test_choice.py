"""Which way of training is chosen where."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from test_cuda_program import DEVICE  # noqa: F401  the interpreter, where there is no GPU

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import TrainingSettings
from hpcnas.training.choice import fastest_method, in_little_memory, why_plain
from hpcnas.training.cpu.compiled import CompiledTraining, CompiledTrainings, on_threads
from hpcnas.training.cuda.stacked import StackedTraining
from hpcnas.training.method import number_type
from hpcnas.training.plain import PlainTraining

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SETTINGS = TrainingSettings()
SMALL = Skeleton(3, 32, 32, 10, 16, (1, 1, 1))


def test_one_thread_runs_a_c_plan_and_several_run_as_many() -> None:
    assert fastest_method(CPU, 1, SETTINGS, SMALL) is CompiledTraining
    method = fastest_method(CPU, 3, SETTINGS, SMALL)
    assert issubclass(method, CompiledTrainings) and method.side_by_side == 3


def test_less_memory_is_one_training_at_a_time() -> None:
    assert in_little_memory(fastest_method(CPU, 3, SETTINGS, SMALL)) is CompiledTraining
    for method in (CompiledTraining, StackedTraining, PlainTraining):
        assert in_little_memory(method) is method


def test_the_c_plan_computes_in_float32_alone() -> None:
    assert fastest_method(CPU, 1, TrainingSettings(precision="fp32"), SMALL) is CompiledTraining
    half = TrainingSettings(precision="bf16")
    assert fastest_method(CPU, 1, half, SMALL) is PlainTraining
    assert why_plain(CPU, half, SMALL) == "the C kernels compute in fp32 alone (--precision)"


def test_gpus_run_stacks_of_networks_of_the_sizes_that_the_kernels_are_made_for() -> None:
    for changes, method in (
        ({}, StackedTraining),
        ({"channels": 32}, StackedTraining),
        ({"channels": 33}, PlainTraining),
        ({"height": 64, "width": 64, "classes": 200}, StackedTraining),
        ({"height": 96, "width": 96}, PlainTraining),
        ({"classes": 1000}, PlainTraining),
    ):
        skeleton = dataclasses.replace(SMALL, **changes)
        assert fastest_method(GPU, 1, SETTINGS, skeleton) is method
        assert why_plain(GPU, SETTINGS, skeleton) == (
            "" if method is StackedTraining else "the GPU kernels are not made for images and channels of these sizes"
        )


def test_without_triton_a_gpu_trains_the_plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hpcnas.training.cuda.stacked", None)  # importing it is an error
    assert fastest_method(GPU, 1, SETTINGS, SMALL) is PlainTraining
    assert why_plain(GPU, SETTINGS, SMALL).startswith("Triton is not there (")


@pytest.mark.parametrize(
    ("precision", "device", "capability", "numbers"),
    [
        ("auto", "cpu", (0, 0), torch.float32),
        ("auto", "cuda", (7, 5), torch.float32),
        ("auto", "cuda", (8, 0), torch.bfloat16),
        ("fp32", "cuda", (9, 0), torch.float32),
        ("bf16", "cpu", (0, 0), torch.bfloat16),
        ("bf16", "cuda", (9, 0), torch.bfloat16),
    ],
)
def test_numbers(
    precision: str,
    device: str,
    capability: tuple[int, int],
    numbers: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert number_type(TrainingSettings(precision=precision), torch.device(device)) is numbers


def test_files_call_the_ways_to_train_as_version_0_1_did() -> None:
    assert [
        each.stored_name
        for each in (PlainTraining, CompiledTraining, CompiledTrainings, on_threads(2), StackedTraining)
    ] == ["Training", "PlannedTraining", "PlannedTrainings", "PlannedTrainings", "StackedTraining"]
