"""The model as it is: the floor of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import Moment, OnStep


@dataclass(frozen=True, kw_only=True)
class BaseModel(Sampler):
    """One unsteered picture, the same for every preference; no queries."""

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        latents = unsteered(problem, noise, [0], on_step)
        return latents.expand(len(preferences), *problem.shape)


def unsteered(
    problem: Problem, noise: NoiseSource, members: Sequence[int], on_step: OnStep, until: int | None = None
) -> Tensor:
    """Plain samples of the model, each member with random numbers of its own: latents (len(members), C, H, W).

    Args:
        problem: Who denoises.
        noise: All random numbers.
        members: Which of them.
        on_step: Told after every step.
        until: The level to stop at; None goes on to the clean latents.
    """
    kernel = problem.kernel
    x = torch.stack([noise.start(member) for member in members])
    for step in range(kernel.steps if until is None else until):
        x, sigma = kernel.transition(step, x, problem.denoise(x, step))
        if sigma > 0:
            x = x + sigma * torch.stack([noise.step(step, member) for member in members])
        on_step(Moment(step + 1, kernel.steps, problem.ledger))
    return x
