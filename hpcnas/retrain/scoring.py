"""How a network does on images that it is not trained on: on validation images while it trains, on test images at its
end; all ranks together, each on its share.

Ranks that cannot go on leave together: what one of them meets, all are told. It changes nothing that a training depends
on. Which weights are scored is the loop's choice, which images there are the feed's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hpcnas.config.data_spec import DataError
from hpcnas.retrain.feed import Feed
from hpcnas.retrain.predictions import MOST, Predictions
from hpcnas.retrain.process_group import Group
from hpcnas.training import measuring
from hpcnas.training.network import Network

MOST_SCORES = 1 << 26  # test images times classes, of which all scores are held at a time for their AUROC
_COUNTED = 4  # images, those classified correctly, those among the best five, summed cross-entropy
_UNREADABLE, _DONE, _LEFT = range(_COUNTED, _COUNTED + 3)  # what is added up beside them in a validation
_PROBLEMS, _BROKEN = range(_COUNTED, _COUNTED + 2)  # likewise in a test


class TooManyBroken(Exception):
    """More images than allowed cannot be read: one line."""


class ImagesMissing(Exception):
    """Some rank cannot have its images: one line."""


@dataclass(frozen=True)
class Tested:
    """How the trained network does on the test images."""

    images: int  # those that could be read
    accuracy: float  # 0 to 1
    top5: float | None  # likewise; None where there are 5 classes or fewer
    loss: float
    broken: int  # test images that could not be read
    balanced_accuracy: float  # this and the next two by `training.measuring`
    macro_f1: float
    auroc: float | None  # None where there is none, on other ranks than 0, and of more than MOST_SCORES
    predictions: Predictions  # of each image; on other ranks than 0 without its file


@dataclass(frozen=True)
class Validated:
    """How a network does on the validation images."""

    images: int  # those that could be read
    accuracy: float  # 0 to 1
    loss: float | None  # mean cross-entropy; None where it is not finite
    unreadable: bool  # whether some rank has met images, beside those known, that cannot be read


class Scorer:
    """Scores one network, which is in evaluation mode. All ranks call the same methods in the same order."""

    def __init__(
        self, network: Network, classes: int, feed: Feed, group: Group, device: torch.device, number: torch.dtype,
        half: bool,
    ) -> None:  # fmt: skip
        """`number` is the type of what the network takes; with `half` its feature maps are bf16."""
        self._network, self._classes, self._feed, self._group = network, classes, feed, group
        self._device, self._number, self._half = device, number, half

    def problem(self) -> str | None:
        """Why images have not come to some rank, the same on every rank; None where nothing is wrong with them."""
        return next((text for text in self._group.gather(self._feed.problem) if text is not None), None)

    @torch.no_grad()
    def validate(self, known: set[str], leave: Callable[[], bool]) -> Validated | None:
        """On the validation images; None where some rank is to leave before that is known. `known` are images that
        cannot be read, which all ranks have heard of. Raises DataError where none can."""
        total = torch.zeros(_LEFT + 1, dtype=torch.float64)
        batches = self._feed.validate(self._group.called)
        while not total[_LEFT] and total[_DONE] < self._group.size:  # batch by batch, so that they can leave together
            counts = torch.zeros_like(total)
            batch = next(batches, None)
            if batch is None:
                counts[_DONE] = 1
            else:
                images, labels, _ = batch
                counts[:_COUNTED] = _counted(self._scores(images), labels)
            counts[_UNREADABLE] = len(self._feed.broken - known)
            counts[_LEFT] = leave() or self._feed.interrupted
            shared = self._added_up(counts)
            total[:_COUNTED] += shared[:_COUNTED]
            total[_COUNTED:] = shared[_COUNTED:]
        if total[_LEFT]:
            return None
        read, correct, _, summed_loss = total[:_COUNTED].tolist()
        if not read:
            raise DataError(f"expected images that can be read, but none of {self._feed.validated_on} can")
        mean = summed_loss / read
        return Validated(int(read), correct / read, mean if math.isfinite(mean) else None, bool(total[_UNREADABLE]))

    @torch.no_grad()
    def test(self, max_broken: int) -> Tested | None:
        """On the test images, each whole; None where images have not come to some rank, which is to leave. The loss
        need not be finite. Raises DataError, ImagesMissing, TooManyBroken, on all ranks alike."""
        counts = torch.zeros(_BROKEN + 1, dtype=torch.float64)
        wrong: DataError | None = None
        said: list[tuple[NDArray[np.int64], Tensor]] = []  # of images at their places
        kept: list[tuple[NDArray[np.int64], Tensor]] = []  # likewise their scores, unless they are too many
        count = 0
        try:
            for images, labels, places in self._feed.test(self._group.called):
                scores = self._scores(images)
                counts[:_COUNTED] += _counted(scores, labels)
                said.append((places, _said(scores, labels)))
                count += scores.numel()
                if count <= MOST_SCORES:
                    kept.append((places, scores.cpu()))
        except DataError as error:  # which the others have to know
            wrong = error
            counts[_PROBLEMS] = 1
        counts[_BROKEN] = len(self._feed.broken_tests)  # of this rank's share
        if self.interrupted():
            if (problem := self.problem()) is not None:
                raise ImagesMissing(problem)
            return None
        found, correct, among, summed_loss, problems, broken = self._added_up(counts).tolist()
        if problems or not found:
            raise wrong or DataError(f"expected test images, got {found:.0f}; {problems:.0f} ranks cannot read them")
        if broken > max_broken:  # more than before the training
            raise TooManyBroken(
                f"expected at most {max_broken} unreadable test images, got {broken:.0f} of {found + broken:.0f}; "
                "mend the data, or allow more with --max-broken"
            )
        top5 = among / found if self._classes > 5 else None
        table = self._on_one_table(said, 3 + 2 * min(MOST, self._classes), torch.float64)  # 5 MB for ImageNet
        predictions = _predictions(table, self._feed.test_files)
        told = predictions.labels.astype(np.int64), predictions.classes[:, 0].astype(np.int64), self._classes
        return Tested(
            int(found),
            correct / found,
            top5,
            summed_loss / found,
            int(broken),
            measuring.balanced(*told),
            measuring.f1(*told),
            self._auroc(kept, table),
            predictions,
        )

    def _auroc(self, kept: list[tuple[NDArray[np.int64], Tensor]], table: NDArray[np.float64]) -> float | None:
        """That of the scores of all ranks; None on others than rank 0, where there is none, and of too many scores."""
        if len(table) * self._classes > MOST_SCORES:
            return None
        scores = self._on_one_table(kept, self._classes, torch.float32)
        there = np.flatnonzero(table[:, 0])
        if self._group.rank or not np.isfinite(scores).all():
            return None
        found = measuring.auroc(scores[there], table[there, 1].astype(np.int64))
        return None if math.isnan(found) else found

    def interrupted(self) -> bool:
        """Whether images have not come to some rank: the same on every rank."""
        asked = self._feed.waits or self._device.type == "cuda"  # where hosts meet in nothing else, and hear nothing
        return asked and bool(self._group.count(self._feed.interrupted))

    def _on_one_table(
        self, said: list[tuple[NDArray[np.int64], Tensor]], width: int, number: torch.dtype
    ) -> NDArray[Any]:
        """The rows of all ranks at the places of their images, of that type, (images, width); zeros where there is
        none."""
        images = max(self._group.gather(max((int(places[-1]) + 1 for places, _ in said), default=0)))
        table = torch.zeros(images, width, dtype=number)
        for places, rows in said:
            table[torch.from_numpy(places)] = rows
        return self._added_up(table).numpy()

    def _added_up(self, counts: Tensor) -> Tensor:
        """Over all ranks, on the host."""
        shared = counts.to(self._device)
        self._group.add_up(shared)
        return shared.cpu()

    def _scores(self, images: Tensor) -> Tensor:
        """Class scores, float32 (B, classes)."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            return self._network(images.to(self._number)).float()


def _counted(scores: Tensor, labels: Tensor) -> Tensor:
    """float64 (4,): images, those classified correctly, those among the best five, summed cross-entropy."""
    best = _best(scores) == labels[:, None]
    summed = functional.cross_entropy(scores, labels, reduction="sum")
    return torch.stack([torch.full_like(summed, len(labels)), best[:, 0].sum(), best.sum(), summed]).double().cpu()


def _said(scores: Tensor, labels: Tensor) -> Tensor:
    """A row of what is kept of each image, float64 (B, 3 + 2K): that it is one, its label, the probability of that, the
    K most probable classes, their probabilities."""
    probabilities, best = scores.softmax(dim=1).clamp(max=1.0), _best(scores)  # rounding may leave a little more
    columns = [torch.ones_like(labels)[:, None], labels[:, None], probabilities.gather(1, labels[:, None]), best]
    return torch.cat([column.double() for column in (*columns, probabilities.gather(1, best))], dim=1).cpu()


def _predictions(table: NDArray[np.float64], files: NDArray[np.bytes_] | None) -> Predictions:
    """Those of a table with a row, as `_said` has it, for each image; of zeros for one that could not be read."""
    images = np.flatnonzero(table[:, 0])
    labels, of_labels, *others = np.split(table[images, 1:], (1, 2, 2 + (table.shape[1] - 3) // 2), axis=1)
    classes, probabilities = others
    return Predictions(
        images,
        labels[:, 0].astype(np.int32),
        of_labels[:, 0].astype(np.float32),
        classes.astype(np.int32),
        probabilities.astype(np.float32),
        None if files is None else files[images],
    )


def _best(scores: Tensor) -> Tensor:
    """The classes of the highest scores, the highest first: int64 (B, five or all)."""
    return scores.topk(min(MOST, scores.shape[1]), dim=1).indices
