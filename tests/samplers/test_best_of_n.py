"""Best of N against a pool drawn by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.samplers import BaseModel, BestOfN
from tests.samplers.toys import SHAPE, bind, lattice, linears, run

POOL, STEPS = 9, 5


def pool_by_hand(sampler: BestOfN) -> Tensor:
    """Every member drawn alone, (POOL, *SHAPE)."""
    noise, denoiser, pictures = NoiseSource("a lobster", 0, SHAPE), bind(sampler), []
    for member in range(POOL):
        x = noise.start(member)[None]
        for step in range(STEPS):
            mean = denoiser.kernel.mean(step, x, denoiser.denoise(x, step))
            x = mean + denoiser.kernel.sigma(step) * noise.step(step, member)
        pictures.append(denoiser.decode(x))
    return torch.cat(pictures)


@pytest.mark.parametrize("max_batch", [2, 64])
def test_every_preference_gets_the_picture_of_the_pool_that_it_likes_best(max_batch: int) -> None:
    sampler, preferences = BestOfN(num_inference_steps=STEPS, pool=POOL, max_batch=max_batch), lattice(3, 4)
    rewards = {
        name: lambda images, score=score, scale=scale: scale * score(images) + 7
        for scale, (name, score) in zip((1, 100, 1e-3), linears(3).items(), strict=True)
    }
    pool = pool_by_hand(sampler)
    scores = torch.stack([score(pool) for score in rewards.values()], 1).double()
    standard = (scores - scores.mean(0)) / scores.std(0, correction=0)
    best = [max(range(POOL), key=lambda k, w=w: float(standard[k] @ w)) for w in preferences.weights.double()]
    assert len(set(best)) > 2
    soup = run(sampler, preferences, rewards)
    torch.testing.assert_close(soup.images, pool[best])
    assert soup.ledger.decodes == POOL + len(set(best))


@pytest.mark.parametrize("divisions", [1, 8])
def test_the_cost_does_not_depend_on_the_number_of_preferences(divisions: int) -> None:
    soup = run(BestOfN(num_inference_steps=STEPS, pool=POOL), lattice(2, divisions))
    assert soup.ledger.queries == {"a": POOL, "b": POOL}
    assert soup.ledger.nfe == POOL * STEPS


def test_a_pool_of_one_is_the_base_model() -> None:
    samplers = BestOfN(num_inference_steps=STEPS, pool=1), BaseModel(num_inference_steps=STEPS)
    best, base = (run(sampler, lattice(2, 2)) for sampler in samplers)
    torch.testing.assert_close(best.images, base.images, rtol=0, atol=0)
    assert base.ledger.queries == {"a": 0, "b": 0}
    assert (base.ledger.nfe, base.ledger.decodes) == (STEPS, 1)
    with pytest.raises(ValueError, match="pool is 0: give at least 1"):
        BestOfN(pool=0)


def test_hot_draws_take_the_same_picture_for_all_and_a_large_penalty_the_unsteered_one() -> None:
    options, preferences = {"num_inference_steps": STEPS, "pool": POOL}, lattice(2, 3)
    hot, near = (run(BestOfN(**options, **more), preferences) for more in ({"temperature": 1e9}, {"penalty": 1e9}))
    pool = pool_by_hand(BestOfN(**options))
    drawn = int(NoiseSource("a lobster", 0, SHAPE).uniform(POOL, "choice").argmax())
    for soup, member in ((hot, drawn), (near, 0)):
        torch.testing.assert_close(soup.images, pool[member].expand_as(soup.images))
