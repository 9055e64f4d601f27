"""A small retraining whose every number fits the others, for tests of what looks at one: complete with weights, under
way, waiting. Literal, but for what is computed from the genotype. No training: weights are those that one begins with.

Times are in seconds since 1970: session 1000, seed 0 until 1100, seed 1 from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from toolruns import CHAIN

from hpcnas.architecture import expansion, sizes
from hpcnas.architecture.genotype import Genotype
from hpcnas.config.data_spec import DataFacts
from hpcnas.config.retraining import SCHEME
from hpcnas.retrain import record_file
from hpcnas.retrain.rates import learning_rate
from hpcnas.retrain.record import Inputs, Origin, Record, RetrainingSession, Row, State, Trained, Validation

FACTS = DataFacts(1, 8, 8, 10, 1293, 144, "d1917500")
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "network": {"channels": 4, "cells": (1,)},
    "training": {"steps": 40, "runs": 3},
    "data": {"validation_fraction": 0.1},
    "run": {"history_every": 10, "validate_every": 20},
}
SOFTWARE = {"hpcnas": "0.2.0", "python": "3.12", "torch": "2", "mpi": "none"}
FROM_FILE = Origin("cell.toml", str(CHAIN.space))
ACCURACY = {0: 0.75, 1: 0.5, 2: 0.875}  # of 360 test images, by seed
STATES = (State.COMPLETE, State.TRAINING, State.WAITING)


def recorded(
    states: tuple[State, ...] = STATES,
    settings: Mapping[str, Mapping[str, object]] = {},
    run: str = "7" * 32,
    genotype: Genotype = CHAIN,
    origin: Origin = FROM_FILE,
    facts: DataFacts = FACTS,
) -> Record:
    """Of trainings in these states, from seed 0 on: those under way have made 20 steps, diverged ones 30."""
    layers = [SCHEME.preset("quick"), SETTINGS, {"training": {"runs": len(states)}}, settings]
    recipe = SCHEME.build(*layers)
    names = tuple(map(str, range(facts.classes)))
    inputs = Inputs(recipe.skeleton(facts), names, (77.5,), (95.0,), resize=8)
    size = sizes.size(expansion.expand(genotype), inputs.skeleton)
    record = Record(run, recipe, genotype, origin, inputs, size.parameters, size.flops)
    record.sessions = [RetrainingSession(1000.0, "node-1", 4321, 2, SOFTWARE, facts, "cpu", "float32")]
    for seed, state in enumerate(states, start=recipe.training.seed):
        record.trainings.append(trained(seed, state))
        step = record.trainings[-1].step
        record.history += [
            Row(seed, at, 2.5 - at / 20, at / 80, learning_rate(recipe.training, at - 1), 640.0, 0.125)
            for at in range(10, step + 1, 10)
        ]
        record.validations += [Validation(seed, at, 144, at / 80, 2.5 - at / 40, 0.5) for at in range(20, step + 1, 20)]
    return record


def trained(seed: int, state: State) -> Trained:
    if state is State.WAITING:
        return Trained(seed)
    begun = {"images_per_second": 640.0, "input_wait": 0.125, "started": 1000.0 + 100 * seed}
    if state is State.COMPLETE:
        return Trained(seed, state, 40, 4.0, test_images=360, test_accuracy=ACCURACY[seed], test_top5=0.975,
                       test_loss=0.5, finished=1100.0 + 100 * seed, test_broken=0, **begun)  # fmt: skip
    if state is State.DIVERGED:
        return Trained(seed, state, 30, 3.0, finished=1050.0 + 100 * seed, **begun)
    return Trained(seed, state, 20, 2.0, **begun)


def kept(folder: Path, record: Record) -> Path:
    """Its folder, with retrain.h5 alone."""
    folder.mkdir()
    record_file.write(folder, record)
    return folder
