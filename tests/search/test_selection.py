"""Choosing where to go on from, against a plain loop; and when."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.search.selection import Selection, choose, unit_of


@given(points=st.integers(1, 9), preferences=st.integers(1, 5), rewards=st.integers(1, 4), seed=st.integers(0, 1_000))
def test_each_preference_gets_the_point_of_its_largest_weighted_sum(
    points: int, preferences: int, rewards: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(points, rewards, generator=generator, dtype=torch.float64)
    weights = torch.rand(preferences, rewards, generator=generator, dtype=torch.float64)
    unit = 0.1 + torch.rand(rewards, generator=generator, dtype=torch.float64)
    for p, best in enumerate(choose(found, weights, unit).tolist()):
        sums = [sum(float(weights[p, j] * found[k, j] / unit[j]) for j in range(rewards)) for k in range(points)]
        assert sums[best] == pytest.approx(max(sums))


def test_only_a_better_point_is_worth_a_move() -> None:
    rewards, weights = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    place = torch.tensor([1, 0])
    assert choose(rewards, weights, torch.ones(2), place).tolist() == [1, 2]
    assert choose(rewards, weights, torch.ones(2)).tolist() == [0, 2]


def test_a_reward_s_unit_is_its_standard_deviation() -> None:
    rewards = torch.tensor([[1.0, 0.1], [3.0, 0.1]])
    assert unit_of(rewards).tolist() == [1.0, torch.inf]


def test_a_reward_without_spread_has_no_say() -> None:
    rewards = torch.tensor([[1.0, 0.1], [3.0, 0.1], [2.0, 0.1]])
    assert choose(rewards, torch.tensor([[0.01, 0.99]]), unit_of(rewards)).tolist() == [1]


def test_shares_of_the_steps_become_steps() -> None:
    selection = Selection(start=0.4, again=(0.55, 0.75))
    assert (selection.start_at(20), selection.steps(20)) == (8, {8, 11, 15})
    assert (selection.start_at(50), selection.steps(50)) == (20, {20, 28, 38})
    assert selection.steps(1) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": 1}, "pool is 1: .* at least 2"),
        ({"start": 0.0}, r"start is 0.0: give a share of the steps in \(0, 1\)"),
        ({"start": 1.0}, "start is 1.0"),
        ({"again": (0.1,)}, "again holds 0.1: .* between start, 0.2, and 1"),
        ({"again": (0.5, 1.0)}, "again holds 1.0"),
    ],
)
def test_numbers_outside_their_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Selection(**options)
