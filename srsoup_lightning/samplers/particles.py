"""Particle methods: several trajectories of one prompt, resampled by the rewards of their previews."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import OnePreference, Prefix
from srsoup_lightning.samplers.result import OnStep
from srsoup_lightning.samplers.walk import draw, walk
from srsoup_lightning.search.resampling import resample
from srsoup_lightning.search.scalarise import Value


@dataclass(frozen=True, kw_only=True)
class FKSteering(OnePreference):
    """Feynman-Kac steering: score K particles at R steps, resample them after each, and return the best one.

    Singhal et al. 2025, arXiv:2501.06848, with the potential MAX: the weights are ``exp(lambda max r)``, where r is the
    value of a particle's previews so far, in standard deviations of the first previews of all particles. All
    preferences share the steps up to these. Queries are ``K M`` for them, and for each preference ``K (R - 1)`` of each
    reward with weight. Network evaluations are those of K samples for each preference, less the shared ones.

    Args:
        particles: Number K of particles, at least 2.
        inverse_temperature: lambda, at least 0.
        scorings: Number R of steps whose previews are scored, at least 1. They are spread evenly up to the last one.

    Raises:
        ValueError: An argument is outside its range, or eta is 0, so that copies of a particle would stay identical.
    """

    particles: int = 4
    inverse_temperature: float = 10.0
    scorings: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.particles < 2 or self.inverse_temperature < 0 or self.scorings < 1 or self.eta == 0:
            raise ValueError(f"{self}: give particles from 2, inverse_temperature from 0, scorings from 1, eta above 0")

    def prefix_steps(self, steps: int) -> int:
        """See :meth:`OnePreference.prefix_steps`. The last of these steps is the first that is scored."""
        return self._scored(steps)[0] + 1

    def prefix(self, problem: Problem, noise: NoiseSource, on_step: OnStep) -> Prefix:
        """See :meth:`OnePreference.prefix`."""
        done, rewards = self.prefix_steps(problem.kernel.steps), torch.empty(0)

        def step(x: Tensor, index: int) -> tuple[Tensor, None]:
            nonlocal rewards
            prediction = problem.denoise(x, index)
            if index == done - 1:
                rewards = problem.query(prediction.x0, index)
            return draw(problem, x, index, prediction, noise, range(self.particles)), None

        start = torch.stack([noise.start(member) for member in range(self.particles)])
        return Prefix(done, walk(problem, start, step, on_step, last=done), rewards)

    def search(self, problem: Problem, value: Value, noise: NoiseSource, prefix: Prefix, on_step: OnStep) -> Tensor:
        """See :meth:`OnePreference.search`."""
        value, scored, particles = value.in_units_of(prefix.rewards), self._scored(problem.kernel.steps), self.particles
        values = highest = value(prefix.rewards)

        def step(x: Tensor, index: int) -> tuple[Tensor, None]:
            nonlocal values, highest
            if index - 1 in scored:
                weights, uniform = self.inverse_temperature * highest, noise.uniform(particles, "resample", index)
                ancestors = resample(weights, uniform)
                x, highest = x[ancestors], highest[ancestors]
            prediction = problem.denoise(x, index)
            if index in scored:
                values = value(problem.query(prediction.x0, index, (value.weights > 0).expand(particles, -1)))
                highest = torch.maximum(highest, values)
            return draw(problem, x, index, prediction, noise, range(particles)), None

        x = walk(problem, prefix.x, step, on_step, prefix.step)
        return x[values.argmax()].unsqueeze(0)  # the last step is scored, so these are values of finished particles

    def _scored(self, steps: int) -> list[int]:
        return sorted({max(round(steps * k / self.scorings) - 1, 0) for k in range(1, self.scorings + 1)})
