"""The trainings of one fitness side by side on a GPU: one block plan for all of them, every step one graph replay (D7).

Nothing is drawn within a step: which images, crops and flips each step takes is drawn beforehand from the training's
seed, on the device, and the captured graph only counts. So a training resumes from its parameters, their average and
the number of its step. The host looks every few steps whether the losses are still finite.

Images that stay on the host come to one place on the device before each step, where kernels read them (`Arriving`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hpcnas.architecture.expansion import expand
from hpcnas.architecture.genotype import Genotype
from hpcnas.architecture.skeleton import Skeleton
from hpcnas.config.search import TrainingSettings
from hpcnas.data.augment import EpochSampler, movable
from hpcnas.training import averaging
from hpcnas.training.batches import Batches
from hpcnas.training.cuda import block_graph
from hpcnas.training.cuda.parameters import CudaPlan, Draws, Pixels, Room
from hpcnas.training.cuda.program import CudaProgram, available
from hpcnas.training.method import (
    LossNotFinite,
    TrainingData,
    Trainings,
    ValidationScores,
    crop_size,
    learning_rate,
    number_type,
)
from hpcnas.training.network import Network, initial_weights

WIDEST = 128  # channels of a block that the kernels are made for
LARGEST = 1 << 14  # numbers of the last map of an image, and of the classifier, which the head keeps in registers
STEPS_BETWEEN_LOOKS = 25  # steps that the device is given to do at a time


def fits(skeleton: Skeleton) -> bool:
    """Whether the kernels are made for these sizes: images about as small as CIFAR's, c0 up to 32 in three groups."""
    last = skeleton.stages()[-1]
    width = block_graph.padded(last.next_channels)
    area = -(-last.height // last.stride) * -(-last.width // last.stride)
    largest = width * max(block_graph.power_of_two(area), block_graph.padded(skeleton.classes))
    return width <= WIDEST and largest <= LARGEST


class StackedTraining(Trainings):
    """Trainings from scratch, one a seed, at the same time."""

    stored_name = "StackedTraining"
    side_by_side = 255  # as many as a fitness has

    @classmethod
    def of(
        cls,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> StackedTraining:
        return cls(genotype, skeleton, data, settings, seeds)

    def __init__(
        self,
        genotype: Genotype,
        skeleton: Skeleton,
        data: TrainingData,
        settings: TrainingSettings,
        seeds: tuple[int, ...],
    ) -> None:
        device = data.device
        assert available(device), "`probing` has looked"
        assert data.places is None or data.on_host, "kernels read images that lie on the device"
        graph = expand(genotype)
        states = []
        for seed in seeds:
            with initial_weights(seed):
                states.append(Network(graph, skeleton).state_dict())
        self._data = data
        self._settings = settings
        self._plan = CudaPlan(block_graph.build(graph, skeleton), states, device, number_type(settings, device))
        self._room = Room(device)
        crop = crop_size(settings, data.facts)
        pixels = Pixels(data.pixels, data.labels, data.normalise.table, data.class_weights)
        self._draws = _draws(data, settings, seeds, crop)
        self._images, self._validation_images = data.batches(), data.validation_batches()
        self._arriving: Arriving | None = None
        if data.on_host:
            room = data.pixels.new_empty(len(seeds) * settings.batch_size, *data.full_size, data.pixels.shape[3])
            self._arriving = Arriving(self._images, self._draws.order, room.to(device))
            pixels, self._draws = self._arriving.in_place_of(pixels, self._draws)
        self._program = CudaProgram(self._plan, self._room, pixels, self._draws, crop, training=True)
        rates = [learning_rate(settings, step) for step in range(settings.steps)]
        self._rates = torch.tensor(rates, dtype=torch.float32, device=device)
        shares = [0.0, *(averaging.share(step) for step in range(1, settings.steps + 1))]
        self._shares = torch.tensor(shares, dtype=torch.float32, device=device)  # after so many steps
        self._averages: tuple[Tensor, ...] = ()  # to the end, since to leave them out would need another graph
        if settings.rungs:
            self._averages = self._plan.parameters.clone(), self._plan.running.clone()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.step = 0

    def prepare(self) -> None:
        """Makes a step and a batch of validation and takes them back: kernels of new shapes are compiled meanwhile."""
        if self.step == self._settings.steps:
            return
        plan = self._plan
        changed = (plan.parameters, plan.velocity, plan.running, *self._averages)
        kept = [(tensor, tensor.clone()) for tensor in changed]
        self._let_arrive(ahead=False)
        self._step()
        program, _, arriving = self._validation(plan)
        if arriving is not None:
            arriving.bring(0, ahead=False)
        program.count_right()
        for tensor, before in kept:
            tensor.copy_(before)
        self._draws.step.fill_(self.step)
        self._draws.losses[:, self.step :] = 0.0

    def run(self, beat: Callable[[], None], until: int | None = None) -> None:
        end = self._settings.steps if until is None else until
        while self.step < end:
            begun, look = self.step, min(self.step + STEPS_BETWEEN_LOOKS, end)
            while self.step < look:
                self._advance()
            if not torch.isfinite(self._draws.losses[:, begun:look]).all():  # waits for the device
                raise LossNotFinite(f"the loss was not finite by step {look} of {self._settings.steps}")
            beat()

    def _advance(self) -> None:
        """Gives the device one step to do. The first is not replayed but compiled, where it is of a new shape."""
        if self._stream is None:
            self._let_arrive()
            self._step()
        else:
            with torch.cuda.stream(self._stream):
                if self._graph is not None:
                    self._let_arrive()
                    self._graph.replay()
                else:
                    self._stream.wait_stream(torch.cuda.default_stream(self._plan.device))
                    self._let_arrive(ahead=False)  # while a graph is captured, no other thread may ask for anything
                    self._step()
                    self._graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(self._graph, stream=self._stream):
                        self._step()
            torch.cuda.current_stream(self._plan.device).wait_stream(self._stream)
        self.step += 1

    def _let_arrive(self, ahead: bool = True) -> None:
        """Has the images of the next step brought, where they stay on the host; `ahead`: those after them too."""
        if self._arriving is not None:
            self._arriving.bring(self.step, ahead)

    @property
    def waited(self) -> float | None:
        learnt, validated = self._images.waited, self._validation_images.waited
        return None if learnt is None or validated is None else learnt + validated

    def _step(self) -> None:
        settings = self._settings
        self._program.learn()
        self._program.update(self._rates, settings.momentum, settings.weight_decay)
        if self._averages:
            share = self._shares[self._draws.step]  # which has gone on to this step's number from 1
            for average, weights in zip(self._averages, (self._plan.parameters, self._plan.running), strict=True):
                average.lerp_(weights, share)

    def validated(self, beat: Callable[[], None], averaged: bool = False) -> tuple[ValidationScores, ...]:
        assert self._averages or not averaged, "there is an average where there are rungs"
        plan = self._plan.with_numbers(*self._averages) if averaged else self._plan
        program, draws, arriving = self._validation(plan)
        for number in range(draws.order.shape[1]):
            if arriving is not None:
                arriving.bring(number)
            program.count_right()
            beat()
        return tuple(map(ValidationScores, draws.right.tolist(), draws.scores))

    def _validation(self, plan: CudaPlan) -> tuple[CudaProgram, Draws, Arriving | None]:
        """A program that validates a plan, what it counts in, and what brings the images if they stay on the host."""
        data = self._data
        count, (height, width) = data.facts.validation_images, data.validation_pixels.shape[1:3]
        crop_height, crop_width = crop_size(self._settings, data.facts)
        batch = max(1, min(count, self._settings.batch_size * crop_height * crop_width // (height * width)))
        pixels = Pixels(data.validation_pixels, data.validation_labels, data.normalise.table)
        draws, arriving = _in_order(count, batch, plan, data.facts.classes), None
        if data.on_host:
            room = data.validation_pixels.new_empty(batch, *data.validation_pixels.shape[1:]).to(plan.device)
            arriving = Arriving(self._validation_images, draws.order[:1], room)
            pixels, draws = arriving.in_place_of(pixels, draws)
        program = CudaProgram(plan, self._room, pixels, draws, (height, width), training=False)
        return program, draws, arriving

    def export(self, number: int = 0) -> dict[str, Tensor]:
        return self._plan.state_dict(number)

    def state(self) -> dict[str, Any]:
        plan = self._plan
        tensors = {"parameters": plan.parameters, "velocity": plan.velocity, "running": plan.running}
        found = {name: tensor.cpu() for name, tensor in tensors.items()}
        return {"step": self.step, **found, "averages": [average.cpu() for average in self._averages]}

    def resume(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self._draws.step.fill_(self.step)
        for name in ("parameters", "velocity", "running"):
            getattr(self._plan, name).copy_(state[name])
        for average, saved in zip(self._averages, state["averages"], strict=True):
            average.copy_(saved)


class Arriving:
    """Images that stay on the host, those of one step at a time, in memory of the device that does not move: a captured
    graph reads there."""

    def __init__(self, batches: Batches, order: Tensor, room: Tensor) -> None:
        """`order`: int32 (R, steps, batch), or (1, steps, batch) where all networks see the same; `room`: (R · batch,
        H, W, C) or (batch, H, W, C) on the device."""
        self._batches, self._room = batches, room
        self._order = order.cpu().long().movedim(1, 0).flatten(1)  # (steps, R · batch)

    def in_place_of(self, pixels: Pixels, draws: Draws) -> tuple[Pixels, Draws]:
        """The same for kernels that read these images."""
        networks, steps, batch = draws.order.shape
        places = torch.arange(len(self._room), dtype=torch.int32, device=self._room.device).reshape(-1, 1, batch)
        places = places.expand(networks, steps, batch).contiguous()
        return replace(pixels, images=self._room), replace(draws, places=places)

    def bring(self, step: int, ahead: bool = True) -> None:
        """Has those of a step come before whatever the current stream is given next; `ahead`: and those of the step
        after it begin to come."""
        upcoming = self._order[step + 1] if ahead and step + 1 < len(self._order) else None
        movable(self._room).copy_(self._batches.take(self._order[step], upcoming))


def _draws(data: TrainingData, settings: TrainingSettings, seeds: tuple[int, ...], crop: tuple[int, int]) -> Draws:
    """Images, crops and flips of all steps; those of a seed depend on nothing else."""
    device, steps, batch = data.device, settings.steps, settings.batch_size
    order = torch.empty(len(seeds), steps, batch, dtype=torch.int32, device=device)
    offsets = torch.empty(len(seeds), steps, batch, 3, dtype=torch.int16, device=device)
    rooms = [full - part for full, part in zip(data.full_size, crop, strict=True)]
    for number, seed in enumerate(seeds):
        generator = torch.Generator(device).manual_seed(seed)
        order[number] = EpochSampler(len(data.labels), generator).next(steps * batch).reshape(steps, batch)
        for part, choices in enumerate((rooms[0] + 1, rooms[1] + 1, 2 if settings.flip else 1)):
            drawn = torch.randint(choices, (steps, batch), generator=generator, device=device)
            offsets[number, ..., part] = drawn
    return Draws(
        order=order,
        offsets=offsets,
        step=torch.zeros(1, dtype=torch.int64, device=device),
        losses=torch.zeros(len(seeds), steps, device=device),
        right=torch.zeros(len(seeds), dtype=torch.int32, device=device),
        scores=torch.zeros(len(seeds), 0, 0, device=device),
    )


def _in_order(count: int, batch: int, plan: CudaPlan, classes: int) -> Draws:
    """Whole images one after the other, for every network; the last batch is filled up with the last image."""
    batches, networks, device = -(-count // batch), plan.networks, plan.device
    order = torch.arange(batches * batch, dtype=torch.int32, device=device).clamp_(max=count - 1)
    return Draws(
        order=order.reshape(1, batches, batch).repeat(networks, 1, 1),
        offsets=torch.zeros(networks, batches, batch, 3, dtype=torch.int16, device=device),
        step=torch.zeros(1, dtype=torch.int64, device=device),
        losses=torch.zeros(networks, batches, device=device),
        right=torch.zeros(networks, dtype=torch.int32, device=device),
        scores=torch.zeros(networks, count, classes, device=device),
    )
