"""One training of a found network to the end, on all ranks at once (§4.1, Evaluation).

    a step:  each rank's pieces: images ─► network ─► loss ─► gradients ─┐
                                                         sums over all ranks ─► SGD, the same on every rank

SGD with momentum, weight decay on all parameters. Every rank holds the whole network and makes the same steps. What a
step computes follows from the state before it and from (seed, step): it does not depend on how many ranks there are,
nor on when a training was saved and continued, nor on whether the network is validated while it trains. Which images
there are is the feed's business; files, jobs and signals are `job`'s.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from hpcnas.architecture.expansion import CellGraph
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config import class_weights
from hpcnas.config.retraining import RetrainingConfig, RetrainingSettings
from hpcnas.retrain import shares
from hpcnas.retrain.batch_statistics import apart, synchronised
from hpcnas.retrain.compiling import Compiler
from hpcnas.retrain.feed import Feed
from hpcnas.retrain.parts import leave_apart
from hpcnas.retrain.pieces import Piece, Pieces
from hpcnas.retrain.process_group import Group
from hpcnas.retrain.rates import learning_rate
from hpcnas.retrain.recomputing import recompute
from hpcnas.retrain.record import Row, Validation
from hpcnas.retrain.regularisation import DropPath, WithAuxiliaryHead, average_in, loss
from hpcnas.retrain.scoring import ImagesMissing, Scorer, Tested, TooManyBroken
from hpcnas.retrain.sums import Sums
from hpcnas.retrain.trained_weights import freeze, put_into
from hpcnas.training import schedules
from hpcnas.training.method import LossNotFinite, number_type
from hpcnas.training.network import Network, initial_weights

_LOSS, _CORRECT, _WAITED, _BROKEN, _LEAVING, _SAVING = range(6)  # figures that are added up over ranks
_FIGURES = 6


def numbers(training: RetrainingSettings, device: torch.device) -> torch.dtype:
    """The type of the numbers of feature maps on that device; with float64 parameters are of it too."""
    return torch.float64 if training.precision == "fp64" else number_type(training, device)


class DistributedTraining:
    """One training from scratch. All ranks call the same methods in the same order."""

    def __init__(
        self, graph: CellGraph, skeleton: Skeleton, recipe: RetrainingConfig, seed: int, feed: Feed, group: Group,
        device: torch.device, warn: Callable[[str], None], recomputed: bool = False,
    ) -> None:  # fmt: skip
        """With `recomputed`, the same on all ranks, a step takes less memory and more time (`recomputing`)."""
        training = recipe.training
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.step = 0  # steps made
        self.seconds = 0.0  # spent on them
        self.waited = 0.0  # share of these seconds that ranks waited for images, times the seconds
        self.history: list[Row] = []
        self.validations: list[Validation] = []  # on rank 0 all of them, on the others those of this job
        self.broken: set[str] = set()  # images, not of the test, that some rank could not read; on all the same
        self._recipe, self._seed, self._feed, self._group, self._device = recipe, seed, feed, group, device
        self._pieces = Pieces(recipe, seed, feed, group.rank, group.size, device)
        self._paths = DropPath(graph, self._pieces.draws) if training.drop_path else None
        with initial_weights(seed):
            network = Network(graph, skeleton, self._paths) if self._paths else Network(graph, skeleton)
            trained = WithAuxiliaryHead(network, skeleton) if training.auxiliary_weight else network
        if training.batch_statistics == "step":
            images = [sum(map(len, shares.pieces(recipe, rank, group.size))) for rank in range(group.size)]
            trained = synchronised(trained, group, images, device)  # type: ignore[assignment]
        self.network = network
        self._half = numbers(training, device) is torch.bfloat16
        self._number = torch.float32 if self._half else numbers(training, device)
        self._trained = trained.to(device, self._number).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compiler = Compiler(network, warn) if recipe.run.compile else None
        if device.type == "cpu" and not (self._compiler or self._paths or self._half):
            leave_apart(network)
        self._trained_on = recipe.trained_on(skeleton)
        if recomputed:
            recompute(network, self._pieces.draws)
        self._scorer = Scorer(network, skeleton.classes, feed, group, device, self._number, self._half)
        self._frozen = freeze(network.blocks) if training.freeze_cell else []
        self._sums = Sums(self._trained, _FIGURES, device)
        weights = class_weights.scaled(training.class_weights, feed.appearance.class_sizes)
        self._class_weights = None if weights is None else torch.tensor(weights, dtype=self._number, device=device)
        self._parameters = [parameter for parameter in self._trained.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.SGD(
            self._parameters,
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        for parameter in self._parameters:
            self._optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self._averages = [torch.zeros_like(value) for value in self._values()] if training.weight_averaging else []
        group.copy_from_first(self._tensors())
        self._unread: list[tuple[int, Tensor, Any]] = []  # steps whose figures are still on their way from the device
        self._figures = torch.zeros(_FIGURES, dtype=torch.float64)  # since the last row of the history
        self._read = 0  # steps whose figures were read
        self._row_seconds = 0.0
        self._leaving = self._saving = False
        self._problem: str | None = None  # why images do not come
        self._validated = 0  # the step after which the network was validated last

    @property
    def peak_memory(self) -> int | None:
        """Bytes that tensors, images among them, have taken of this rank's GPU at the most since this object was made;
        None on a CPU."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None

    def _values(self) -> list[Tensor]:
        """What is averaged over the training: parameters and running statistics."""
        return [*(parameter.detach() for parameter in self._parameters), self._sums.running]

    def _tensors(self) -> list[Tensor]:
        """All state that is tensors, in place."""
        momenta = [self._optimiser.state[parameter]["momentum_buffer"] for parameter in self._parameters]
        return [*self._values(), *momenta, *self._averages, *self._frozen]

    # ── training ────────────────────────────────────────────────────────────────────────────────────────────────────
    def run(
        self, leave: Callable[[], bool], save_due: Callable[[], bool], save: Callable[[], None],
        made_step: Callable[[], None],
    ) -> bool:  # fmt: skip
        """The steps that are left; whether they were made: not so where some rank's `leave` said it is to leave.

        Ranks leave at the same step, which is saved. `save` is called on all of them soon after some rank's `save_due`
        said so, and at the end; it may take the `state`. A validation that leaving has cut short is made when the
        training goes on, and the training is not complete before. Raises LossNotFinite, TooManyBroken, DataError,
        ImagesMissing, on all ranks alike, the last one when the last step is saved.
        """
        self._to_training_mode()
        if self._is_to_be_validated():  # an earlier job has left before it had done so
            self._validate(leave)
        if self.step < self._recipe.training.steps and not self._leaving:
            self._feed.begin(self._seed, self.step, self._group.called)
            if self._compiler is not None and self._group.size > 1:
                self._compiler.agree(self._group, self._rehearse)
        self._clock = time.perf_counter()
        while self.step < self._recipe.training.steps and not self._leaving:
            self._advance(leave(), save_due())
            self._lap()
            self._read_figures(at_most=1 if self._device.type == "cuda" else 0)  # a GPU gets its next step first
            if self._is_to_be_validated():
                self._read_figures(at_most=0)  # so that a GPU has done its steps before this takes time
                self._lap()
                self._validate(leave)
                if self.step < self._recipe.training.steps and not self._leaving:
                    self._feed.begin(self._seed, self.step, self._group.called)
                self._clock = time.perf_counter()
            if self._saving:
                self._read_figures(at_most=0)
                save()
                self._saving = False
            made_step()
        self._read_figures(at_most=0)
        save()
        if self._problem is not None:
            raise ImagesMissing(self._problem)
        return self.step == self._recipe.training.steps and not self._is_to_be_validated()

    def _to_training_mode(self) -> None:
        self._trained.train()
        if self._frozen:
            self.network.blocks.eval()

    def _rehearse(self) -> None:
        """A pass forwards and back as in a step, by this rank alone, of which the next step keeps nothing."""
        self._set_paths()
        with apart(self._trained):
            self._run_piece(self._pieces.blank(self._trained_on.height, self._trained_on.width))
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # where its kernels fail, it is now

    def _set_paths(self) -> None:
        training = self._recipe.training
        if self._paths is not None:
            self._paths.probability = schedules.rising(training.drop_path, self.step, training.steps)

    def _lap(self) -> None:
        """Counts the time since the last lap as spent on training."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._row_seconds += now - self._clock
        self._clock = now

    def _advance(self, leave: bool, save: bool) -> None:
        """One step, with this rank's wishes. Where some rank has no images for it, nothing of it counts on any, and all
        of them leave."""
        training, sums = self._recipe.training, self._sums
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(training, self.step)
        self._set_paths()
        sums.begin()
        for piece in self._pieces.of_step(self.step):
            self._run_piece(piece)
        if self._scorer.interrupted():
            self._problem = self._scorer.problem()
            self._leaving = True
            return
        sums.figures[_WAITED] += self._pieces.waited
        sums.figures[_BROKEN] += len(self._feed.broken - self.broken)
        sums.figures[_LEAVING] += leave
        sums.figures[_SAVING] += save
        sums.add_up(self._group)
        self._optimiser.step()
        self.step += 1
        if self._averages:
            average_in(self._averages, self._values(), training.weight_averaging, self.step)
        self._send_figures()

    def _run_piece(self, piece: Piece) -> None:
        """Runs the network forward and back on a piece."""
        training, sums, labels = self._recipe.training, self._sums, piece.labels
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            output = self._trained(piece.images.to(self._number))
            scores, auxiliary = output if training.auxiliary_weight else (output, None)
            found = loss(scores.to(self._number), labels, training.label_smoothing, self._class_weights)
            if auxiliary is not None:
                other = loss(auxiliary.to(self._number), labels, training.label_smoothing, self._class_weights)
                found = found + training.auxiliary_weight * other
        # Statistics of the whole step are the same on all ranks, and each adds an equal part of them.
        sums.add_batch_statistics(1 / self._group.size if training.batch_statistics == "step" else piece.share)
        counted = found * piece.share
        counted.backward()
        sums.figures[_LOSS] += counted.detach()
        likeliest = labels if labels.ndim == 1 else labels.argmax(dim=1)
        sums.figures[_CORRECT] += (scores.detach().argmax(dim=1) == likeliest).sum()

    # ── figures: on their way from the device while it makes the next step ─────────────────────────────────────────
    def _send_figures(self) -> None:
        if self._device.type != "cuda":
            self._unread.append((self.step, self._sums.figures.clone(), None))
            return
        host = torch.empty(_FIGURES, dtype=self._number, pin_memory=True)
        host.copy_(self._sums.figures, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._unread.append((self.step, host, event))

    def _read_figures(self, at_most: int) -> None:
        """Reads figures until `at_most` steps are unread; the same on every rank."""
        while len(self._unread) > at_most:
            step, figures, event = self._unread.pop(0)
            if event is not None:
                event.synchronize()
            self._account(step, figures)

    def _account(self, step: int, figures: Tensor) -> None:
        """Counts the figures of a step in, float (6,), the same on every rank. Raises LossNotFinite, TooManyBroken."""
        training = self._recipe.training
        if not torch.isfinite(figures[_LOSS]):
            raise LossNotFinite(f"the loss of seed {self._seed} was not finite at step {step} of {training.steps}")
        if figures[_BROKEN]:  # some rank has met others than those known, which is rare
            self._share_broken()
        self._leaving |= bool(figures[_LEAVING])
        self._saving |= bool(figures[_SAVING])
        self._figures += figures.double()
        self._read += 1
        self.waited += float(figures[_WAITED]) / self._group.size
        if step % self._recipe.run.history_every == 0 or step == training.steps:
            images = self._read * training.batch_size
            seconds = max(1e-9, self._row_seconds)
            self.history.append(
                Row(
                    seed=self._seed,
                    step=step,
                    loss=float(self._figures[_LOSS]) / self._read,
                    accuracy=float(self._figures[_CORRECT]) / images,
                    learning_rate=learning_rate(training, step - 1),
                    images_per_second=images / seconds,
                    input_wait=min(1.0, float(self._figures[_WAITED]) / self._group.size / seconds),
                )
            )
            self._figures.zero_()
            self._read, self._row_seconds = 0, 0.0

    def _share_broken(self) -> None:
        """Makes what each rank could not read known to all. Raises TooManyBroken."""
        self.broken = self.broken.union(*self._group.gather(self._feed.broken))
        if len(self.broken) > (most := self._recipe.data.most_broken()):
            raise TooManyBroken(
                f"expected at most {most} unreadable images, got {len(self.broken)}; "
                "mend the data, or allow more with --max-broken"
            )

    # ── validation: changes nothing that the steps depend on ────────────────────────────────────────────────────────
    def _is_to_be_validated(self) -> bool:
        """Whether the network is to be validated after this step and was not; the same on every rank."""
        last = self.step == self._recipe.training.steps
        due = self.step > self._validated and (last or self.step % self._recipe.run.validate_every == 0)
        return due and self._feed.validation_images > 0

    def _validate(self, leave: Callable[[], bool]) -> None:
        """Takes down how what would be tested now does on the validation images; nothing where some rank is to leave
        before that is known. Raises DataError, TooManyBroken."""
        if self._leaving:
            return
        began = time.perf_counter()
        with self._as_tested():
            found = self._scorer.validate(self.broken, leave)
        self._to_training_mode()
        if found is None:
            self._leaving = True
            if self._scorer.interrupted():
                self._problem = self._scorer.problem()
            return
        if found.unreadable:
            self._share_broken()
        self._validated = self.step
        self.validations.append(
            Validation(
                seed=self._seed,
                step=self.step,
                images=found.images,
                accuracy=found.accuracy,
                loss=found.loss,
                seconds=time.perf_counter() - began,
            )
        )

    # ── the test ────────────────────────────────────────────────────────────────────────────────────────────────────
    def test(self) -> Tested | None:
        """The trained network on the test images, each whole; None where images have not come to some rank, which is to
        leave. Raises DataError, ImagesMissing, LossNotFinite, TooManyBroken, on all ranks alike."""
        with self._as_tested():
            found = self._scorer.test(self._recipe.data.most_broken(self._feed.test_images))
        if found is not None and not math.isfinite(found.loss):
            raise LossNotFinite(
                f"the loss of seed {self._seed} on the test images was not finite after step {self.step} of "
                f"{self._recipe.training.steps}"
            )
        return found

    @contextlib.contextmanager
    def _as_tested(self) -> Iterator[None]:
        """The network in evaluation mode, with the weights that are tested and kept; afterwards with its own."""
        before = self._put_in_averages()
        self.network.eval()
        try:
            yield
        finally:
            self._put_back(before)

    def _put_in_averages(self) -> list[Tensor]:
        """Gives the network the weights that are tested and kept; returns those that it had."""
        before = [value.clone() for value in self._values()] if self._averages else []
        for value, average in zip(self._values(), self._averages, strict=False):
            value.copy_(average)
        self._sums.use_in_evaluation(self._sums.running)
        return before

    def _put_back(self, before: list[Tensor]) -> None:
        for value, old in zip(self._values(), before, strict=False):
            value.copy_(old)

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """The state_dict of what `test` tests, on the CPU, without what served the training alone."""
        before = self._put_in_averages()
        found = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.network.state_dict().items()
        }
        self._put_back(before)
        for name, value in found.items():
            if name.endswith("num_batches_tracked"):  # each rank counts its own
                value.fill_(self.step)
        return found

    # ── saving and continuing ───────────────────────────────────────────────────────────────────────────────────────
    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, for `resume`: plain values and tensors. To be taken in `save`."""
        return {
            "seed": self._seed,
            "step": self.step,
            "tensors": [tensor.detach().cpu() for tensor in self._tensors()],
            "history": [asdict(row) for row in self.history],
            "validations": [asdict(row) for row in self.validations],
            "figures": self._figures.tolist(),
            "read": self._read,
            "row_seconds": self._row_seconds,
            "seconds": self.seconds,
            "waited": self.waited,
            "broken": sorted(self.broken),
        }

    @torch.no_grad()
    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begins with trained weights, which `trained_weights.read` has read; on rank 0 alone, before `resume`, from
        which the others have them."""
        self._sums.use_in_evaluation(self._sums.running)
        put_into(self.network, weights)
        self._sums.begin_with_loaded()

    def resume(self, found: dict[str, Any] | None) -> None:
        """Goes on from a `state`, if there is one, which rank 0 alone has; the others get what they need. Raises
        ValueError for another training's."""
        if found is not None:
            self.check(found)
            with torch.no_grad():
                for tensor, saved in zip(self._tensors(), found["tensors"], strict=True):
                    tensor.copy_(saved)
            self.history = [Row(**row) for row in found["history"]]
            self.validations = [Validation(**row) for row in found.get("validations", [])]  # since 0.2
            self._validated = self.validations[-1].step if self.validations else 0
            self._figures = torch.tensor(found["figures"], dtype=torch.float64)
            self._read, self._row_seconds = found["read"], found["row_seconds"]
            self.step, self.seconds, self.waited = found["step"], found["seconds"], found["waited"]
            self.broken = set(found["broken"])
        self._group.copy_from_first(self._tensors())
        counts = torch.tensor([self.step, self._read, self._validated], dtype=torch.float64, device=self._device)
        self._group.copy_from_first([counts])
        self.step, self._read, self._validated = map(int, counts.tolist())
        self.broken = self._group.gather(self.broken)[0]

    def check(self, found: dict[str, Any]) -> None:
        """Raises ValueError unless that is a state of this training."""
        expected = [tuple(tensor.shape) for tensor in self._tensors()]
        if found["seed"] != self._seed or [tuple(tensor.shape) for tensor in found["tensors"]] != expected:
            raise ValueError(f"expected the state of seed {self._seed} of this network, got that of {found['seed']}")
