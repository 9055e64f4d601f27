"""The model of guided evolution: what it computes, and that neither order nor BLAS change a bit of it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hpcnas.evolution import bayesian_ridge
from hpcnas.evolution.bayesian_ridge import Posterior, cholesky, fit, normal, solve, solve_transposed


def problem(n: int = 200, d: int = 12, noise: float = 0.05, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features, and targets that three of them make, from 0 to 1."""
    generator = np.random.default_rng(seed)
    features = generator.integers(4, size=(n, d)).astype(float)
    targets = 0.5 + 0.1 * features[:, 0] - 0.08 * features[:, 1] + 0.03 * features[:, 2]
    return features, np.clip(targets + noise * (generator.integers(1000, size=n) / 500 - 1), 0.0, 1.0)


def fitted(features: np.ndarray, targets: np.ndarray) -> Posterior:
    posterior = fit(features, targets)
    assert posterior is not None
    return posterior


def digest(posterior: Posterior) -> str:
    lower = np.tril(posterior.factor)
    return hashlib.blake2b(posterior.mean.tobytes() + lower.tobytes(), digest_size=8).hexdigest()


def test_it_finds_the_weights_that_made_the_targets() -> None:
    features, targets = problem()
    posterior = fitted(features, targets)
    found = posterior.mean / posterior.deviation
    assert found[:3] == pytest.approx([0.1, -0.08, 0.03], abs=0.01)
    assert np.abs(found[3:]).max() < 0.01
    assert 1.0 / posterior.beta**0.5 == pytest.approx(0.05 / 3**0.5, rel=0.3)  # of uniform noise


def test_the_mean_solves_the_equations_of_ridge_regression() -> None:
    features, targets = problem()
    posterior = fitted(features, targets)
    scaled = (features - features.mean(axis=0)) / posterior.deviation
    precision = posterior.beta * scaled.T @ scaled + posterior.alpha * np.eye(12)
    expected = np.linalg.solve(precision, posterior.beta * scaled.T @ (targets - targets.mean()))
    assert posterior.mean == pytest.approx(expected, abs=1e-4)  # targets are rounded to 2⁻¹⁶
    assert np.tril(posterior.factor) == pytest.approx(np.linalg.cholesky(precision), rel=1e-6)


def test_draws_have_the_covariance_of_the_posterior() -> None:
    lower = cholesky(np.array([[4.0, 1.0], [1.0, 2.0]]))
    draws = np.array([solve_transposed(lower, normal(np.random.default_rng(seed), 2)) for seed in range(4000)])
    assert np.cov(draws.T) == pytest.approx(np.linalg.inv([[4.0, 1.0], [1.0, 2.0]]), abs=0.03)


def test_factors_solve() -> None:
    matrix = np.array([[4.0, 2.0, 0.0], [2.0, 5.0, 2.0], [0.0, 2.0, 6.0]])
    lower, right = cholesky(matrix), np.array([1.0, 2.0, 3.0])
    assert np.tril(lower) == pytest.approx(np.linalg.cholesky(matrix))
    assert matrix @ solve_transposed(lower, solve(lower, right)) == pytest.approx(right)
    assert solve(lower, np.stack([right, right], axis=1))[:, 1].tolist() == solve(lower, right).tolist()


def test_the_order_of_the_sums_changes_nothing() -> None:
    """What another BLAS would do: it adds the products in another order."""
    features, targets = problem(n=700, d=40)
    order = np.random.default_rng(0).permutation(700)
    assert digest(fitted(features[order], targets[order])) == digest(fitted(features, targets))


def test_without_blas_it_is_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's whole numbers instead of the matrix products."""

    class Exact(np.ndarray):
        def __matmul__(self, other: np.ndarray) -> np.ndarray:  # type: ignore[override]
            one, two = np.asarray(self).astype(np.int64).astype(object), np.asarray(other).astype(np.int64)
            return np.asarray((one @ two.astype(object)).astype(float))

    features, targets = problem(n=60, d=6)
    assert digest(fitted(features.view(Exact), targets)) == digest(fitted(features, targets))


def test_golden() -> None:
    """Changes only with the model, which `hpcnas.evolution.guided` then says: older runs are replayed by it."""
    assert digest(fitted(*problem())) == "fb0bf8d14c2f704d"


def test_a_draw_is_a_draw_of_whole_numbers() -> None:
    posterior = fitted(*problem())
    one, same, other = (posterior.drawn(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.dtype == np.int64 and one.tolist() == same.tolist() != other.tolist()
    assert np.abs(one).max() == 2**30 == np.abs(posterior.expected()).max()


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_equal_targets_teach_nothing(value: float) -> None:
    assert fit(problem()[0], np.full(200, value)) is None


def test_no_features_teach_nothing() -> None:
    assert fit(np.zeros((5, 0)), np.linspace(0.0, 1.0, 5)) is None


@pytest.mark.parametrize("d", [1, 30])
def test_more_features_than_individuals_and_equal_features_are_no_harm(d: int) -> None:
    features = np.repeat(np.arange(5.0)[:, None], d, axis=1)
    posterior = fitted(features, np.array([0.0, 0.2, 0.5, 0.7, 1.0]))
    assert np.isfinite(posterior.mean).all() and (posterior.mean > 0).all()


def test_normal_numbers_are_nearly_normal() -> None:
    found = normal(np.random.default_rng(1), 20_000)
    assert [found.mean(), found.std()] == pytest.approx([0.0, 1.0], abs=0.02)
    assert np.mean(np.abs(found) < 1.96) == pytest.approx(0.95, abs=0.01)
    assert bayesian_ridge.normal(np.random.default_rng(1), 3).tolist() == found[:3].tolist()
