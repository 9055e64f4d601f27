"""A Bayesian linear model of whole-number features, the same to the last bit on any machine.

    y = c + Σ w_f (x_f − x̄_f)/s_f + noise       w ~ N(0, 1/α),  noise ~ N(0, 1/β)
    A = β R + α I = L Lᵀ                         precision of w; R = Xᵀ X of the scaled features X, r = Xᵀ y
    w = A⁻¹ β r + L⁻ᵀ z,  z ~ N(0, I)            one Thompson draw

α and β are re-estimated as in MacKay 1992 (Bayesian Interpolation), by `_ROUNDS` rounds from a fixed start.

Why the machine and its BLAS do not matter: products with the features themselves are sums of whole numbers below 2⁵³,
which float64 holds exactly, so that neither the order nor a fused multiply-add changes them. All else is done by
additions, subtractions, multiplications, divisions and square roots of whole arrays, one IEEE 754 rounding each, in the
order that is written here. Sums are `math.fsum`, which is rounded once, or `np.add.accumulate`, one after another.
There is no logarithm, no exponential function and nothing of LAPACK. Normal numbers are sums of twelve uniform ones,
which are whole. Weights are handed out as whole numbers, for the same reason.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

_UNIT = 2.0**16  # targets are rounded to 1/_UNIT
_SCORE = 2.0**30  # the largest weight that is handed out
_ROUNDS = 2
_PROBES = 8  # random vectors by which the trace of A⁻¹ is estimated


@dataclass(frozen=True)
class Posterior:
    """What is known of the weights: `mean` (d,) and the factor L (d, d) of their precision, of features that are scaled
    by `deviation` (d,), all float64; and α and β."""

    mean: np.ndarray
    factor: np.ndarray
    deviation: np.ndarray
    alpha: float
    beta: float

    def expected(self) -> np.ndarray:
        """Whole-number weights (d,), int64, whose products with features rank them by their expected target."""
        return _whole(self.mean / self.deviation)

    @property
    def unit(self) -> float:
        """The target that 1 of what `expected` weights give stands for."""
        return float(np.abs(self.mean / self.deviation).max()) / _SCORE

    def drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Such weights of one draw from the posterior distribution."""
        drawn = normal(generator, len(self.mean))[:, None] * self._inverse
        return _whole((self.mean + np.add.accumulate(drawn, axis=0)[-1]) / self.deviation)

    @functools.cached_property
    def _inverse(self) -> np.ndarray:
        """L⁻¹: one multiplication a draw, where solving would take a loop over features."""
        return solve(self.factor, np.eye(len(self.mean)))


def fit(features: np.ndarray, targets: np.ndarray, like: Posterior | None = None) -> Posterior | None:
    """The posterior of the weights, with α and β of `like` if there is one; None where the targets are all equal.

    `features`: float64, shape (n, d), whole numbers from 0 to 255, no column constant, n up to 1024; `targets`:
    float64, shape (n,), from 0 to 1.
    """
    n, d = features.shape
    rounded = np.rint(targets * _UNIT)
    gram, sums, products = features.T @ features, features.T @ np.ones(n), features.T @ rounded  # exact
    total, squares = float(rounded @ np.ones(n)), float(rounded @ rounded)  # exact: 2¹⁶ · 2¹⁶ · 2¹⁰
    if d == 0 or squares * n <= total * total:
        return None
    square = (squares - total * total / n) / (_UNIT * _UNIT)
    covariances = gram - sums[:, None] * sums / n
    deviation = np.sqrt(np.diagonal(covariances) / n)
    covariances /= deviation[:, None] * deviation
    products = (products - sums * total / n) / (deviation * _UNIT)
    alpha, beta, rounds = d * n / square, 2.0 * n / square, _ROUNDS
    if like is not None:
        alpha, beta, rounds = like.alpha, like.beta, 0
    signs = np.random.default_rng(0).integers(2, size=(d, _PROBES)) * 2.0 - 1.0
    for left in range(rounds, -1, -1):
        precision = beta * covariances
        precision[np.arange(d), np.arange(d)] += alpha
        factor = cholesky(precision)
        mean = solve_transposed(factor, solve(factor, beta * products))
        if left:
            alpha, beta = _estimated(n, square, covariances, products, mean, solve(factor, signs), alpha, beta)
    return Posterior(mean, factor, deviation, alpha, beta)


def _estimated(
    n: int, square: float, covariances: np.ndarray, products: np.ndarray, mean: np.ndarray, spread: np.ndarray,
    alpha: float, beta: float,
) -> tuple[float, float]:  # fmt: skip
    """The next α and β, within bounds that go by the variance of the targets, `square` / n."""
    d = len(mean)
    trace = math.fsum((spread * spread).ravel().tolist()) / spread.shape[1]  # of A⁻¹ (Hutchinson 1990)
    known = min(max(d - alpha * trace, 1.0), d, n - 1.0)
    weight = math.fsum((mean * mean).tolist())
    explained = np.add.accumulate(covariances * mean, axis=1)[:, -1]
    residual = square + math.fsum((mean * (explained - 2.0 * products)).tolist())
    least = n / square
    return (
        min(max(known / max(weight, 1e-300), least / 100.0), 1e4 * d * least),
        min(max((n - known) / max(residual, 1e-300), least), 1e4 * least),
    )


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """The lower factor L of a positive definite matrix, float64, shape (d, d). What is above its diagonal means
    nothing."""
    lower = matrix.copy()
    for k in range(len(lower)):
        lower[k, k] = math.sqrt(lower[k, k])
        column = lower[k + 1 :, k] / lower[k, k]
        lower[k + 1 :, k] = column
        lower[k + 1 :, k + 1 :] -= column[:, None] * column
    return lower


def solve(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """x with L x = right, of shape (d,) or (d, m)."""
    found, columns = right.copy(), np.ascontiguousarray(lower.T)
    for k in range(len(found)):
        found[k] /= lower[k, k]
        column = columns[k, k + 1 :]
        found[k + 1 :] -= (column if found.ndim == 1 else column[:, None]) * found[k]
    return found


def solve_transposed(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """x with Lᵀ x = right, of shape (d,)."""
    found = right.copy()
    for k in range(len(found) - 1, -1, -1):
        found[k] /= lower[k, k]
        found[:k] -= lower[k, :k] * found[k]
    return found


def normal(generator: np.random.Generator, count: int) -> np.ndarray:
    """Nearly normal numbers, float64, shape (count,): twelve uniform ones added up, less 6."""
    return np.asarray(generator.integers(2**32, size=(count, 12)).sum(axis=1) / 2.0**32 - 6.0)


def _whole(weights: np.ndarray) -> np.ndarray:
    most = float(np.abs(weights).max())
    return np.rint(weights * (_SCORE / most)).astype(np.int64) if most > 0.0 else np.zeros(len(weights), np.int64)
