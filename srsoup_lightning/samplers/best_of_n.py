"""Best of N: one pool of samples, of which each preference takes the best one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.samplers.result import OnStep, shifted
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.samplers.walk import unsteered
from srsoup_lightning.search.resampling import soft_choice


@dataclass(frozen=True, kw_only=True)
class BestOfN(Scalarised):
    """One pool of unsteered pictures serves all preferences, for ``pool * M`` queries whatever their number.

    A preference takes the picture with the highest value. Where no units are given, they are those of the pool. Network
    evaluations: ``pool * T`` predictions. Ma et al. 2025, arXiv:2501.09732, call it random search.

    Args:
        pool: Number of pictures, at least 1.
        temperature: At least 0, in units of the value. Above 0, a picture is drawn with a probability in proportion to
            ``exp(value / temperature)``. All preferences draw with the same random numbers. 0 takes the best picture.

    Raises:
        ValueError: A number is outside its range.
    """

    cost_varies: ClassVar[bool] = False

    pool: int = at_least(1, default=96)
    temperature: float = at_least(0, default=0.0)

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, pool = evaluator.problem, []
        steps = problem.kernel.steps
        chunks = torch.arange(self.pool).split(problem.batch.rows)
        for done, members in enumerate(chunks):
            report = shifted(on_step, done * steps, len(chunks) * steps)
            pool.append(unsteered(problem, noise, members.tolist(), report))
        clean = torch.cat(pool)
        rewards = evaluator.ask(clean, steps)
        values = evaluator.values(rewards.unsqueeze(0), clean.unsqueeze(0), steps)
        return clean[soft_choice(values, self.temperature, noise.uniform(self.pool, "choice"))]
