"""Best of N: one pool of samples, of which each preference takes the best one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import OnStep, shifted
from srsoup_lightning.samplers.walk import unsteered
from srsoup_lightning.search.scalarise import best_index


@dataclass(frozen=True, kw_only=True)
class BestOfN(Sampler):
    """One pool of unsteered pictures serves all preferences, for ``pool * M`` queries whatever their number.

    A preference takes the picture with the highest weighted sum of rewards, each standardised over the pool. Ma et al.
    2025, arXiv:2501.09732, call it random search.

    Args:
        pool: Number of pictures, at least 1.

    Raises:
        ValueError: A number is outside its range.
    """

    pool: int = at_least(1, default=96)

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        pool, rewards = [], []
        steps = problem.kernel.steps
        chunks = torch.arange(self.pool).split(problem.batch.rows)
        for done, members in enumerate(chunks):
            report = shifted(on_step, done * steps, len(chunks) * steps)
            latents = unsteered(problem, noise, members.tolist(), report)
            pool.append(latents)
            rewards.append(problem.query(latents, steps))
        return torch.cat(pool)[best_index(torch.cat(rewards), preferences.weights.to(problem.device))]
