"""Particle methods: several trajectories of one prompt, resampled by the rewards of their previews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import OnePreference, Prefix
from srsoup_lightning.samplers.result import OnStep
from srsoup_lightning.samplers.walk import draw, walk
from srsoup_lightning.search.resampling import resample
from srsoup_lightning.search.scalarise import Value


@dataclass(frozen=True, kw_only=True)
class FKSteering(OnePreference):
    """Feynman-Kac steering (Singhal et al. 2025, arXiv:2501.06848) with the potential MAX.

    K particles are scored at R steps and resampled after each, by weights ``exp(lambda max r)``. Here r is the value of
    a particle's previews so far, in standard deviations of the first ones. The best particle is returned. Preferences
    share the steps up to the first scores. Queries: ``K M`` for these, and for each preference ``K (R - 1)`` of each
    reward with weight. Network evaluations: those of K samples for each preference, less the shared steps. Errors
    are those of :class:`OnePreference`.

    Args:
        particles: Number K of particles, at least 2.
        inverse_temperature: lambda, at least 0.
        scorings: Number R of steps whose previews are scored, at least 1. They are spread evenly up to the last step.
    """

    particles: int = at_least(2, default=4)
    inverse_temperature: float = at_least(0, default=10.0)
    scorings: int = at_least(1, default=5)

    needs_noise: ClassVar[bool] = True

    def _scored(self, steps: int) -> list[int]:
        return sorted({max(round(steps * k / self.scorings) - 1, 0) for k in range(1, self.scorings + 1)})

    def prefix_steps(self, steps: int) -> int:
        """See :meth:`OnePreference.prefix_steps`. The last one is the first step that is scored."""
        return self._scored(steps)[0] + 1

    def prefix(self, problem: Problem, noise: NoiseSource, on_step: OnStep) -> Prefix:
        """See :meth:`OnePreference.prefix`."""
        done, members, rewards = self.prefix_steps(problem.kernel.steps), range(self.particles), []

        def step(x: Tensor, index: int) -> tuple[Tensor, None]:
            prediction = problem.denoise(x, index)
            rewards.extend([problem.query(prediction.x0, index)] if index == done - 1 else [])
            return draw(problem, x, index, prediction, noise, members), None

        start = torch.stack([noise.start(member) for member in members])
        return Prefix(done, walk(problem, start, step, on_step, last=done), rewards[0])

    def search(self, problem: Problem, value: Value, noise: NoiseSource, prefix: Prefix, on_step: OnStep) -> Tensor:
        """See :meth:`OnePreference.search`."""
        value, scored, count = value.in_units_of(prefix.rewards), self._scored(problem.kernel.steps), self.particles
        values = highest = value(prefix.rewards)

        def step(x: Tensor, index: int) -> tuple[Tensor, None]:
            nonlocal values, highest
            if index - 1 in scored:
                ancestors = resample(self.inverse_temperature * highest, noise.uniform(count, "resample", index))
                x, highest = x[ancestors], highest[ancestors]
            prediction = problem.denoise(x, index)
            if index in scored:
                values = value(problem.query(prediction.x0, index, (value.weights > 0).expand(count, -1)))
                highest = torch.maximum(highest, values)
            return draw(problem, x, index, prediction, noise, range(count)), None

        x = walk(problem, prefix.x, step, on_step, prefix.step)  # its last step is scored: `values` are final
        return x[values.argmax()].unsqueeze(0)
