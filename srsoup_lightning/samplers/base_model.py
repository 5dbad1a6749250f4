"""The model as it is: the floor of every comparison."""

from __future__ import annotations

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


def unsteered(problem: Problem, noise: NoiseSource, members: list[int], listener: Listener) -> Tensor:
    """Plain samples of the model, (len(members), C, H, W) clean latents, each member with random numbers of its own."""
    kernel = problem.kernel
    x = torch.stack([noise.start(member) for member in members])
    for step in range(kernel.steps):
        x, sigma = kernel.transition(step, x, problem.predict(x, step))
        if sigma > 0:
            x = x + sigma * torch.stack([noise.step(step, member) for member in members])
        listener(Moment(step + 1, kernel.steps, problem.ledger))
    return x
