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


@given(trajectories=st.integers(1, 7), rewards=st.integers(1, 3), margin=st.integers(0, 2), seed=st.integers(0, 1_000))
def test_each_preference_goes_on_from_the_best_trajectory_beyond_chance(trajectories, rewards, margin, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randint(-2, 3, (trajectories, rewards), generator=generator).double()
    means[torch.rand(means.shape, generator=generator) < 0.2] = torch.nan
    counts = torch.randint(1, 9, means.shape, generator=generator).double()
    weights = torch.randint(0, 3, means.shape, generator=generator).double()
    deviations = torch.randint(0, 3, (rewards,), generator=generator).double()

    def gain(p: int, q: int) -> tuple[float, float]:
        total = variance = 0.0
        for w, one, other, n, k, unit in zip(
            weights[p], means[p], means[q], counts[p], counts[q], deviations, strict=True
        ):
            if w > 0 and unit > 0:
                total += float(w * (other - one) / unit)  # NaN where one is unknown
                variance += float(w**2 * (1 / n + 1 / k))
        return total, math.sqrt(variance)

    for p, chosen in enumerate(ancestors(means, counts, deviations, weights, margin).tolist()):
        gains = [gain(p, q) for q in range(trajectories)]
        beyond = [total for total, error in gains if total > margin * error + 1e-9]
        if beyond:
            assert gains[chosen][0] == pytest.approx(max(beyond))
        else:
            assert chosen == p


@pytest.mark.parametrize(("margin", "left"), [(0.0, 0.5), (2.0, 0.0228)])
def test_chance_makes_a_preference_leave_its_trajectory_as_rarely_as_the_margin_says(
    margin: float, left: float
) -> None:
    """Of two trajectories that serve it equally well: as often as a normal number exceeds the margin."""
    generator, n, repeats = torch.Generator().manual_seed(0), 8, 2_000
    weights, times = torch.tensor([[0.3, 0.7], [0.3, 0.7]]), 0
    for answers in 5 * torch.randn(repeats, 2, 2, n, generator=generator):
        chosen = ancestors(answers.mean(2), torch.full((2, 2), n), torch.tensor([5.0, 5.0]), weights, margin)
        times += int(chosen[0] != 0)
    assert times / repeats == pytest.approx(left, abs=4 * math.sqrt(left * (1 - left) / repeats))


def test_steps_of_a_range_are_resampled() -> None:
    assert [step for step in range(20) if Resampling(0.3, 0.8).after(step, 20)] == list(range(6, 16))
    assert [step for step in range(4) if Resampling(0, 1).after(step, 4)] == [0, 1, 2, 3]
