"""The Triton kernels of a block plan compute what the plain network computes, R times: interpreted, in float64.

Where there is a GPU they run on it instead, in float32: interpreting is a setting of the whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from child_imports import importing_tests
from demand import absent
from test_cpu_program import flat
from torch import Tensor
from torch.nn import functional

GPU = torch.cuda.is_available()
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")
try:
    import triton  # noqa: F401
except ImportError:
    absent("no Triton here: pip install '.[dev]'", "HPCNAS_DEMAND_TRITON")

from hpcnas.architecture.expansion import expand  # noqa: E402
from hpcnas.architecture.genotype import Genotype  # noqa: E402
from hpcnas.architecture.skeleton import Skeleton  # noqa: E402
from hpcnas.training.cuda import block_graph, program  # noqa: E402
from hpcnas.training.cuda.parameters import CudaPlan, Draws, Pixels, Room  # noqa: E402
from hpcnas.training.cuda.program import CudaProgram  # noqa: E402
from hpcnas.training.network import Network  # noqa: E402

DEVICE = torch.device("cuda" if GPU else "cpu")
REAL = torch.float32 if GPU else torch.float64
CLOSE = 2e-2 if GPU else 1e-9  # relative, of gradients' norms
BATCH, STEPS, SIDE = 3, 2, 7
MOMENTUM, DECAY, RATES = 0.9, 3e-4, (0.1, 0.05)
EVERYTHING = flat("1-2 1x1, 1-3 dw, 2-3 max, 1-4 avg, 2-4 sep, 3-4 id, 2-5 id, 3-5 avg, 4-5 max, 4-6 dw, 5-6 1x1", 6)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that go down the rows get only a part of an image's."""
    torch.set_num_threads(1)
    monkeypatch.setattr(program, "SPAN", 3)


def networks(genotype: Genotype, skeleton: Skeleton, count: int) -> list[Network]:
    """Plain networks with weights that are nothing special."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = Network(expand(genotype), skeleton).to(REAL)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.uniform_(-0.5, 1.0)
        found.append(network)
    return found


def pixels(skeleton: Skeleton, count: int = 10) -> Pixels:
    generator = torch.Generator().manual_seed(3)
    shape = (count, skeleton.height, skeleton.width, skeleton.image_channels)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(skeleton.classes, (count,), generator=generator)
    normaliser = torch.rand(2, skeleton.image_channels, generator=generator, dtype=REAL) * torch.tensor([[0.02], [-2]])
    return Pixels(images.to(DEVICE), labels.to(DEVICE), normaliser.to(DEVICE, REAL))


def draws(count: int, steps: int, batch: int, images: int, room: tuple[int, int]) -> Draws:
    generator = torch.Generator().manual_seed(4)
    order = torch.randint(images, (count, steps, batch), generator=generator, dtype=torch.int32)
    parts = [torch.randint(size, (count, steps, batch), generator=generator) for size in (room[0] + 1, room[1] + 1, 2)]
    return Draws(
        order=order.to(DEVICE),
        offsets=torch.stack(parts, dim=3).to(DEVICE, torch.int16),
        step=torch.zeros(1, dtype=torch.int64, device=DEVICE),
        losses=torch.zeros(count, steps, dtype=REAL, device=DEVICE),
        right=torch.zeros(count, dtype=torch.int32, device=DEVICE),
        scores=torch.zeros(count, images, 3, dtype=REAL, device=DEVICE),
    )


def inputs(data: Pixels, drawn: Draws, network: int, step: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What the plain network is given for a step: images (B, C, h, w), and labels."""
    images, order = [], drawn.order[network, step].cpu().long()
    for number, (top, left, mirrored) in zip(order, drawn.offsets[network, step].tolist(), strict=True):
        image = data.images[number].cpu()[top : top + size[0], left : left + size[1]]
        images.append(image.flip(1) if mirrored else image)
    scale, shift = data.normaliser.cpu()
    return (torch.stack(images).to(REAL) * scale + shift).permute(0, 3, 1, 2), data.labels.cpu()[order]


def assert_trains_alike(
    genotype: Genotype, skeleton: Skeleton, count: int, size: tuple[int, int], weights: Tensor | None = None
) -> None:
    """Losses, gradients, updated parameters and statistics, step after step."""
    plain = networks(genotype, skeleton, count)
    plan = CudaPlan(
        block_graph.build(expand(genotype), skeleton), [network.state_dict() for network in plain], DEVICE, REAL, REAL
    )
    data = replace(pixels(skeleton), class_weights=None if weights is None else weights.to(DEVICE))
    room = Room(DEVICE)
    drawn = draws(count, STEPS, BATCH, 10, (skeleton.height - size[0], skeleton.width - size[1]))
    program = CudaProgram(plan, room, data, drawn, size, training=True)
    rates = torch.tensor(RATES, dtype=REAL, device=DEVICE)
    optimisers = [torch.optim.SGD(network.parameters(), RATES[0], MOMENTUM, weight_decay=DECAY) for network in plain]
    for step in range(STEPS):
        program.learn()
        gradients = [plan.gradient_dict(number) for number in range(count)]
        program.update(rates, MOMENTUM, DECAY)
        for number, (network, optimiser) in enumerate(zip(plain, optimisers, strict=True)):
            images, labels = inputs(data, drawn, number, step, size)
            optimiser.zero_grad()
            each = functional.cross_entropy(network(images), labels, weights, reduction="none")
            loss = each.mean()
            loss.backward()
            assert drawn.losses[number, step].item() == pytest.approx(loss.item(), rel=max(CLOSE / 100, 1e-9))
            for name, parameter in network.named_parameters():
                assert_close(gradients[number][name], parameter.grad, name)
            optimiser.param_groups[0]["lr"] = RATES[step]
            optimiser.step()
            state = plan.state_dict(number)
            for name, value in network.state_dict().items():
                if "num_batches" not in name:
                    assert_close(state[name], value, name)
    assert drawn.step.item() == STEPS


def assert_close(ours: Tensor, theirs: Tensor, name: str) -> None:
    assert ours.shape == theirs.shape, name
    assert float((ours - theirs).norm()) <= CLOSE * max(1.0, float(theirs.norm())), name


def test_a_cell_of_every_primitive() -> None:
    assert_trains_alike(EVERYTHING, Skeleton(3, SIDE, SIDE, 10, 3, (1,)), 1, (5, 6))


def test_several_networks_each_with_its_own_weights_and_draws() -> None:
    assert_trains_alike(flat("1-2 sep, 1-3 id, 2-3 max", 3), Skeleton(1, SIDE, SIDE, 3, 2, (1,)), 2, (4, 4))


def test_classes_count_by_their_weights() -> None:
    weights = torch.tensor([0.5, 0.0, 3.25], dtype=REAL)
    assert_trains_alike(flat("1-2 dw", 2), Skeleton(1, 5, 5, 3, 2, (1,)), 2, (4, 4), weights)


def test_blocks_that_are_read_by_nothing_but_a_stride() -> None:
    assert_trains_alike(flat("1-2 dw", 2), Skeleton(1, 6, 5, 3, 2, (1, 1, 1)), 1, (6, 5))


def test_validation_scores_images_and_counts_right_answers_with_the_running_statistics() -> None:
    skeleton = Skeleton(3, SIDE, SIDE, 3, 3, (1,))
    plain = networks(flat("1-2 sep, 1-3 avg, 2-3 max", 3), skeleton, 2)
    for network in plain:
        for name, value in network.named_buffers():
            if "running" in name:
                value.copy_(torch.rand_like(value) + 0.1)
    genotype, data = flat("1-2 sep, 1-3 avg, 2-3 max", 3), pixels(skeleton)
    graph = block_graph.build(expand(genotype), skeleton)
    plan = CudaPlan(graph, [network.state_dict() for network in plain], DEVICE, REAL, REAL)
    drawn = draws(2, 3, 4, 10, (0, 0))
    drawn.order.copy_(torch.arange(12).clamp(max=9).reshape(3, 4))  # the last two are there to fill the batch
    drawn.offsets.zero_()
    program = CudaProgram(plan, Room(DEVICE), data, drawn, (SIDE, SIDE), training=False)
    for _ in range(3):
        program.count_right()
    scale, shift = data.normaliser.cpu()
    images = (data.images.cpu().to(REAL) * scale + shift).permute(0, 3, 1, 2)
    scores = torch.stack([network.eval()(images) for network in plain])
    assert drawn.right.tolist() == (scores.argmax(2) == data.labels.cpu()).sum(1).tolist()
    torch.testing.assert_close(drawn.scores.cpu(), scores.detach())
    assert not plan.sums.any() and not plan.gradients.any()


def test_a_loss_that_is_not_a_number_shows() -> None:
    skeleton = Skeleton(1, 5, 5, 3, 2, (1,))
    plain = networks(flat("1-2 max", 2), skeleton, 1)
    with torch.no_grad():
        plain[0].stem[0].weight[0] = float("nan")
    graph = block_graph.build(expand(flat("1-2 max", 2)), skeleton)
    plan, drawn = CudaPlan(graph, [plain[0].state_dict()], DEVICE, REAL, REAL), draws(1, 1, 2, 10, (0, 0))
    CudaProgram(plan, Room(DEVICE), pixels(skeleton), drawn, (5, 5), training=True).learn()
    assert not torch.isfinite(drawn.losses).any()


def test_all_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "compiled_kernels.py", "80"],
        env=importing_tests(environment) | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("average", "conclude", "depthwise", "depthwise_back", "head", "maximum", "normalised_back", "pointwise"),
        *("pointwise_back", "pooling_back", "strided", "take_images", "update"),
    ]
