"""How the benchmarks judge a front."""

from __future__ import annotations

import pytest
import torch

from benchmarks.front import measure, neighbour_pairs
from srsoup_lightning import Preferences
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.pareto import Scale
from srsoup_lightning.pareto.scale import HIGH, LOW
from srsoup_lightning.samplers import Soup

NAMES = ["a", "b", "c"]


@pytest.mark.parametrize(("rewards", "divisions", "edges"), [(2, 10, 10), (2, 1, 1), (3, 1, 3), (3, 5, 45)])
def test_neighbours_are_the_edges_of_the_lattice(rewards: int, divisions: int, edges: int) -> None:
    """A line of n divisions has n edges; a triangle has one edge a side for each of its n (n + 1) / 2 upward cells."""
    weights = Preferences.lattice(NAMES[:rewards], divisions).weights
    pairs = neighbour_pairs(weights)
    assert len(pairs) == edges
    steps = (weights[pairs[:, 0]] - weights[pairs[:, 1]]).abs().sum(1)
    torch.testing.assert_close(steps, torch.full((edges,), 2 / divisions))


def soup(rewards: torch.Tensor, images: torch.Tensor) -> Soup:
    preferences = Preferences.lattice(NAMES[:2], len(rewards) - 1)
    names = tuple(preferences.names)
    ledger, failed = Ledger({"a": 3, "b": 4}, nfe=5, decodes=6, seconds=7.0), rewards.isnan()
    return Soup("x", 0, ("a", "b"), names, preferences.weights, images, rewards, failed, ledger)


def test_a_front_by_hand() -> None:
    scale = Scale(torch.tensor([10.0, 20.0]), torch.tensor([2.0, 4.0]))
    top, floor = 10 + 2 * HIGH, 20 + 4 * LOW
    images = torch.stack([torch.full((3, 2, 2), level) for level in (0.0, 0.5, 0.6)])
    found = measure(soup(torch.tensor([[top, floor], [14.0, 28.0], [10.0, 20.0]]), images), scale)
    # in standard deviations: (6, -2), (2, 2), (0, 0); only the second has volume, half the box a side
    assert found["hypervolume"] == pytest.approx(0.25)
    assert found["utility"] == pytest.approx((6 + 2 + 0) / 3)
    assert found["smoothness"] == pytest.approx(0.3)
    assert found["front"] == [[6, -2], [2, 2], [0, 0]]
    assert (found["queries"], found["nfe"], found["decodes"], found["seconds"]) == (7, 5, 6, 7.0)
