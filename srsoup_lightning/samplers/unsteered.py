"""The base model without steering: the floor of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import OnStep
from srsoup_lightning.samplers.walk import unsteered


@dataclass(frozen=True, kw_only=True)
class BaseModel(Sampler):
    """One unsteered picture, the same for every preference. It asks no queries.

    Where adapters make the model depend on the preference, this is the method that shows what they have learned: each
    preference has a picture of its own, from the same random numbers.
    """

    serves_rows: ClassVar[bool] = True

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        if problem.denoiser.adapters is not None:
            weights = preferences.weights.to(problem.device)
            return unsteered(problem, noise, [0] * len(weights), on_step, preferences=weights)
        latents = unsteered(problem, noise, [0], on_step)
        return latents.expand(len(preferences), *problem.shape)
