"""Gradients of rewards through the networks of real families, against central differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers import Evaluator, Value
from srsoup_lightning.samplers.gradients import differentiate
from srsoup_lightning.samplers.unrolled import Unrolled, noises_of
from srsoup_lightning.search.noise_likelihood import norm_penalty
from srsoup_lightning.search.scalarise import Units
from tests.diffusion.drawing import PROMPT, SEED, WAYS, bound, shared
from tests.samplers.toys import oracle

LEVEL, STEP = 2, 1e-2
REWARDS = {"a": lambda images: 10 * images.square().mean((1, 2, 3)), "b": lambda images: 10 * images[:, 0].std((1, 2))}
every_kind = pytest.mark.parametrize("family", ["SD", "SD 3", "FLUX.1 dev"])  # U-Net, and two transformers of flows


def problem_of(family: str) -> Problem:
    return Problem(bound(shared(family), WAYS[family]), oracle(REWARDS), 4)


def require_slope(value: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> None:
    """Compare gradients (B, ...) with central differences of values (B,), along a direction that rises."""
    size = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    direction = size * gradient.sign()
    up, down = (value(x + sign * STEP * direction).double() for sign in (1, -1))
    slope = (gradient * direction).flatten(1).sum(1).double()
    assert slope.min() > 1e-3
    torch.testing.assert_close((up - down) / (2 * STEP), slope, rtol=0.03, atol=0)


@every_kind
@pytest.mark.parametrize("through_network", [True, False])
def test_gradients_of_previews_are_central_differences(family: str, through_network: bool) -> None:
    problem = problem_of(family)
    x = NoiseSource(PROMPT, SEED, problem.shape).normal(2, "a test")
    asked = torch.tensor([[True, True], [False, True]])
    found = differentiate(problem, "a test", x, LEVEL, asked, through_network=through_network, checkpointing=True)
    for column in range(2):

        def reward(x: Tensor, column: int = column) -> Tensor:
            return problem.query(problem.denoise(x, LEVEL).x0 if through_network else x, LEVEL)[:, column]

        rows = asked[:, column]
        require_slope(reward, x[rows], found.gradients[rows, column])
    assert not found.gradients[1, 0].any()


@every_kind
def test_gradients_of_a_whole_trajectory_are_central_differences(family: str) -> None:
    problem, noise = problem_of(family), NoiseSource(PROMPT, SEED, problem_of(family).shape)
    evaluator = Evaluator(problem, Value(torch.tensor([[0.5, 0.5]]), units=Units(torch.zeros(2), torch.ones(2))))
    unrolled = Unrolled(evaluator, noise, "a test", checkpointing=True)
    noises = noises_of(problem, noise, every_step=True).unsqueeze(0)

    def penalty(noises: Tensor, predicted: Tensor) -> Tensor:
        return 0.01 * norm_penalty(noises)

    def value(noises: Tensor) -> Tensor:
        found = unrolled.pictures(noises, penalty)
        return evaluator.value(found.rewards.unsqueeze(1))[:, 0] - found.penalties

    made = unrolled.ascents(noises, penalty)
    require_slope(value, noises, made.ascent)
