"""Where all randomness comes from: the run's seed and the purpose of the stream, nothing else (D3).

Birth n draws from (run seed, n) alone, and a training from (run seed, individual, replicate): a run can be replayed bit
for bit on any number of ranks, and a repeated attempt repeats the same training.
"""

from __future__ import annotations

import functools

import numpy as np

_BIRTH, _TRAINING, _NOISE, _FATE = 0, 1, 2, 3  # the first spawn key: the purpose of the stream
_CURVE = 7
_HELD_OUT = 8  # of retrainings
_MIXING = 9  # likewise
_POOL = 10
_ORDER, _MICRO_BATCH, _IMAGE = 4, 5, 6  # of retrainings; their seed is that of the training


def birth_generator(run_seed: int, birth: int) -> np.random.Generator:
    """The stream from which selection, mutation and initialisation draw at birth number `birth`."""
    return np.random.default_rng(np.random.SeedSequence(run_seed, spawn_key=(_BIRTH, birth)))


def pool_generator(run_seed: int, known: int) -> np.random.Generator:
    """The stream from which the candidates are drawn that births share, of what `known` evaluations tell."""
    return np.random.default_rng(np.random.SeedSequence(run_seed, spawn_key=(_POOL, known)))


def training_seed(run_seed: int, individual: int, replicate: int) -> int:
    """Seed of one training from scratch, 0 ≤ seed < 2⁶³ (what torch generators take); independent of the attempt."""
    sequence = np.random.SeedSequence(run_seed, spawn_key=(_TRAINING, individual, replicate))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def training_seeds(run_seed: int, individual: int, replicates: int) -> tuple[int, ...]:
    """`training_seed` of replicates 0, 1, … in a third of the time: it mixes their common words once."""
    if max(run_seed, individual, replicates) > _WORD:
        return tuple(training_seed(run_seed, individual, replicate) for replicate in range(replicates))
    constant, pool = _mixed(*_run_pool(run_seed), individual)
    return tuple(_state(_mixed(constant, pool, replicate)[1]) >> 1 for replicate in range(replicates))


# numpy.random.SeedSequence, which is O'Neill's seed_seq_fe128: it mixes one word after another into a pool of four.
# NumPy promises that its results never change. All arithmetic is modulo 2³².
_WORD = 0xFFFFFFFF
Pool = tuple[int, int, int, int]


@functools.lru_cache(maxsize=16)
def _run_pool(run_seed: int) -> tuple[int, Pool]:
    """Hash constant and pool after the run's seed, padded to four words, and the purpose of the stream."""
    constant, pool = 0x43B0D7E5, []
    for word in (run_seed, 0, 0, 0):
        constant, word = _hashed(constant, word)
        pool.append(word)
    for source in range(4):
        for target in range(4):
            if source != target:
                constant, word = _hashed(constant, pool[source])
                pool[target] = _mix(pool[target], word)
    first, second, third, fourth = pool
    return _mixed(constant, (first, second, third, fourth), _TRAINING)


def _mixed(constant: int, pool: Pool, word: int) -> tuple[int, Pool]:
    """Hash constant and pool after one more word."""
    first, second, third, fourth = pool
    constant, hashed = _hashed(constant, word)
    first = _mix(first, hashed)
    constant, hashed = _hashed(constant, word)
    second = _mix(second, hashed)
    constant, hashed = _hashed(constant, word)
    third = _mix(third, hashed)
    constant, hashed = _hashed(constant, word)
    return constant, (first, second, third, _mix(fourth, hashed))


def _hashed(constant: int, word: int) -> tuple[int, int]:
    word ^= constant
    constant = constant * 0x931E8875 & _WORD
    word = word * constant & _WORD
    return constant, word ^ word >> 16


def _mix(one: int, other: int) -> int:
    mixed = 0xCA01F9DD * one - 0x4973F715 * other & _WORD
    return mixed ^ mixed >> 16


def _state(pool: Pool) -> int:
    """64 bits of the sequence's state, the lower word first."""
    low = (pool[0] ^ 0x8B51F9DD) * (0x8B51F9DD * 0x58F38DED & _WORD) & _WORD
    constant = 0x8B51F9DD * 0x58F38DED & _WORD
    high = (pool[1] ^ constant) * (constant * 0x58F38DED & _WORD) & _WORD
    return (low ^ low >> 16) | (high ^ high >> 16) << 32


def noise_generator(seed: int) -> np.random.Generator:
    """The stream of one synthetic training, from its training seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_NOISE,)))


def curve_generator(seed: int) -> np.random.Generator:
    """The stream of the learning curve of one synthetic training, from its training seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_CURVE,)))


def fate_generator(seed: int, attempt: int) -> np.random.Generator:
    """The stream that decides whether a synthetic attempt fails, from the first training seed of its task. The stream
    of attempt 0 decides how long each attempt takes."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_FATE, attempt)))


def order_generator(seed: int, epoch: int) -> np.random.Generator:
    """The stream from which the order of a retraining's images in epoch 0, 1, … is drawn."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ORDER, epoch)))


def held_out_generator(seed: int) -> np.random.Generator:
    """The stream from which the validation images of a retraining are drawn, from the seed of its first training."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_HELD_OUT,)))


def micro_batch_seed(seed: int, step: int, micro_batch: int) -> int:
    """Seed of everything that is drawn for one micro-batch of a retraining, 0 ≤ seed < 2⁶³: the same on every rank."""
    return _torch_seed(np.random.SeedSequence(seed, spawn_key=(_MICRO_BATCH, step, micro_batch)))


def mixing_seed(seed: int, step: int) -> int:
    """Seed of the shares in which images of a step of a retraining are mixed, 0 ≤ seed < 2⁶³: the same on every
    rank."""
    return _torch_seed(np.random.SeedSequence(seed, spawn_key=(_MIXING, step)))


def image_seed(seed: int, position: int) -> int:
    """Seed of one image's augmentation, by its place in the order, 0 ≤ seed < 2⁶³: the same in every process."""
    return _torch_seed(np.random.SeedSequence(seed, spawn_key=(_IMAGE, position)))


def _torch_seed(sequence: np.random.SeedSequence) -> int:
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
