"""What a search relies on in a primitive: the shape stays, the counts are right, and it learns. Imports torch.

    from hpcnas.testing.primitives import PrimitiveContract
    from dilated import plugin

    class TestDilated(PrimitiveContract):
        plugin = plugin

All primitives of the plugin are tested.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hpcnas import plugins
from hpcnas.architecture import expansion, primitives, sizes
from hpcnas.architecture.mutation import diversified
from hpcnas.architecture.primitives import Primitive
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.architecture.space import Space
from hpcnas.plugins import Plugin
from hpcnas.testing.contract import expect, loaded
from hpcnas.training.network import Network

CHANNELS = ((4, 4), (3, 8), (12, 4))  # of the input, and of the cell
_AROUND = Skeleton(image_channels=3, height=9, width=13, classes=7, channels=4, cells=(1, 1))


class PrimitiveContract:
    """Subclass it under a name that begins with Test, and set `plugin`."""

    plugin: Plugin

    def test_there_is_one(self) -> None:
        """And it is what `Primitive` says."""
        with loaded(self.plugin):
            expect(self.plugin.primitives, "expected a plugin with primitives, got one without")

    def test_the_resolution_stays(self) -> None:
        """(N, inputs, H, W) → (N, outputs, H, W), float, at any height and width."""
        for primitive, inputs, outputs in self._cases():
            for height, width in ((9, 13), (1, 2)):
                module = _built(primitive, inputs, outputs).eval()
                found = _run(primitive, module, torch.zeros(2, inputs, height, width))
                expected = (2, outputs, height, width)
                expect(
                    tuple(found.shape) == expected,
                    f"{primitive.name}: expected {expected} of an input of {inputs} channels, got {tuple(found.shape)}",
                )
                expect(
                    found.dtype == torch.float32,
                    f"{primitive.name}: expected float32 of an input in float32, got {found.dtype}",
                )

    def test_its_parameters_are_counted(self) -> None:
        """`max_parameters` and the sizes of networks go by it."""
        for primitive, inputs, outputs in self._cases():
            counted = primitive.parameters(inputs, outputs)
            there = sum(one.numel() for one in _built(primitive, inputs, outputs).parameters() if one.requires_grad)
            expect(
                counted == there,
                f"{primitive.name}: expected `parameters` of {inputs} input and {outputs} output channels to be "
                f"{there}, as many as the module has, got {counted}",
            )

    def test_its_multiply_adds_are_counted(self) -> None:
        """As far as convolutions of PyTorch make it up; `max_flops` goes by it."""
        for primitive, inputs, outputs in self._cases():
            module, counted = _built(primitive, inputs, outputs).eval(), 0
            layers = [layer for layer in module.modules() if next(layer.children(), None) is None]
            others = [layer for layer in layers if next(layer.parameters(), None) is not None]
            if not all(isinstance(layer, nn.Conv2d | nn.BatchNorm2d) for layer in others):
                continue

            def count(layer: nn.Conv2d, _: object, result: torch.Tensor) -> None:
                nonlocal counted
                counted += result[0].numel() * layer.weight[0].numel()

            for layer in layers:
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_hook(count)
            _run(primitive, module, torch.zeros(1, inputs, 10, 10))
            told = primitive.multiply_adds(inputs, outputs)
            expect(
                100 * told == counted,
                f"{primitive.name}: expected `multiply_adds` of {inputs} input and {outputs} output channels to be "
                f"{counted / 100:g} a pixel, as the module's convolutions make, got {told}",
            )

    def test_it_learns(self) -> None:
        """Each of its parameters has a finite gradient, and so has its input, by which the layers before it learn."""
        for primitive, inputs, outputs in self._cases():
            torch.manual_seed(0)
            module = _built(primitive, inputs, outputs).train()
            images = torch.randn(4, inputs, 8, 8, requires_grad=True)
            result = _run(primitive, module, images.clone())  # in place, it would change a leaf
            expect(result.requires_grad, f"{primitive.name}: expected an output with a gradient, got one without")
            (result * torch.randn_like(result)).sum().backward()
            expect(
                images.grad is not None and bool(torch.isfinite(images.grad).all()),
                f"{primitive.name}: expected a finite gradient of its input, got none",
            )
            for name, one in module.named_parameters():
                expect(
                    not one.requires_grad or (one.grad is not None and bool(torch.isfinite(one.grad).all())),
                    f"{primitive.name}: expected a finite gradient of the parameter {name}, got none",
                )

    def test_networks_with_it_are_counted_and_trained(self) -> None:
        """In cells where its input is another operation's output, of more channels than the cell has."""
        with loaded(self.plugin):
            space = Space.parse("+".join(["2x3/1x4", *(one.name for one in self.plugin.primitives)]))
            generator = np.random.default_rng(0)
            drawn = (diversified(space, 300, generator) for _ in range(20))
            for genotype in [one for one in drawn if expansion.is_valid(one)][:5]:
                graph = expansion.expand(genotype)
                network = Network(graph, _AROUND)
                counted, there = sizes.size(graph, _AROUND).parameters, sum(one.numel() for one in network.parameters())
                expect(counted == there, f"expected a network of {there} parameters to be counted so, got {counted}")
                plugins.answer(
                    f"a network with {space}",
                    lambda network=network: network(torch.zeros(2, 3, 9, 13)).sum().backward(),
                )

    def _cases(self) -> list[tuple[Primitive, int, int]]:
        """Each primitive as a search holds it, where its faults name the plugin, with input and output channels."""
        with loaded(self.plugin):
            return [
                (primitive, inputs, inputs if primitive.keeps_channels else channels)
                for primitive in primitives.ADDED
                for inputs, channels in CHANNELS
            ]


def _run(primitive: Primitive, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the module makes of images, float32 (N, inputs, H, W)."""
    found: object = plugins.answer(f"{primitive.name}: its module", module, images)
    expect(isinstance(found, torch.Tensor), f"{primitive.name}: expected a tensor, got {type(found).__name__}")
    assert isinstance(found, torch.Tensor)
    return found


def _built(primitive: Primitive, inputs: int, outputs: int) -> nn.Module:
    """Its module. Fails the test where `build` gives anything else."""
    module: object = primitive.build(inputs, outputs)
    expect(
        isinstance(module, nn.Module),
        f"{primitive.name}: expected a torch module from `build`, got {type(module).__name__}",
    )
    assert isinstance(module, nn.Module)
    return module
