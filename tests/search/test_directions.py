"""Directions that combine the gradients of several rewards."""

from __future__ import annotations

import pytest
import torch

from srsoup_lightning.search.directions import combine, shortest, unit_rms
from tests.samplers.toys import normal

SHAPE = (1, 2, 4)


@pytest.mark.parametrize("conflicts", ["ignore", "mgda", "pcgrad"])
def test_orthogonal_gradients_are_added_by_weight_whatever_the_rule(conflicts: str) -> None:
    gradients, weights = torch.eye(8).view(1, 8, *SHAPE)[:, :3], torch.tensor([[0.5, 0.2, 0.3]])
    expected = torch.tensor([0.5, 0.2, 0.3, 0, 0, 0, 0, 0]).view(1, *SHAPE)
    torch.testing.assert_close(combine(gradients, weights, conflicts), expected)
    alone = combine(gradients, torch.tensor([[0.0, 1.0, 0.0]]), conflicts)
    torch.testing.assert_close(alone, gradients[:, 1])


def test_of_two_vectors_the_shortest_combination_is_known_and_of_more_it_is_optimal() -> None:
    for seed in range(5):
        a, b = vectors = normal(2, 8, seed=seed).double()
        share = ((b - a) @ b / (a - b).square().sum()).clamp(0, 1)
        torch.testing.assert_close(shortest(vectors @ vectors.T), torch.stack([share, 1 - share]), rtol=0, atol=1e-6)
    gram = (vectors := normal(5, 4).double()) @ vectors.T
    shares = shortest(gram)
    point = shares @ gram @ shares
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1)
    assert (gram @ shares).min() >= point - 1e-2 * gram.diagonal().mean()  # no vertex leads further down


def test_no_reward_falls_along_mgda_and_the_weighted_one_rises_more() -> None:
    for seed in range(20):
        gradients = unit_rms(normal(1, 3, *SHAPE, seed=seed))
        weights = torch.tensor([[0.6, 0.3, 0.1]])
        rises = (combine(gradients, weights, "mgda").unsqueeze(1) * gradients).flatten(2).sum(2)[0]
        assert rises.min() > -1e-3
        assert rises[0] >= rises[1] - 0.05


def test_pcgrad_takes_out_what_is_against_the_other() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]]).view(1, 2, 1, 1, 2)
    found = combine(gradients, torch.tensor([[1.0, 1.0]]), "pcgrad")
    torch.testing.assert_close(found.flatten(), torch.tensor([0.5, 0.5]) + torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="conflicts"):
        combine(gradients, torch.ones(1, 2), "sum")
