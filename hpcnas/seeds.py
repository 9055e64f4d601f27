"""Where all randomness comes from: the run's seed and what is drawn for, nothing else (D3).

Birth n is drawn from (run seed, n) alone and a training from (run seed, individual, replicate), so that a run can be
replayed bit for bit on any number of ranks, and a repeated attempt repeats the same training.
"""

from __future__ import annotations

import numpy as np

_BIRTH, _TRAINING, _NOISE, _FATE = 0, 1, 2, 3  # first spawn key: what the stream is for


def birth_generator(run_seed: int, birth: int) -> np.random.Generator:
    """The stream that selection, mutation and initialisation of birth number `birth` draw from."""
    return np.random.default_rng(np.random.SeedSequence(run_seed, spawn_key=(_BIRTH, birth)))


def training_seed(run_seed: int, individual: int, replicate: int) -> int:
    """Seed of one training from scratch, 0 ≤ seed < 2⁶³ (what torch generators take); independent of the attempt."""
    sequence = np.random.SeedSequence(run_seed, spawn_key=(_TRAINING, individual, replicate))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def noise_generator(seed: int) -> np.random.Generator:
    """The stream of one synthetic training, from its training seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_NOISE,)))


def fate_generator(seed: int, attempt: int) -> np.random.Generator:
    """The stream that decides whether a synthetic attempt fails, from its first training seed; attempt 0: how long any
    attempt takes."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_FATE, attempt)))
