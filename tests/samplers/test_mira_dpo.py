"""MIRA-DPO against closed forms: for one Gaussian, the noise that is predicted on the way is linear in the noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import MIRADPO, BaseModel, Evaluator, Value
from srsoup_lightning.samplers.noise_search import neighbours_of
from srsoup_lightning.samplers.unrolled import Unrolled, noises_of
from srsoup_lightning.search.scalarise import Units
from tests.mixture import GaussianMixture
from tests.samplers.toys import SHAPE, bind, lattice, linears, normal, oracle, run

STEPS, D, SPREAD = 3, math.prod(SHAPE), 0.3
ONE, SMALL = Preferences(["a"], [[1.0]]), {"num_inference_steps": STEPS, "checkpointing": False}
UNITS = {"a": [0.0, 1.0]}


def response(alphas: tuple[float, ...], sigmas: list[float]) -> Tensor:
    """Slopes (T, n) of the noise that is predicted at each step with respect to the noise of start and steps."""
    x, rows = torch.eye(1 + sum(sigma > 0 for sigma in sigmas)), []
    at, *fresh = x
    for alpha, there, sigma in zip(alphas, alphas[1:], sigmas, strict=False):
        shrunk = alpha**0.5 * SPREAD**2 / (alpha * SPREAD**2 + 1 - alpha)  # slope of the posterior mean
        rows.append((1 - alpha**0.5 * shrunk) / (1 - alpha) ** 0.5 * at)
        at = there**0.5 * shrunk * at + max(1 - there - sigma**2, 0.0) ** 0.5 * rows[-1]
        at = at + sigma * (fresh.pop(0) if sigma > 0 else 0.0)
    return torch.stack(rows)


@pytest.mark.parametrize(("match", "count"), [("extremes", 2), ("mirrored", 5), ("all", 3)])
def test_the_gradient_is_that_of_the_logistic_loss_of_linear_margins(match: str, count: int) -> None:
    """Its part of a pair leads from the loser to the winner, weaker where the noise prefers the winner already."""
    beta, weights = 300.0, torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    denoiser, noise = GaussianMixture(0.1 * normal(1, *SHAPE), SPREAD).bind(STEPS, 1.0), NoiseSource("a", 0, SHAPE)
    problem = Problem(denoiser, oracle(linears(2)), 1)
    evaluator = Evaluator(problem, Value(weights, units=Units(torch.zeros(2), torch.ones(2))))
    sampler = MIRADPO(candidates=count, match=match, beta=beta, iterations=2, **SMALL)
    first = noises_of(problem, noise, True)
    noises = first + 0.3 * normal(2, *first.shape, seed=3)
    found = sampler.begin(evaluator, noise, first)(noises, 0)

    slopes = response(denoiser.kernel.alphas, [denoiser.kernel.sigma(step) for step in range(STEPS)])
    random = noise.normal(count * len(first), "candidates", 0).view(count, *first.shape)
    unrolled = Unrolled(evaluator, noise, "a test", False)
    for row, z in enumerate(noises):
        around = neighbours_of(z, random, sampler.cosine)
        values = (problem.query(unrolled.draw(around)[0], STEPS) @ weights[row]).tolist()
        order = sorted(range(count), key=values.__getitem__, reverse=True)
        pairs = {
            "extremes": [(order[0], order[-1])],
            "mirrored": [(order[0], order[-1]), (order[1], order[-2])],
            "all": [(order[i], order[j]) for i in range(count) for j in range(i + 1, count)],
        }[match]
        expected = torch.zeros_like(z)
        for winner, loser in pairs:
            apart = torch.einsum("tn,n...->t...", slopes, around[winner] - around[loser])
            moved = torch.einsum("tn,n...->t...", slopes, z - first)
            margin = beta * float((moved * apart).mean())
            pull = beta / (STEPS * D) * torch.einsum("tn,t...->n...", slopes, apart)
            assert (pull * (around[winner] - around[loser])).sum() > 0
            expected += pull / (1 + math.exp(margin)) / len(pairs)
        torch.testing.assert_close(found.ascent[row], expected, rtol=1e-3, atol=1e-5)
        own = problem.query(unrolled.draw(z.unsqueeze(0))[0], STEPS) @ weights[row]
        torch.testing.assert_close(float(found.values[row]), max(float(own), *values))


def test_candidates_of_equal_value_move_nothing() -> None:
    seen = []
    soup = run(
        MIRADPO(iterations=3, rate=0.2, **SMALL),
        ONE,
        {"a": lambda images: images.sum((1, 2, 3)) * 0},
        on_step=seen.append,
    )
    assert torch.equal(soup.images, run(BaseModel(num_inference_steps=STEPS), ONE).images)
    sizes = [float(moment.observation.values["mean square of the noise"]) for moment in seen]
    assert sizes == sizes[:1] * 3


def test_the_noise_itself_gets_better_and_the_bill_is_the_formula() -> None:
    """Of rewards without gradients. Both preferences share the first candidates, and nothing later."""
    sampler = MIRADPO(iterations=20, candidates=8, rate=0.1, units=UNITS, **SMALL)
    denoiser, asking, gains = bind(sampler), oracle(linears(1)), []
    asking.rewards["a"].is_differentiable = False
    for seed in range(4):
        seen = []
        soup = sampler.run(Problem(denoiser, asking, 64), ONE, "a lobster", seed, seen.append)
        base = run(BaseModel(num_inference_steps=STEPS), ONE, denoiser=denoiser, seed=seed)
        last = seen[-1].observation.values
        gains.append(float(last["value"] - base.rewards))
        assert float(soup.rewards) == pytest.approx(float(last["best"]), abs=1e-5)
        pictures = 1 + 19 * 9
        assert (soup.ledger.queries, soup.ledger.nfe) == ({"a": pictures}, (pictures + 1) * STEPS)
        assert soup.ledger.gradients == 19 * STEPS
    assert min(gains) > 0.2
    both = run(MIRADPO(iterations=2, candidates=4, **SMALL), lattice(2, 1), denoiser=denoiser).ledger
    assert (both.queries, both.nfe) == ({"a": 4 + 1 + 1, "b": 4 + 1 + 1}, (1 + 4 + 2 + 2) * STEPS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 1}, "candidates is 1: give at least 2"),
        ({"cosine": 1.0}, r"cosine is 1.0: give a number in \[0, 1\)"),
        ({"beta": 0.0}, "beta is 0.0: give a number above 0"),
        ({"match": "best"}, "match is 'best'"),
        ({"scalarisation": "ranks"}, "MIRADPO compares pictures of different iterations"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MIRADPO(**options)
