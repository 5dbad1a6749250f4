"""Soups of true gradients, of the rewards that have some: steps known in closed form, sharing, mixing and costs."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.oracle import NoGradientError
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import BaseModel, Fast, Never, Sampler, Soup, SRSoup, WeightedSum
from srsoup_lightning.samplers.rehearsal import count
from srsoup_lightning.search.sharing import FixedSoup
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, bind, lattice, linears, normal, oracle, run

STEPS = 6
UNITS = [normal(*SHAPE, seed=100 + seed) / normal(*SHAPE, seed=100 + seed).norm() for seed in range(2)]


def gaussian():
    return GaussianMixture(0.3 * normal(1, *SHAPE), 0.5).bind(STEPS, 1.0)


def mixed(sampler: Sampler, preferences: Preferences, searched: str = "b", seed: int = 0) -> Soup:
    """A soup whose reward of this name has no gradient."""
    asking = oracle(linears(2))
    asking.rewards[searched].is_differentiable = False
    return sampler.run(Problem(bind(sampler), asking, 64), preferences, "a lobster", seed)


@pytest.mark.parametrize("weights", [[1.0, 0.0], [0.3, 0.7]])
def test_a_step_goes_along_the_gradients_and_a_draw_as_far_as_the_candidates_say(weights: list[float]) -> None:
    """On the shell, at sqrt(N) units along the unit gradient for a draw of length sqrt(d)."""
    n, noise, denoiser = 9, NoiseSource("a lobster", 0, SHAPE), gaussian()
    x = noise.start().unsqueeze(0)
    for step in range(STEPS):
        mean, sigma = denoiser.kernel.transition(step, x, denoiser.denoise(x, step))
        total = sum(weight * unit for weight, unit in zip(weights, UNITS, strict=True))
        u = sqrt(n) * total / total.norm() + noise.step(step)
        x = mean + sigma * sqrt(u.numel()) * u / u.norm()
    sampler = WeightedSum(num_inference_steps=STEPS, candidates=n, gradients=True)
    soup = run(sampler, Preferences(["a", "b"], [weights]), denoiser=denoiser)
    torch.testing.assert_close(soup.images, denoiser.decode(x), rtol=0, atol=1e-5)
    asked = STEPS - 1  # the last step has no noise
    assert soup.ledger.queries == {"a": asked, "b": asked * (weights[1] > 0)}
    assert soup.ledger.gradients == soup.ledger.total_queries
    assert soup.ledger.nfe == STEPS + asked


def test_all_preferences_share_the_anchors_gradients() -> None:
    shared, own = (
        run(SRSoup(num_inference_steps=STEPS, candidates=8, sharing=sharing, gradients=True), lattice(2, 4))
        for sharing in (FixedSoup(0, STEPS), Never())
    )
    assert shared.ledger.queries == {"a": STEPS - 1, "b": STEPS - 1}
    assert shared.ledger.gradients == 2 * (STEPS - 1)
    assert own.ledger.gradients == 2 + 8 * (STEPS - 2)  # all stand at one point at first
    first = shared.images[:, :, 0, 0]
    torch.testing.assert_close(shared.images[[0, -1]], own.images[[0, -1]])  # the anchors themselves
    assert len(first.unique(dim=0)) == 5


def test_a_reward_without_gradient_is_searched_for_beside_the_others() -> None:
    sampler, search = (WeightedSum(num_inference_steps=STEPS, candidates=6, gradients=way) for way in (True, False))
    for weights in ([1.0, 0.0], [0.5, 0.5]):
        points = Preferences(["a", "b"], [weights])
        soup, wholly = mixed(sampler, points), [run(sampler, points), run(search, points)]
        expected = {"a": (STEPS - 1) * (weights[0] > 0), "b": 6 * (STEPS - 1) * (weights[1] > 0)}
        assert soup.ledger.queries == expected
        assert soup.ledger.gradients == expected["a"]
        planned = count(sampler, points, model=bind(sampler), differentiable=["a"])
        assert (planned.queries, planned.nfe, planned.gradients) == (expected, soup.ledger.nfe, expected["a"])
        same = [torch.allclose(soup.images, other.images) for other in wholly]
        assert same == [weights[1] == 0, False]


def test_a_true_gradient_pulls_as_hard_as_a_search() -> None:
    """Of two rewards of equal weight, each rises alike whether it is the one that is searched for or not."""
    sampler, points = WeightedSum(num_inference_steps=STEPS, candidates=24, gradients=True), lattice(2, 2)
    rises = []
    for searched in ("a", "b"):
        soups = [mixed(sampler, points, searched, seed).rewards for seed in range(6)]
        unsteered = [run(BaseModel(num_inference_steps=STEPS), points, seed=seed).rewards for seed in range(6)]
        rises.append((torch.stack(soups) - torch.stack(unsteered)).mean(0)[1])
    assert bool((rises[0] > 0).all())
    assert 0.6 < float(rises[0][0] / rises[1][0]) < 1.6
    assert 0.6 < float(rises[0][1] / rises[1][1]) < 1.6


def test_what_has_no_gradient_at_all_is_refused_by_name() -> None:
    sampler, asking = SRSoup(num_inference_steps=STEPS, gradients=True), oracle(linears(2))
    for reward in asking.rewards.values():
        reward.is_differentiable = False
    with pytest.raises(NoGradientError, match=r"SRSoup needs gradients .*, which 'a', 'b' can't give"):
        sampler.run(Problem(bind(sampler), asking, 64), lattice(2, 1), "a lobster", 0)
    with pytest.raises(ValueError, match="conflicts is mgda, which is for true gradients: give gradients: true too"):
        SRSoup(conflicts="mgda")
    with pytest.raises(ValueError, match="resampling compares trajectories by their candidates, and true gradients"):
        Fast(gradients=True)
