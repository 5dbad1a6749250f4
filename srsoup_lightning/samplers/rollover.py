"""Rollover budget forcing: an improvement ends the search of a step, and what it saved goes to later steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.process import at_least
from srsoup_lightning.diffusion.transition import Prediction, Transition
from srsoup_lightning.samplers.result import Measures, OnStep
from srsoup_lightning.samplers.scalarised import Evaluator, Scalarised, take
from srsoup_lightning.samplers.walk import walk


@dataclass(frozen=True, kw_only=True)
class RBF(Scalarised):
    """Rollover budget forcing (Kim et al. 2025, arXiv:2503.19385), a hard budget of previews for each preference.

    The best of a pool of starts, by its preview, is the beginning. Each step with noise is allowed the same share of
    the rest of the budget, and what earlier steps left. It tries one child at a time. The first one that is better than
    the best preview up to now is taken at once. If none is, the step takes its best child, and the best value stays as
    it is. The last step with noise spends all that is left and takes its best child.

    Costs for one preference are exact: ``budget`` queries of each reward with weight, and ``budget + (c - 1) initial``
    predictions where the last step is without noise. Preferences share the pool and every child of a latent that they
    have in common.

    The paper turns a flow into a variance-preserving process. Its steps are those of ``loading.transition: ancestral``
    at eta 1, up to the scale of the latents. Diffusion models are such processes already.

    Args:
        budget: Number of previews for each preference, at least ``initial`` and one for each step.
        initial: Number of starts in the pool, at least 2.
        completion: Number c of network evaluations, at least 1, that complete a start of the pool, and no more than T.
            The paper has 1, the preview. A flow starts without signal, where ideal previews of all starts are alike. So
            they tell neither which start is good nor what the units of the rewards are.

    Raises:
        ValueError: A number is outside its range, eta is 0, or the scalarisation is "ranks", which doesn't compare
            previews of different steps.
    """

    budget: int = 500
    initial: int = at_least(2, default=25)
    completion: int = at_least(1, default=2)

    needs_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.initial + self.num_inference_steps
        if self.budget < least:
            raise ValueError(f"budget is {self.budget}: give at least {least}, the initial pool and one for each step")
        if self.scalarisation == "ranks":
            raise ValueError("scalarisation is ranks: RBF compares previews of different steps, give another one")

    def search(self, evaluator: Evaluator, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Scalarised.search`."""
        problem, kernel = evaluator.problem, evaluator.problem.kernel
        searched = [step for step in range(kernel.steps) if kernel.sigma(step) > 0]
        pool = torch.stack([noise.start(member) for member in range(self.initial)])
        pool = pool.expand(len(evaluator), *pool.shape)
        values, _, found = evaluator.preview(pool, 0, self.completion)
        best, chosen = values.max(1, keepdim=True)
        start, *parts = (take(part, chosen)[:, 0] for part in (pool, *found))
        prediction: Prediction | None = Prediction(*parts)
        best, spent = best[:, 0], torch.zeros_like(chosen[:, 0])

        def step(x: Tensor, index: int) -> tuple[Tensor, Measures | None]:
            nonlocal prediction, best, spent
            prediction = evaluator.denoise(x, index) if prediction is None else prediction
            transition = kernel.transition(index, x, prediction)
            if transition.sigma == 0:
                prediction = None
                return transition.mean, None
            done = searched.index(index) + 1
            quota = (self.budget - self.initial) * done // len(searched) - spent
            target = best if done < len(searched) else torch.full_like(best, torch.inf)
            x, prediction, value, tried = _first_better(evaluator, transition, index, noise, target, quota)
            best, spent = best.maximum(value), spent + tried
            return x, evaluator.measures({"best value": best, "value": value, "candidates": tried})

        return walk(problem, start, step, on_step)


def _first_better(
    evaluator: Evaluator, transition: Transition, step: int, noise: NoiseSource, target: Tensor, quota: Tensor
) -> tuple[Tensor, Prediction, Tensor, Tensor]:
    """Try children of each preference one by one, until one is better than its target or its quota is used up.

    All preferences that still search are served together.

    Args:
        evaluator: Value to the preferences.
        transition: Transition of the step, with means (P, C, H, W).
        step: Index of the step.
        noise: Source of all random numbers.
        target: Value to exceed, (P,).
        quota: Number of children, at least 1, (P,).

    Returns:
        The best child (P, C, H, W), the prediction at it, its value (P,), and how many were tried (P,).
    """
    mean, sigma = transition
    x, found = mean.clone(), Prediction(mean.clone(), mean.clone())
    value, tried = torch.full_like(target, -torch.inf), torch.zeros_like(quota)
    number, active = 0, quota > 0
    while active.any():
        rows = active.nonzero()[:, 0]
        children = (mean[rows] + sigma * noise.step(step, number)).unsqueeze(1)
        values, _, previews = evaluator.only(rows).preview(children, step + 1)
        better = values[:, 0] > value[rows]
        kept = rows[better]
        for part, new in ((x, children), (found.x0, previews.x0), (found.noise, previews.noise)):
            part[kept] = new[better, 0]
        value[kept] = values[better, 0]
        tried[rows], number = number + 1, number + 1
        active = active & (value <= target) & (tried < quota)
    return x, found, value, tried
