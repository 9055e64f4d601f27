"""The Triton kernels take images of any number of channels and every type of values: interpreted, without a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import test_cuda_program
import torch
from test_cpu_program import flat
from test_cuda_program import assert_trains_alike

from hpcnas.architecture.skeleton import Skeleton
from hpcnas.training.cuda.parameters import Pixels

plain_pixels = test_cuda_program.pixels


@pytest.mark.parametrize(("kind", "channels"), [("uint16", 12), ("int16", 1), ("float16", 3)])
def test_a_step_is_the_plain_networks(kind: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def pixels(skeleton: Skeleton) -> Pixels:
        found = plain_pixels(skeleton)
        values = found.images.cpu().to(torch.int32) * 250 - (30_000 if kind == "int16" else 0)
        low, high = values.min(), values.max()
        normaliser = torch.stack([torch.ones(channels) / (high - low), -torch.ones(channels) * low / (high - low)])
        images = values.to(getattr(torch, kind)).to(found.images.device)
        return replace(found, images=images, normaliser=normaliser.to(found.normaliser))

    monkeypatch.setattr(test_cuda_program, "pixels", pixels)
    monkeypatch.setattr(test_cuda_program, "STEPS", 1)
    assert_trains_alike(flat("1-2 1x1", 2), Skeleton(channels, 6, 6, 3, 2, (1,)), 1, (5, 6))
