"""Best of N: draw a pool, keep for every preference the picture it likes best. The honest rival at many preferences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.result import Moment, OnStep
from srsoup_lightning.samplers.unsteered import unsteered
from srsoup_lightning.search.selection import choose


@dataclass(frozen=True, kw_only=True)
class BestOfN(Sampler):
    """One pool of unsteered pictures serves all preferences: pool * M queries, however many there are.

    A preference takes the picture with the highest weighted sum of rewards, each standardised over the pool. Called
    random search by Ma et al. 2025, arXiv:2501.09732.

    Args:
        pool: How many pictures are drawn, at least 1.

    Raises:
        ValueError: A number outside its range.
    """

    pool: int = 96

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool < 1:
            raise ValueError(f"pool is {self.pool}: give at least 1")

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        pool, scores = [], []
        steps = problem.kernel.steps
        chunks = torch.arange(self.pool).split(self.max_batch)
        for done, members in enumerate(chunks):

            def report(moment: Moment, done: int = done) -> None:
                on_step(Moment(done * steps + moment.step, len(chunks) * steps, problem.ledger))

            latents = unsteered(problem, noise, members.tolist(), report)
            pool.append(latents)
            scores.append(problem.judge(latents, steps))
        rewards = torch.cat(scores)
        return torch.cat(pool)[choose(rewards, preferences.weights.to(problem.device))]
