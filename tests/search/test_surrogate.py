"""The surrogate against closed forms, torch's multivariate normal, and what must not matter to it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal

from srsoup_lightning.search.surrogate import (
    LENGTHS,
    NOISES,
    GaussianProcess,
    fit,
    rational_quadratic,
    squared_distances,
)

SHAPE = (2, 3, 3)


def latents(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def answers(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(1_000 + seed))


def linear(x: Tensor) -> Tensor:
    return (x * latents(1, seed=7)).sum((-3, -2, -1))


def learned(*steps: tuple[Tensor, Tensor], window: int = 8) -> GaussianProcess:
    surrogate = GaussianProcess(window)
    for step in steps:
        surrogate.learn(*step)
    return surrogate


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_distances_are_the_mean_squared_differences_of_every_two() -> None:
    a, b = latents(4).flatten(1) + 100, latents(3, seed=1).flatten(1) + 100
    expected = (a.unsqueeze(1) - b).square().mean(2)
    assert_same(squared_distances(a, b), expected, 1e-4)


@pytest.mark.parametrize("length", [0.3, 2.0])
def test_the_kernel_is_a_mixture_of_gaussians_of_all_lengths(length: float) -> None:
    """Over an exponential law of the precision, eq. 4.20 there, integrated here by the midpoint rule."""
    squared = torch.tensor([0.0, 0.1, 1.0, 5.0], dtype=torch.float64)
    precision = (torch.arange(200_000, dtype=torch.float64) + 0.5) * 2e-4
    weights = torch.exp(-precision) * 2e-4
    expected = torch.stack([(weights * torch.exp(-precision * r / (2 * length))).sum() for r in squared])
    assert_same(rational_quadratic(squared, length), expected, 1e-6)


@given(count=st.integers(2, 12), length=st.floats(0.1, 10), noise=st.floats(1e-3, 1), seed=st.integers(0, 1_000))
def test_a_fit_is_what_the_multivariate_normal_says(count: int, length: float, noise: float, seed: int) -> None:
    x, y = latents(count, seed).flatten(1).double(), answers(count, seed).double()
    squared = torch.cdist(x, x).square() / x.shape[1]
    found = fit(squared, y, length, noise)
    covariance = 1 / (1 + squared / (2 * length)) + noise * torch.eye(count, dtype=torch.float64)
    assert_same(found.weights, covariance.inverse() @ y, 1e-6)
    scaled = float(y @ covariance.inverse() @ y) / count * covariance
    normals = [MultivariateNormal(torch.zeros_like(y), factor * scaled) for factor in (0.9, 1.0, 1.1)]
    likelihoods = [float(each.log_prob(y)) for each in normals]
    assert likelihoods[1] == max(likelihoods)
    assert math.isclose(found.log_likelihood, likelihoods[1] + count / 2 * (1 + math.log(2 * math.pi)), abs_tol=1e-6)


def test_predictions_are_the_conditional_mean_under_the_likeliest_of_all_settings() -> None:
    x, y, other = latents(9), answers(9), latents(5, seed=1)
    spread = 2.0
    y_scaled = ((y - y.mean()) / y.std()).double()
    points = torch.cat([x, other]).flatten(1).double()
    squared = torch.cdist(points, points).square() / points.shape[1]
    best, expected = -math.inf, torch.zeros(5)
    for length in LENGTHS:
        for noise in NOISES:
            joint = 1 / (1 + squared / (2 * length * spread))
            known = joint[:9, :9] + noise * torch.eye(9, dtype=torch.float64)
            variance = y_scaled @ known.inverse() @ y_scaled / 9
            likelihood = float(MultivariateNormal(torch.zeros(9).double(), variance * known).log_prob(y_scaled))
            if likelihood > best:
                best = likelihood
                expected = y.mean() + y.std() * (joint[9:, :9] @ known.inverse() @ y_scaled).float()
    assert_same(learned((x, y)).predict(other, spread), expected, 1e-4)


def answered(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Latents and the linear reward's answers about them."""
    return latents(count, seed), linear(latents(count, seed))


def agreement(*steps: tuple[Tensor, Tensor]) -> float:
    """Correlation of predictions and answers on fresh latents."""
    x, truth = answered(200, seed=99)
    return float(torch.corrcoef(torch.stack([learned(*steps).predict(x, 2.0), truth]))[0, 1])


def test_a_reward_is_learned_from_its_answers_and_from_several_steps_better_than_from_one() -> None:
    steps = [answered(12, seed) for seed in range(8)]
    assert agreement(steps[-1]) < 0.8 < agreement(*steps)
    assert agreement(answered(200)) > 0.97
    x, truth = answered(20)
    assert_same(learned((x, truth)).predict(x, spread=2.0), truth, 0.05 * float(truth.std()))


def test_what_left_the_window_is_forgotten_and_a_step_without_answers_takes_nothing_from_the_others() -> None:
    old, recent = (latents(6, seed=5), answers(6, seed=5)), [(latents(6, seed), answers(6, seed)) for seed in range(3)]
    x = latents(4, seed=9)
    assert_same(learned(old, *recent, window=3).predict(x, 2.0), learned(*recent, window=3).predict(x, 2.0))
    assert not torch.allclose(learned(old, *recent, window=4).predict(x, 2.0), learned(*recent).predict(x, 2.0))
    assert_same(learned(old, (latents(0), answers(0))).predict(x, 2.0), learned(old).predict(x, 2.0))


@given(scale=st.floats(0.1, 1e3), old=st.floats(-10, 10), new=st.floats(-10, 10), seed=st.integers(0, 1_000))
def test_a_reward_s_unit_does_not_matter_nor_that_a_step_shifts_it(scale: float, old: float, new: float, seed) -> None:
    first, second, x = latents(7, seed), latents(5, seed + 1), latents(6, seed + 2)
    one, other = answers(7, seed).double(), answers(5, seed).double()
    plain = learned((first, one), (second, other)).predict(x, 2.0)
    moved = learned((first, scale * one + old), (second, scale * other + new)).predict(x, 2.0)
    assert_same((moved - new) / scale, plain, 1e-3)


def test_turning_all_latents_together_does_not_matter() -> None:
    turn = torch.linalg.qr(latents(18, seed=3).flatten(1)).Q
    x, y, other = latents(9), answers(9), latents(5, seed=1)
    turned = [(each.flatten(1) @ turn).view_as(each) for each in (x, other)]
    assert_same(learned((turned[0], y)).predict(turned[1], 2.0), learned((x, y)).predict(other, 2.0), 1e-3)


@pytest.mark.parametrize(
    ("steps", "spread", "expected"),
    [
        ([(latents(5), torch.full((5,), 0.1))], 2.0, 0.1),
        ([(latents(1), torch.tensor([3.0]))], 2.0, 3.0),
        ([(latents(0), answers(0))], 2.0, 0.0),
        ([(latents(5)[:1].expand(5, *SHAPE), torch.arange(5.0))], 0.0, 2.0),
    ],
    ids=["equal answers", "one answer", "no answer", "one point"],
)
def test_nothing_to_learn_predicts_the_mean(steps: list[tuple[Tensor, Tensor]], spread: float, expected: float) -> None:
    found = learned(*steps).predict(latents(6).view(2, 3, *SHAPE), spread)
    assert torch.equal(found, torch.full((2, 3), expected))
