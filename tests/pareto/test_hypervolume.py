"""Hypervolumes by hand and by Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch

from srsoup_lightning.pareto import Hypervolume, hypervolume

ORIGIN = torch.zeros(2)


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([[2.0, 3.0]], 6),
        ([[2.0, 3.0], [4.0, 1.0]], 6 + 2),
        ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], 3 + 2 + 1),
        ([[2.0, 3.0], [1.0, 1.0]], 6),
        ([[2.0, 3.0], [-1.0, 9.0]], 6),
        ([[-1.0, -1.0]], 0),
    ],
)
def test_areas_are_those_found_by_hand(points: list[list[float]], volume: float) -> None:
    assert hypervolume(torch.tensor(points), ORIGIN) == pytest.approx(volume)
    assert hypervolume(torch.tensor(points) - 5, ORIGIN - 5) == pytest.approx(volume)


def test_a_volume_is_the_share_of_random_points_that_the_front_dominates() -> None:
    rng = torch.Generator().manual_seed(0)
    front = torch.rand(6, 3, generator=rng)
    thrown = torch.rand(200_000, 3, generator=rng)
    dominated = (thrown.unsqueeze(1) < front).all(2).any(1).double().mean().item()
    assert hypervolume(front, torch.zeros(3)) == pytest.approx(dominated, abs=0.005)


@pytest.mark.parametrize(
    ("points", "reference", "message"),
    [
        (torch.tensor([[1.0, math.nan]]), ORIGIN, "isn't finite"),
        (torch.tensor([[1.0, math.inf]]), ORIGIN, "isn't finite"),
        (torch.ones(1, 2), torch.tensor([0.0, math.nan]), "isn't finite"),
        (torch.ones(1, 3), ORIGIN, r"points \(1, 3\) and reference \(2,\): give \(P, M\) and \(M,\)"),
        (torch.ones(2), ORIGIN, r"points \(2,\)"),
    ],
)
def test_what_has_no_volume_is_refused(points: torch.Tensor, reference: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypervolume(points, reference)


def test_the_metric_is_the_mean_over_fronts_of_shares_of_the_box() -> None:
    metric = Hypervolume(low=[-2.0, 10.0], high=[2.0, 110.0])
    metric.update(torch.tensor([[2.0, 110.0]]))
    torch.testing.assert_close(metric.compute(), torch.tensor(1.0))
    metric.update(torch.tensor([[0.0, 60.0], [-2.0, 500.0]]))
    metric.update(torch.tensor([[2.0, 60.0], [0.0, 110.0], [-3.0, 0.0]]))
    torch.testing.assert_close(metric.compute(), torch.tensor((1 + 0.25 + 0.75) / 3))
    metric.reset()
    metric.update(torch.tensor([[6.0, 110.0]]))
    torch.testing.assert_close(metric.compute(), torch.tensor(2.0))


@pytest.mark.parametrize(
    ("low", "high"), [([0.0], [1.0, 1.0]), ([0.0, 1.0], [1.0, 1.0]), ([0.0, math.nan], [1.0, 1.0])]
)
def test_a_box_without_inside_is_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(ValueError, match="give corners with low below high everywhere"):
        Hypervolume(low, high)


@pytest.mark.parametrize("points", [torch.ones(4, 1), torch.ones(4, 3), torch.ones(2), torch.tensor([[1.0, math.nan]])])
def test_the_metric_refuses_other_numbers_of_rewards_and_nan(points: torch.Tensor) -> None:
    metric = Hypervolume([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"give|finite"):
        metric.update(points)
    assert metric.fronts == 0
