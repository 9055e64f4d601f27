"""@HEADER@"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The genotype without what is on no path: LEVELS[level][motif][node] lists the inputs of a node as (node, operation),
# in their order. A motif's source is node 1, its sink the last node. Operations of level 2 are primitives, those of a
# higher level are the motifs of the level below.
LEVELS: dict[int, dict[str, dict[int, list[tuple[int, str]]]]] = "@LEVELS@"


def assemble(level: int, motif: str, source: int, nodes: list[list[tuple[int, str]]]) -> int:
    """Adds one use of a motif that reads node `source` to a graph of primitives; returns the number of its sink."""
    numbers = {1: source}
    for node, inputs in LEVELS[level][motif].items():
        found = []
        for origin, operation in inputs:
            if level == 2:
                found.append((numbers[origin], operation))
            else:  # a 1×1 convolution follows every level-2 motif
                sink = assemble(level - 1, operation, numbers[origin], nodes)
                found.append((sink, "1x1" if level == 3 else "id"))
        nodes.append(found)
        numbers[node] = len(nodes) - 1
    return len(nodes) - 1


NODES: list[list[tuple[int, str]]] = [[]]  # of the cell: NODES[n] lists the inputs of node n; node 0 is its input
assemble(max(LEVELS), "cell", 0, NODES)


def normalised(*convolutions: nn.Module, channels: int) -> nn.Sequential:
    """Convolutions, then batch normalisation and ReLU."""
    return nn.Sequential(*convolutions, nn.BatchNorm2d(channels), nn.ReLU())


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """k×k convolution."""
    spatial = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return normalised(spatial, channels=outputs)


def depthwise(channels: int) -> nn.Sequential:
    """3×3 depthwise convolution."""
    return normalised(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), channels=channels)


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3×3 separable convolution: depthwise, then 1×1."""
    spatial = nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False)
    return normalised(spatial, nn.Conv2d(inputs, outputs, 1, bias=False), channels=outputs)


def primitive(name: str, inputs: int, channels: int) -> tuple[nn.Module, int]:
    """A primitive in a cell of so many channels, and how many channels it gives."""
    match name:
        case "1x1":
            return convolution(inputs, channels, 1), channels
        case "dw":
            return depthwise(inputs), inputs
        case "sep":
            return separable(inputs, channels), channels
        case "max":
            return nn.MaxPool2d(3, stride=1, padding=1), inputs
        case "avg":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), inputs
        case "id":
            return nn.Identity(), inputs
    raise ValueError(f"expected a primitive, got {name!r}")


class Cell(nn.Module):
    """(N, channels, H, W) → (N, output_channels, H, W): the concatenation at the cell's sink."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels]
        self.edges = nn.ModuleList()
        for inputs in NODES[1:]:
            widths.append(0)
            for origin, name in inputs:
                module, outputs = primitive(name, widths[origin], channels)
                self.edges.append(module)
                widths[-1] += outputs
        self.output_channels = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """The value of a node is the concatenation of its inputs."""
        values, edges = [x], iter(self.edges)
        for inputs in NODES[1:]:
            values.append(torch.cat([next(edges)(values[origin]) for origin, _ in inputs], dim=1))
        return values[-1]


class Network(nn.Module):
    """Images (N, image_channels, H, W) of any size → class scores (N, classes), before the softmax.

    The first cell reads `channels`; `cells` are those of each group, and from one group to the next the channels double
    and the resolution halves. Before them stands a 3×3 convolution (stem "plain"), or two of stride 2 ("strided").
    """

    def __init__(
        self,
        channels: int = "@CHANNELS@",
        cells: tuple[int, ...] = "@CELLS@",
        stem: str = "@STEM@",
        classes: int = "@CLASSES@",
        image_channels: int = "@IMAGE_CHANNELS@",
    ) -> None:
        super().__init__()
        if stem == "plain":
            self.stem = convolution(image_channels, channels, 3)
        else:
            first = convolution(image_channels, channels // 2, 3, stride=2)
            self.stem = nn.Sequential(first, convolution(channels // 2, channels, 3, stride=2))
        blocks: list[nn.Module] = []
        for group, count in enumerate(cells, start=1):
            for number in range(1, count + 1):
                reduces = number == count and group < len(cells)
                cell = Cell(channels)
                channels = 2 * channels if reduces else channels
                blocks += [cell, separable(cell.output_channels, channels, stride=2 if reduces else 1)]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Global average pooling stands before the classifier."""
        return self.classifier(self.blocks(self.stem(images)).mean(dim=(2, 3)))


# @TRAINED
# What was trained: how an image becomes what the network reads, and the weights in its place.
MEAN: tuple[float, ...] = "@MEAN@"  # of each channel, in pixel values 0 to 255
STD: tuple[float, ...] = "@STD@"
RESIZE = "@RESIZE@"  # an image's shorter side, before
HEIGHT, WIDTH = "@HEIGHT@", "@WIDTH@"  # the middle is taken, which is classified
CLASSES = "@CLASS_NAMES@"


def view(pixels: Tensor) -> Tensor:
    """What the network was tested on of images (N, image_channels, H, W): the middle, at its size, and black beside it
    where it does not reach."""
    height, width = pixels.shape[-2:]
    if min(height, width) != RESIZE:
        height, width = (RESIZE * side // min(height, width) for side in (height, width))
        pixels = nn.functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    top, left = round((height - HEIGHT) / 2), round((width - WIDTH) / 2)
    return nn.functional.pad(pixels, (-left, left + WIDTH - width, -top, top + HEIGHT - height))


class Classifier(nn.Module):
    """Pixels (N, image_channels, H, W), 0 to 255 → class scores (N, classes), in the order of CLASSES."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """The network reads normalised pixels."""
        return self.network((pixels - self.mean) / self.std)


def load(weights: str) -> Classifier:
    """The trained network: `weights` is the file that `tools/export.py weights` writes."""
    network = Network()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return Classifier(network).eval()


# @END
if __name__ == "__main__":
    network = Network()
    print(f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters")
    images = torch.randn(2, "@IMAGE_CHANNELS@", 32, 32)
    print(f"images {tuple(images.shape)} → scores {tuple(network(images).shape)}")
