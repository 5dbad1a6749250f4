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
    ("points", "reference", "message"),
    [
        ([[1.0, math.nan]], [0.0, 0.0], "isn't finite"),
        ([[1.0, math.inf]], [0.0, 0.0], "isn't finite"),
        ([[1.0, 1.0]], [0.0, math.nan], "isn't finite"),
        ([[1.0, 1.0, 1.0]], [0.0, 0.0], r"points \(1, 3\) and reference \(2,\): give \(P, M\) and \(M,\)"),
        ([1.0, 1.0], [0.0, 0.0], r"points \(2,\)"),
        ([[1.0]] * 4, [0.0, 0.0], "give"),
    ],
)
def test_points_and_boxes_without_a_volume_are_refused(points: list, reference: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypervolume(torch.tensor(points), torch.tensor(reference))
    metric = Hypervolume([0.0, 0.0], [1.0, 1.0])
    if reference == [0.0, 0.0]:
        with pytest.raises(ValueError, match=r"give|finite"):
            metric.update(torch.tensor(points))
    assert metric.fronts == 0
    for low, high in (([0.0], [1.0, 1.0]), ([0.0, 1.0], [1.0, 1.0]), ([0.0, math.nan], [1.0, 1.0])):
        with pytest.raises(ValueError, match="give corners with low below high everywhere"):
            Hypervolume(low, high)
