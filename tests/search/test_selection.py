"""Choosing where to start and to go on from, against a plain loop; and when."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srsoup_lightning.search.scalarise import best_index, deviation
from srsoup_lightning.search.selection import Resampling, Selection, ancestors


@given(points=st.integers(1, 9), preferences=st.integers(1, 5), rewards=st.integers(1, 4), seed=st.integers(0, 1_000))
def test_each_preference_gets_the_point_of_its_largest_weighted_sum(points, preferences, rewards, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(points, rewards, generator=generator, dtype=torch.float64)
    weights = torch.rand(preferences, rewards, generator=generator, dtype=torch.float64)
    unit = [statistics.pstdev(column) or math.inf for column in found.T.tolist()]
    for p, best in enumerate(best_index(found, weights).tolist()):
        sums = [sum(float(weights[p, j] * found[k, j]) / unit[j] for j in range(rewards)) for k in range(points)]
        assert sums[best] == pytest.approx(max(sums))


def test_a_reward_s_unit_is_its_standard_deviation_and_one_without_spread_has_no_influence() -> None:
    rewards = torch.tensor([[1.0, 0.1], [3.0, 0.1], [2.0, 0.1]])
    assert deviation(rewards[:2]).tolist() == [1.0, torch.inf]
    assert best_index(rewards, torch.tensor([[0.01, 0.99]])).tolist() == [1]


def test_a_share_of_the_steps_becomes_a_step() -> None:
    assert [Selection(start=0.4).first_step(steps) for steps in (1, 20, 50)] == [0, 8, 20]


@given(trajectories=st.integers(1, 7), rewards=st.integers(1, 3), seed=st.integers(0, 1_000))
def test_each_preference_goes_on_from_the_best_trajectory_that_it_knows(trajectories, rewards, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randint(-2, 3, (trajectories, rewards), generator=generator).double()
    found[torch.rand(found.shape, generator=generator) < 0.2] = torch.nan
    weights = torch.randint(0, 3, found.shape, generator=generator).double()
    unit = torch.randint(0, 3, (rewards,), generator=generator).double()

    def value(p: int, q: int) -> float:
        weighted = [(w, reward, each) for w, reward, each in zip(weights[p], found[q], unit, strict=True) if w > 0]
        return sum(float(w * reward / each) if each else 0 * float(reward) for w, reward, each in weighted)

    for p, chosen in enumerate(ancestors(found, weights, unit).tolist()):
        values = [value(p, q) for q in range(trajectories)]
        best = max((each for each in values if not math.isnan(each)), default=math.nan)
        if math.isnan(values[p]) or values[p] == best:  # nothing is known of its own, or nothing is better
            assert chosen == p
        else:
            assert values[chosen] == pytest.approx(best)


def test_steps_of_a_range_are_resampled() -> None:
    assert [step for step in range(20) if Resampling(0.3, 0.8).after(step, 20)] == list(range(6, 16))
    assert [step for step in range(4) if Resampling(0, 1).after(step, 4)] == [0, 1, 2, 3]
