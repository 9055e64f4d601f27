"""The primitives as modules (§2.3): stride 1, padded to keep the resolution, convolutions with BN and ReLU.

Tensors are float, (N, C, H, W). Convolutions have no bias; a separable one is depthwise 3×3 then pointwise 1×1 with
batch normalisation and ReLU once, after the pointwise (P1). Average-pooling counts only pixels of the image.
"""

from __future__ import annotations

from torch import nn

from hpcnas.architecture import primitives


def _normalised(*convolutions: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(*convolutions, nn.BatchNorm2d(channels), nn.ReLU())


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """k×k convolution, BN, ReLU: (N, inputs, H, W) → (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return _normalised(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False), channels=outputs
    )


def depthwise(channels: int) -> nn.Sequential:
    """3×3 depthwise convolution, BN, ReLU: the shape stays."""
    return _normalised(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), channels=channels)


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3×3 separable convolution, BN, ReLU: (N, inputs, H, W) → (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
    return _normalised(
        nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        channels=outputs,
    )


def build(operation: int, inputs: int, cell_channels: int) -> nn.Module:
    """The module of a primitive's code; its output channels are `primitives.output_channels`'."""
    match operation:
        case primitives.CONVOLUTION:
            return convolution(inputs, cell_channels, 1)
        case primitives.DEPTHWISE:
            return depthwise(inputs)
        case primitives.SEPARABLE:
            return separable(inputs, cell_channels)
        case primitives.MAX_POOLING:
            return nn.MaxPool2d(3, stride=1, padding=1)
        case primitives.AVERAGE_POOLING:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case primitives.IDENTITY:
            return nn.Identity()
    if (primitive := primitives.added(operation)) is not None:
        module: nn.Module = primitive.build(inputs, primitives.output_channels(operation, inputs, cell_channels))
        return module
    raise ValueError(f"expected a primitive's code from 1 to {len(primitives.NAMES)}, got {operation}")
