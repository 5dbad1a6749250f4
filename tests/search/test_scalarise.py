"""Values of rewards to preferences, against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.search.scalarise import Units, Value, linear, mean_rank, tchebycheff

seeds = st.integers(0, 10_000)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=seeds, rows=st.integers(1, 7), rewards=st.integers(1, 4))
def test_each_scalarisation_is_its_formula(seed: int, rows: int, rewards: int) -> None:
    r, w = random(rows, rewards, seed=seed).mul(4).round(), random(rewards, seed=seed + 1)
    columns = range(rewards)
    for k in range(rows):
        assert float(linear(r, w)[k]) == pytest.approx(sum(float(w[j] * r[k, j]) for j in columns))
        shortfall = max(float(w[j] * (6 - r[k, j])) for j in columns)
        assert float(tchebycheff(r, w)[k]) == pytest.approx(-shortfall)
        beaten = [sum((r[k, j] > r[i, j]) + 0.5 * (r[k, j] == r[i, j]) for i in range(rows) if i != k) for j in columns]
        ranks = [float(each) / max(rows - 1, 1) for each in beaten]
        assert float(mean_rank(r, w)[k]) == pytest.approx(sum(float(w[j]) * ranks[j] for j in columns))


@given(seed=seeds, scale=st.floats(0.1, 100), shift=st.floats(-100, 100))
def test_in_units_of_a_pool_the_unit_of_a_reward_does_not_matter(seed: int, scale: float, shift: float) -> None:
    rewards, weights = random(6, 2, seed=seed), torch.tensor([0.3, 0.7], dtype=torch.float64)
    other = rewards * torch.tensor([scale, 1.0]) + torch.tensor([shift, 0.0])
    for kind in ("linear", "tchebycheff", "ranks"):
        one, two = (Value(weights, kind).in_units_of(each)(each) for each in (rewards, other))
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_tchebycheff_takes_the_compromise_that_no_weighted_sum_takes() -> None:
    concave = torch.tensor([[6.0, 0.0], [2.5, 2.5], [0.0, 6.0]])
    for weight in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert linear(concave, torch.tensor([weight, 1 - weight])).argmax() != 1
    assert tchebycheff(concave, torch.tensor([0.5, 0.5])).argmax() == 1


def test_a_constant_reward_has_no_influence() -> None:
    rewards = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert Value(torch.tensor([0.5, 0.5])).in_units_of(rewards)(rewards).tolist() == [-0.5, 0.5]
    assert Units.of(rewards).unit.tolist() == [1.0, math.inf]


@given(seed=seeds, kind=st.sampled_from(["linear", "tchebycheff", "ranks"]))
def test_values_to_several_preferences_are_those_to_each(seed: int, kind: str) -> None:
    rewards, weights = random(2, 5, 3, seed=seed), random(2, 3, seed=seed + 1)
    together, of_one = Value(weights, kind)(rewards), Value(weights, kind)(rewards[:1])
    for row, each in enumerate(weights):
        torch.testing.assert_close(together[row], Value(each, kind)(rewards[row]))
        torch.testing.assert_close(of_one[row], Value(each, kind)(rewards[0]))
