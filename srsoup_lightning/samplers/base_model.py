"""The model as it is: the floor of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.preferences import Preferences
from srsoup_lightning.samplers.base import Listener, Moment, Sampler
from srsoup_lightning.samplers.problem import Problem
from srsoup_lightning.search.noise import NoiseSource


@dataclass(frozen=True, kw_only=True)
class BaseModel(Sampler):
    """One unsteered picture, the same for every preference; no queries."""

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, listener: Listener) -> Tensor:
        """See :meth:`Sampler.sample`."""
        latents = unsteered(problem, noise, [0], listener)
        return latents.expand(len(preferences), *problem.shape)


def unsteered(
    problem: Problem, noise: NoiseSource, members: Sequence[int], listener: Listener, until: int | None = None
) -> Tensor:
    """Plain samples of the model, each member with random numbers of its own: latents (len(members), C, H, W).

    Args:
        problem: Who denoises.
        noise: All random numbers.
        members: Which of them.
        listener: Told after every step.
        until: The level to stop at; None goes on to the clean latents.
    """
    kernel = problem.kernel
    x = torch.stack([noise.start(member) for member in members])
    for step in range(kernel.steps if until is None else until):
        x, sigma = kernel.transition(step, x, problem.predict(x, step))
        if sigma > 0:
            x = x + sigma * torch.stack([noise.step(step, member) for member in members])
        listener(Moment(step + 1, kernel.steps, problem.ledger))
    return x
