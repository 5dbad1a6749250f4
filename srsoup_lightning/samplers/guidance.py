"""Guidance by the gradient of differentiable rewards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import OnStep, shifted
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised
from srsoup_lightning.samplers.walk import walk


@dataclass(frozen=True, kw_only=True)
class DSG(Scalarised):
    """Guidance with a spherical Gaussian constraint (Yang et al. 2024, arXiv:2402.03201).

    The gradient g of the rewards of the preview points to the best point ``sqrt(d) sigma g / |g|`` on the sphere of
    typical noise. The step goes to a point between it and the random one ``sigma z``, projected on the sphere. Each
    reward's gradient is scaled to a root mean square of 1 and weighted. Each guided step of a preference takes one
    query and one gradient for each reward with weight.

    Args:
        rate: Share of the way from the random point to the best one, in [0, 1].
        interval: Only every so many steps are guided, at least 1.

    Raises:
        ValueError: An argument is outside its range, eta is 0, the scalarisation is not linear, or a penalty is given.
    """

    rate: float = at_least(0, default=0.1)
    interval: int = at_least(1, default=1)

    needs_noise: ClassVar[bool] = True
    cost_varies: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate > 1 or self.scalarisation != "linear":
            raise ValueError(f"rate {self.rate}, scalarisation {self.scalarisation}: give a rate in [0, 1], and linear")
        if self.penalty or self.units:
            raise ValueError(
                "DSG scales each gradient by itself and penalises no distance: leave out units and penalty"
            )

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, count, steps = evaluator.problem, len(evaluator), evaluator.problem.kernel.steps

        def guide(weights: Tensor, report: OnStep) -> Tensor:
            def step(x: Tensor, index: int) -> tuple[Tensor, None]:
                guided = problem.kernel.sigma(index) > 0 and index % self.interval == 0
                prediction, gradient = (
                    self._gradient(problem, weights, x, index) if guided else (problem.denoise(x, index), x)
                )
                mean, sigma = problem.kernel.transition(index, x, prediction)
                drawn = sigma * noise.step(index).unsqueeze(0)
                if not guided or not gradient.any():
                    return mean + drawn, None
                radius = gradient.numel() ** 0.5 * sigma
                mixed = drawn + self.rate * (radius * gradient / gradient.norm() - drawn)
                return mean + radius * mixed / mixed.norm(), None

            return walk(problem, noise.start().unsqueeze(0), step, report)

        reports = [shifted(on_step, number * steps, count * steps) for number in range(count)]
        return torch.cat([guide(*each) for each in zip(evaluator.value.weights, reports, strict=True)])

    def _gradient(self, problem: Problem, weights: Tensor, x: Tensor, index: int) -> tuple[Prediction, Tensor]:
        """Prediction at x (1, C, H, W), and the weighted sum (1, C, H, W) of the rewards' scaled gradients."""
        names = [name for name, weight in zip(problem.rewards, weights.tolist(), strict=True) if weight > 0]
        total = torch.zeros_like(x)
        with problem.graph("DSG", names):
            x = problem.variable(x)
            prediction = problem.denoise(x, index)
            rewards = problem.rewards_of(prediction.x0, index, names)
            for column, weight in enumerate(weights[weights > 0]):
                gradient = problem.gradient(rewards[:, column], x, retain_graph=column < len(names) - 1)
                total = total + weight * gradient / gradient.square().mean().sqrt().clamp_min(1e-12)
        return Prediction(prediction.x0.detach(), prediction.noise.detach()), total
