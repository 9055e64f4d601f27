"""The job's environment: which GPUs a rank sees, its CPU quota, and the device and threads that each worker gets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hpcnas.job import devices
from hpcnas.job.devices import Binding, DeviceError, Seat, bind, bind_all, cgroup_quota, uuids, visible_gpus

# Visible GPUs


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("0", ("0",)),
        ("0,1,2", ("0", "1", "2")),
        (" 3 , 1 ", ("3", "1")),
        ("GPU-8f6b,MIG-77", ("GPU-8f6b", "MIG-77")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),  # what SLURM says where there is none
        ("0,-1,1", ("0",)),  # CUDA ignores what comes after the first invalid one
        ("0,,1", ("0",)),
    ],
)
def test_the_schedulers_list_of_gpus_is_taken_as_cuda_takes_it(listed: str, gpus: tuple[str, ...]) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": listed}) == gpus


def _nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    _command("nvidia-smi", folder, monkeypatch, script)


def _command(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A command of that name, on a PATH with nothing but its like."""
    command = folder / name
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_without_a_list_nvidia_smi_is_asked_for_uuids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = f"echo '{CARDS}'; echo $* > {tmp_path / 'asked'}"
    _nvidia_smi(tmp_path, monkeypatch, answer)
    assert visible_gpus({}) == ("GPU-5d5b-d6", "GPU-5d5b-e7")
    assert (tmp_path / "asked").read_text() == "-L\n"


CARDS = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b-d6)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b-e7)
warning: old driver"""
CUT = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b-d6)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7a5-51)
  MIG 3g.20gb     Device  1: (UUID: MIG-c7a5-52)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b-e7)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5b-f8)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-5d5b-f8/7/0)"""


def test_the_slices_of_a_card_stand_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nvidia_smi(tmp_path, monkeypatch, f"echo '{CUT}'")
    names = ("MIG-c7a5-51", "MIG-c7a5-52", "GPU-5d5b-e7", "MIG-GPU-5d5b-f8/7/0")
    assert visible_gpus({}) == uuids(names) == names
    assert uuids(("0", "1", "2")) == ("MIG-c7a5-51", "GPU-5d5b-e7", "MIG-GPU-5d5b-f8/7/0")
    seat = Seat("a", names, frozenset({0}), 64, names)
    assert [one.device for one in bind([seat] * 3, "auto", None)] == ["cuda:MIG-c7a5-51", "cuda:MIG-c7a5-52"]


# AMD's

AMD_SMI = """gpu,gpu_bdf,gpu_uuid
0,0000:0c:00.0,faff-01
1,0000:22:00.0,faff-02
2,0000:38:00.0,faff-03
3,0000:5c:00.0,faff-04"""
ROCM_SMI = "WARNING: low-power state\n\ndevice,Unique ID\ncard0,0x18f6\ncard1,0x2b8a"


@pytest.mark.parametrize(
    ("environment", "gpus", "cards"),
    [
        ({}, ("0", "1", "2", "3"), ("faff-01", "faff-02", "faff-03", "faff-04")),
        ({"HIP_VISIBLE_DEVICES": "2,1"}, ("2", "1"), ("faff-03", "faff-02")),
        ({"CUDA_VISIBLE_DEVICES": "2,1"}, ("2", "1"), ("faff-03", "faff-02")),
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, ("0", "1"), ("faff-03", "faff-04")),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "2,3"}, ("0", "1"), ("faff-03", "faff-04")),  # SLURM
        ({"ROCR_VISIBLE_DEVICES": "2,3", "CUDA_VISIBLE_DEVICES": "1"}, ("1",), ("faff-04",)),
        ({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, ("1",), ("faff-04",)),
        ({"ROCR_VISIBLE_DEVICES": "GPU-faff-02"}, ("0",), ("GPU-faff-02",)),
        ({"ROCR_VISIBLE_DEVICES": ""}, (), ()),
        ({"HIP_VISIBLE_DEVICES": "-1"}, (), ()),
    ],
)
def test_amd_gpus_are_numbers_in_what_is_visible(
    environment: dict[str, str],
    gpus: tuple[str, ...],
    cards: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _command("amd-smi", tmp_path, monkeypatch, f"[ $1 = list ] && echo '{AMD_SMI}'")
    assert visible_gpus(environment) == gpus
    assert uuids(gpus, environment) == cards


def test_rocm_smi_is_asked_where_there_is_no_amd_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _command("rocm-smi", tmp_path, monkeypatch, f"[ $1 = --showuniqueid ] && echo '{ROCM_SMI}'")
    assert visible_gpus({}) == ("0", "1")
    assert uuids(("1", "0"), {}) == ("0x2b8a", "0x18f6")


def test_ranks_that_call_different_amd_gpus_the_same_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nobody lists them: each of two ranks has one of its own, number 0 to it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [uuids(("0",), {"ROCR_VISIBLE_DEVICES": name}) for name in "23"] == [("2",), ("3",)]


def test_a_list_for_amd_beside_that_for_nvidia_is_no_matter_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM sets both, unless it is told what the GPUs are."""
    _nvidia_smi(tmp_path, monkeypatch, f"echo '{CARDS}'")
    both = {"ROCR_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "1"}
    assert visible_gpus(both) == ("1",)
    assert uuids(("1",), both) == ("GPU-5d5b-e7",)


@pytest.mark.parametrize(
    ("gpu", "environment", "variables"),
    [
        ("1", {}, {"CUDA_VISIBLE_DEVICES": "1"}),
        (None, {}, {"CUDA_VISIBLE_DEVICES": ""}),
        ("1", {"ROCR_VISIBLE_DEVICES": "2,3"}, {"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1"}),
        (None, {"HIP_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}),
    ],
)
def test_a_process_is_left_one_gpu(gpu: str | None, environment: dict[str, str], variables: dict[str, str]) -> None:
    assert devices.device_variables(gpu, environment) == variables


def test_a_list_goes_before_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nvidia_smi(tmp_path, monkeypatch, "echo GPU-11")
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "5"}) == ("5",)
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == ()


@pytest.mark.parametrize("script", ["echo GPU-11; exit 9", "echo No devices were found", "kill -9 $$"])
def test_an_nvidia_smi_that_finds_nothing_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    _nvidia_smi(tmp_path, monkeypatch, script)
    assert visible_gpus({}) == ()


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == ()


# Their identity


@pytest.mark.parametrize(
    ("gpus", "cards"),
    [
        (("0",), ("GPU-11",)),
        (("1", "0"), ("GPU-22", "GPU-11")),
        (("2",), ()),  # not one that nvidia-smi lists
        (("0", "what"), ()),
        (("GPU-33", "GPU-4"), ("GPU-33", "GPU-4")),
        (("MIG-77",), ("MIG-77",)),
        ((), ()),
    ],
)
def test_numbers_are_places_in_nvidia_smis_list(
    gpus: tuple[str, ...], cards: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nvidia_smi(tmp_path, monkeypatch, r"printf 'GPU-11\nGPU-22\n'")
    assert uuids(gpus) == cards


def test_without_nvidia_smi_numbers_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert uuids(("0",)) == ()


# CPU quota

CORES = os.cpu_count() or 1


def test_without_a_control_group_all_cores_count(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) == CORES


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("300000 100000\n", 3),
        ("250000 100000\n", 2),  # whole ones only
        ("50000 100000\n", 1),  # at least one
        ("9000000 100000\n", 64),  # no more than there are
        ("max 100000\n", 64),
        ("nonsense", 64),
        ("", 64),
    ],
)
def test_version_2_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, cores: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "cpu.max").write_text(content)
    assert cgroup_quota(tmp_path) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"), [("400000\n", "100000\n", 4), ("-1\n", "100000\n", 64), ("50000\n", "100000\n", 1)]
)
def test_version_1_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, period: str, cores: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text(period)
    assert cgroup_quota(tmp_path) == cores


# A seat


def test_a_seat_is_what_this_process_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _nvidia_smi(tmp_path, monkeypatch, r"printf 'GPU-11\nGPU-22\n'")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5})
    monkeypatch.setattr(devices, "cgroup_quota", lambda: 7)
    seat = Seat.here({"CUDA_VISIBLE_DEVICES": "1", "SLURMD_NODENAME": "node-3"})
    assert seat == Seat("node-3", ("1",), frozenset({2, 5}), 7, ("GPU-22",), socket.gethostname())
    own = Seat.here({"CUDA_VISIBLE_DEVICES": "1", "SLURMD_NODENAME": socket.gethostname().partition(".")[0]})
    assert own.machine == ""


def test_without_slurm_the_host_has_its_own_name() -> None:
    assert Seat.here({"CUDA_VISIBLE_DEVICES": ""}).host == socket.gethostname()


@pytest.mark.parametrize(
    ("found", "hosts"),
    [
        ([("a", ""), ("a", ""), ("b", "")], ["a", "a", "b"]),
        ([("n1", "vm"), ("n1", "vm"), ("n2", "vm")], ["n1", "n1", "n2"]),  # several slurmd on one machine
        ([("a", ""), ("a", ""), ("a", "b"), ("a", "b")], ["a", "a", "b", "b"]),  # handed on by MPICH over ssh
        ([("a", "b"), ("a", "c")], ["b", "c"]),
        ([("nid1", "nid1-mgmt"), ("nid2", "nid2-mgmt")], ["nid1", "nid2"]),
    ],
)
def test_hosts_tell_machines_apart(found: list[tuple[str, str]], hosts: list[str]) -> None:
    ranks = [Seat(host, (), frozenset({0}), 64, (), machine) for host, machine in found]
    assert [seat.host for seat in devices.told_apart(ranks)] == hosts


# Binding


def seats(host: str, count: int, gpus: str = "", cores: int = 8, quota: int = 64) -> list[Seat]:
    """`count` ranks of one host that all see the same."""
    return [Seat(host, tuple(gpus.split()), frozenset(range(cores)), quota)] * count


def gpus_of(bindings: list[Binding]) -> list[str | None]:
    return [binding.gpu for binding in bindings]


def threads_of(bindings: list[Binding]) -> list[int]:
    return [binding.threads for binding in bindings]


def test_two_hosts_of_four_gpus_with_the_controller_on_the_first() -> None:
    found = bind(seats("a", 5, "0 1 2 3") + seats("b", 4, "0 1 2 3"), "auto", None)
    assert gpus_of(found) == ["0", "1", "2", "3"] * 2
    assert threads_of(found) == [2] * 8


def test_the_controller_takes_no_gpu_from_the_workers_of_its_host() -> None:
    found = bind(seats("a", 4, "0 1 2 3") + seats("b", 4, "0 1 2 3"), "auto", None)
    assert gpus_of(found) == ["0", "1", "2"] + ["0", "1", "2", "3"]


def test_ranks_dealt_out_in_turn_are_counted_by_host() -> None:
    a, b = seats("a", 1, "0 1")[0], seats("b", 1, "0 1")[0]
    assert gpus_of(bind([a, b, a, b, a], "auto", None)) == ["0", "0", "1", "1"]


def test_more_workers_than_gpus_share_them_evenly() -> None:
    found = gpus_of(bind(seats("a", 8, "0 1 2"), "auto", None))
    assert found == ["0", "1", "2", "0", "1", "2", "0"]


def test_a_list_of_one_gpu_is_honoured() -> None:
    ranks = [Seat("a", (gpu,), frozenset({0}), 64) for gpu in ("0", "0", "1", "2", "3")]
    assert gpus_of(bind(ranks, "cuda", None)) == ["0", "1", "2", "3"]


def test_lists_that_differ_are_counted_apart() -> None:
    first, second = ("0", "1"), ("2", "3")
    ranks = [Seat("a", gpus, frozenset({0}), 64) for gpus in (first, first, second, first, second, second)]
    assert gpus_of(bind(ranks, "auto", None)) == ["0", "2", "1", "3", "2"]


def test_cards_that_are_called_the_same_are_others() -> None:
    """In control groups of their own, ranks call their cards 0, 1, …, each."""
    ranks = [Seat("a", ("0", "1"), frozenset({0}), 64, cards) for cards in (("A", "B"), ("A", "B"), ("C", "D"))]
    found = bind_all(ranks, "auto", None)
    assert [(one.gpu, one.device) for one in found] == [("0", "cuda:A"), ("1", "cuda:B"), ("0", "cuda:C")]


def test_how_many_share_a_card_is_known_where_cards_are() -> None:
    cards = ("A", "B")
    five = bind_all([Seat("a", ("0", "1"), frozenset({0}), 64, cards)] * 5, "auto", None)
    assert [one.sharing for one in five] == [3, 2, 3, 2, 3]
    assert [one.sharing for one in bind(seats("a", 5, "0 1"), "auto", None)] == [1] * 4
    assert [one.sharing for one in bind(seats("a", 3), "cpu", None)] == [1, 1]


def test_device_cpu_leaves_gpus_alone() -> None:
    assert gpus_of(bind(seats("a", 3, "0 1"), "cpu", None)) == [None, None]


def test_device_auto_takes_the_cpu_where_there_is_no_gpu() -> None:
    assert gpus_of(bind(seats("a", 2, "0") + seats("b", 1), "auto", None)) == ["0", None]


def test_device_cuda_without_a_gpu_is_an_error_that_names_the_host() -> None:
    with pytest.raises(
        DeviceError, match=r"^expected a GPU for every worker \(--device cuda\), but a worker on b sees none"
    ):
        bind(seats("a", 2, "0") + seats("b", 1), "cuda", None)


def test_device_cuda_asks_nothing_of_the_controller() -> None:
    assert gpus_of(bind(seats("login", 1) + seats("a", 1, "0"), "cuda", None)) == ["0"]


def test_a_single_rank_works_as_well_as_it_controls() -> None:
    assert bind(seats("a", 1, "0 1"), "auto", None) == [Binding("0", 8)]
    assert bind(seats("a", 1), "auto", None) == [Binding(None, 8)]


# Threads


@pytest.mark.parametrize(
    ("workers", "cores", "quota", "threads"),
    [
        (1, 8, 64, 8),
        (2, 8, 64, 4),
        (3, 8, 64, 2),  # whole threads
        (4, 8, 4, 1),  # the quota is less than the cores
        (2, 8, 6, 3),
        (16, 8, 64, 1),  # at least one
    ],
)
def test_workers_share_the_cores_of_their_host(workers: int, cores: int, quota: int, threads: int) -> None:
    found = bind(seats("a", workers + 1, cores=cores, quota=quota), "cpu", None)
    assert threads_of(found) == [threads] * workers


def test_workers_bound_to_cores_of_their_own_keep_them() -> None:
    ranks = [Seat("a", (), frozenset(cores), 64) for cores in ({0}, {0, 1}, {2, 3, 4}, {5})]
    assert threads_of(bind(ranks, "cpu", None)) == [2, 3, 1]


def test_workers_bound_to_the_same_cores_share_them() -> None:
    ranks = [Seat("a", (), frozenset(cores), 64) for cores in ({0}, {0, 1}, {0, 1}, {2, 3})]
    assert threads_of(bind(ranks, "cpu", None)) == [1, 1, 2]


def test_the_same_cores_of_another_host_are_others() -> None:
    assert threads_of(bind(seats("a", 2) + seats("b", 1), "cpu", None)) == [8, 8]


def test_threads_that_are_asked_for_are_given() -> None:
    assert threads_of(bind(seats("a", 3, cores=2), "cpu", 5)) == [5, 5]


@pytest.mark.parametrize(("gpu", "device"), [(None, "cpu"), ("0", "cuda:0"), ("GPU-8f", "cuda:GPU-8f")])
def test_a_device_is_recorded_by_its_name(gpu: str | None, device: str) -> None:
    assert Binding(gpu, 1).device == device
