"""A fitness without training: deterministic in the genotype, with the noise of trainings and a duration if wanted.

For tests, for sizing jobs and for trying out job scripts. Imports neither torch nor h5py.
"""

from __future__ import annotations

import math
import time

from hpcnas import counting, primitives, seeds
from hpcnas.canonical import CellGraph, expand
from hpcnas.config import Config
from hpcnas.evaluator import Loaded
from hpcnas.messages import DataFacts, Evaluation, Outcome, Task
from hpcnas.skeleton import Skeleton

FACTS = DataFacts(3, 32, 32, 10, 40_000, 10_000, "synthetic")  # as if it were CIFAR-10


def true_fitness(graph: CellGraph) -> float:
    """A fitness between 0.80 and 0.90 that rewards depth in convolutions, a mix of operations, and short cuts.

    Deeper is better with diminishing returns; so is a share of separable convolutions near a half and of identities
    near a fifth. It has nothing to do with any data set.
    """
    depth = [0] * graph.nodes
    counts = [0] * (len(primitives.NAMES) + 1)
    for edge in graph.edges:
        weighted = edge.operation in (primitives.CONVOLUTION, primitives.SEPARABLE, primitives.DEPTHWISE)
        depth[edge.target] = max(depth[edge.target], depth[edge.source] + weighted)
        counts[edge.operation] += 1
    separable = counts[primitives.SEPARABLE] / len(graph.edges)
    identity = counts[primitives.IDENTITY] / len(graph.edges)
    balance = math.exp(-8.0 * (separable - 0.5) ** 2 - 8.0 * (identity - 0.2) ** 2)
    return 0.80 + 0.06 * (1.0 - math.exp(-depth[-1] / 5.0)) + 0.04 * balance


class SyntheticEvaluator:
    """Evaluator without training: the true fitness plus normal noise a replicate, drawn from its seed."""

    def __init__(self, config: Config) -> None:
        self._evaluation = config.evaluation
        self._skeleton = Skeleton.of(config.network, FACTS)
        self._task: Task | None = None
        self._ready = 0.0

    def ready(self, timeout: float) -> Loaded | None:
        return Loaded(FACTS, {})

    def start(self, task: Task) -> None:
        self._task = task
        self._ready = time.monotonic() + self._evaluation.synthetic_seconds

    def poll(self, timeout: float) -> Outcome | None:
        wait = self._ready - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, timeout))
            if wait > timeout:
                return None
        assert self._task is not None, "poll before start"
        graph = expand(self._task.genotype)
        fitness = true_fitness(graph)
        accuracies = tuple(
            min(1.0, max(0.0, fitness + self._evaluation.synthetic_noise * seeds.noise_generator(seed).normal()))
            for seed in self._task.seeds
        )
        parameters = counting.size(graph, self._skeleton).parameters
        return Evaluation(accuracies, parameters, 0.0, self._evaluation.synthetic_seconds, 0.0)

    def save(self, timeout: float) -> None:
        """There is nothing to save: an evaluation is made in no time, or slept through."""

    def close(self) -> None:
        self._task = None
