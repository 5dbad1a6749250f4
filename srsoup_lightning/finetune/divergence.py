"""Distance that fine-tuning has gone: the divergence of the tuned model's trajectories from those of the base model."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.finetune.formulas import mean_deviation
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.walk import draw, walk


def divergence_from_base(problem: Problem, policy: Policy, seed: int) -> float | None:
    """Return the Kullback-Leibler divergence of the tuned model from the base model along one trajectory.

    The tuned model draws the trajectory, with the random numbers of an unsteered picture of that seed. At each step
    that draws noise, ``|mu - mu_base|^2 / (2 d sigma^2)`` compares the means of both models from the same latent. The
    steps are added up. So this is one sample of the divergence of the trajectories, divided by the number d of the
    numbers in a latent. It costs two evaluations at each such step and one at the others.

    Args:
        problem: Denoising process.
        policy: Model that is tuned.
        seed: Seed of the trajectory.

    Returns:
        The divergence, at least 0. None if no step draws noise: then it is not defined.
    """
    noise = NoiseSource(problem.prompt, seed, problem.shape, problem.device)
    kernel, found = problem.kernel, list[Tensor]()

    def step(x: Tensor, index: int) -> tuple[Tensor, None]:
        prediction, sigma = problem.denoise(x, index), kernel.sigma(index)
        if sigma:
            with policy.reference():
                base = problem.denoise(x, index)
            found.append(mean_deviation(kernel.mean(index, x, prediction), kernel.mean(index, x, base), sigma))
        return draw(problem, x, index, prediction, noise, [0]), None

    walk(problem, noise.start().unsqueeze(0), step, lambda _: None)
    return float(torch.cat(found).sum()) if found else None
