"""Regularisation that the paper's recipes do not use, all of it off by default.

cutout            a square of every image is blank                      DeVries & Taylor 2017, arXiv 1708.04552
DropPath          inputs of nodes are missing, each by chance           Larsson et al. 2017; Zoph et al. 2018
loss              labels are not quite certain                          Szegedy et al. 2016, §7
AuxiliaryHead     a second classifier, two thirds of the way up         Szegedy et al. 2015; Zoph et al. 2018
average_in        the weights' moving average takes their place         Polyak & Juditsky 1992; Szegedy et al. 2016, §8

In evaluation mode none of it changes what a network computes. Draws come from generators that are passed in. What is
trained, and by which schedule, is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcnas.architecture import primitives
from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.retrain.draws import ImageDraws
from hpcnas.training.network import Network, convolution


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square of each image set to 0, its mean where images are normalised: (B, C, H, W) → the same shape.

    Its centre is any pixel of the image with the same probability, so that parts of the square may lie outside. `side`
    in pixels, 16 for CIFAR-10; the pixel below and right of the middle is the centre of an even one (DeVries & Taylor,
    *Improved Regularization of Convolutional Neural Networks with Cutout*, 2017, §3).
    """
    count, _, height, width = images.shape
    outside = []
    for size in (height, width):
        first = torch.randint(size, (count, 1), generator=generator, device=images.device) - side // 2
        place = torch.arange(size, device=images.device)
        outside.append((place < first) | (place >= first + side))
    return images * (outside[0][:, None, :, None] | outside[1][:, None, None, :])


class DropPath(nn.Module):
    """Joins the inputs of a node as the plain network does, but for some that are missing: a `join` of `Network`.

    Where a node has several inputs, each of them is 0 with `probability`, for every image anew, and the rest is scaled
    so that its expectation stays. Three choices, because here inputs are concatenated and not added:

    - *What is dropped is a whole input of a node*: all channels that an edge brings, after its batch normalisation and
      ReLU. The next convolution adds over channels, so its sum lacks that input, as in networks that add.
    - *A node's only input stays*: there is no other path to rely on.
    - *An identity stays* (as in Zoph et al.'s networks); where there is none, one input drawn at random survives if all
      would be missing (Larsson et al., *FractalNet*, ICLR 2017, §3.1: local drop-path). An input of k then
      survives with q = 1 − p + p^k / k, else with 1 − p; it is divided by q.

    A path of the expanded cell passes several nodes, and each may cut it: `probability` wants to be lower than the 0.3
    to 0.5 of cells with one operation between two nodes. It is to be raised in the course of training
    (`schedules.rising`) by the loop that trains. In evaluation mode nothing is dropped, nor drawn.
    """

    def __init__(self, graph: CellGraph, draws: ImageDraws) -> None:
        super().__init__()
        self._draws = draws
        self._may_go: list[list[bool]] = [[] for _ in range(graph.nodes)]
        for edge in graph.edges:
            self._may_go[edge.target].append(edge.operation != primitives.IDENTITY)
        self._probability = 0.0

    @property
    def probability(self) -> float:
        """That an input is missing: 0 ≤ p < 1, 0 at first. Setting another raises ValueError."""
        return self._probability

    @probability.setter
    def probability(self, value: float) -> None:
        if not 0 <= value < 1:
            raise ValueError(f"expected a probability from 0 to less than 1, got {value}")
        self._probability = value

    def forward(self, node: int, inputs: list[Tensor]) -> Tensor:
        """(B, C_1, H, W), (B, C_2, H, W), … → (B, ΣC, H, W); inputs in the order of the graph's edges into `node`."""
        if not self.training or self._probability == 0 or len(inputs) < 2:
            return torch.cat(inputs, dim=1)
        may_go = self._may_go[node]
        factors = iter(self._factors(sum(may_go), one_stays=all(may_go)))
        joined = [
            input * next(factors)[:, None, None, None].to(input.dtype) if may else input
            for input, may in zip(inputs, may_go, strict=True)
        ]
        return torch.cat(joined, dim=1)

    def _factors(self, inputs: int, one_stays: bool) -> Tensor:
        """What inputs are multiplied by, 0 or 1/q: float32 (inputs, images)."""
        missing, survival = self._probability, 1 - self._probability
        stays = self._draws.uniform(inputs) >= missing
        if one_stays:
            last = self._draws.integers(inputs)
            stays |= ~stays.any(dim=0) & (torch.arange(inputs, device=last.device)[:, None] == last)
            survival += missing**inputs / inputs
        return stays / survival


def loss(scores: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """The mean cross-entropy, a scalar, of labels of which the share `smoothing` is spread evenly over all K classes.

    Scores (B, K) before the softmax; labels int64 (B,), or the share of each class, (B, K). Szegedy et al., *Rethinking
    the Inception Architecture for Computer Vision*, CVPR 2016, §7, with u(k) = 1/K; they take 0.1.

    With `weights` (K,) of classes, the sum of the weighted terms is divided by B, and not by the weights of the labels
    that happen to be here, as PyTorch has it: the mean over a step is then the same however it is cut.
    """
    if labels.ndim == 2:
        labels = labels.to(scores.dtype)
    if weights is None:
        return functional.cross_entropy(scores, labels, label_smoothing=smoothing)
    each = functional.cross_entropy(scores, labels, weights, label_smoothing=smoothing, reduction="none")
    return each.mean()


class AuxiliaryHead(nn.Sequential):
    """Feature maps (B, channels, H, W) of any size → class scores (B, classes) from half-way.

    Average pooling to 2×2, a 1×1 convolution to 128 channels, a 2×2 one to 768, a linear layer, convolutions with batch
    normalisation and ReLU: what Zoph et al.'s CIFAR-10 networks have over feature maps of 8×8, where their pooling
    (5×5, stride 3) gives 2×2 as well. Training needs at least 2 images a batch.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(2),
            convolution(channels, 128, 1),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class WithAuxiliaryHead(nn.Module):
    """A network with a second classifier, for the time of its training: images → its scores, and those of the head.

    The head stands two thirds of the way up (Zoph et al. 2018, appendix A), behind round(2/3 · cells) cells and what
    follows the last of them: in CIFAR-10's networks of three groups and in ImageNet's, where the last group begins. The
    gradients of loss(scores) + 0.4 · loss(auxiliary scores), as they weigh it, reach what lies below by two ways
    (Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015, §5). `network` keeps its own weights, and is all that
    is kept.
    """

    def __init__(self, network: Network, skeleton: Skeleton) -> None:
        super().__init__()
        stages = skeleton.stages()
        cells = round(2 * len(stages) / 3)
        self.network = network
        self.auxiliary = AuxiliaryHead(stages[cells - 1].next_channels, skeleton.classes)
        self._below = 2 * cells  # blocks: each cell and the separable convolution after it

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and auxiliary scores, (B, classes) each; images of any size."""
        blocks = self.network.blocks
        maps = blocks[: self._below](self.network.stem(images))
        return self.network.classify(blocks[self._below :](maps)), self.auxiliary(maps)


@torch.no_grad()
def average_in(averages: Sequence[Tensor], values: Sequence[Tensor], decay: float, updates: int) -> None:
    """Turns the averages of the first `updates` − 1 values into those of `updates` of them, in place; the newest are
    `values`.

    Polyak & Juditsky, *Acceleration of Stochastic Approximation by Averaging*, SIAM J. Control Optim. 30 (1992); with
    exponentially fading memory, as Szegedy et al., *Rethinking the Inception Architecture*, CVPR 2016, §8, have it: "a
    running average of the parameters computed over time". The averages are used in place of the weights.

    The average after update t is a_t = Σ decay^(t−i) w_i / Σ decay^(t−i), i from 1 to t: a true mean from the first
    update on, whatever the averages were before it (the correction of Kingma & Ba, *Adam*, ICLR 2015, §3). Floating
    point tensors, pairwise of one shape: weights, and the statistics of batch normalisation. 0 ≤ decay < 1,
    updates ≥ 1; raises ValueError for others.
    """
    if not 0 <= decay < 1 or updates < 1:
        raise ValueError(f"expected a decay from 0 to less than 1 and updates from 1, got {decay} and {updates}")
    share = (1 - decay) / (1 - decay**updates)
    for average, value in zip(averages, values, strict=True):
        average.lerp_(value, share)
