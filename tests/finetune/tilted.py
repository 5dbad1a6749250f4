"""Two Gaussians whose odds are the only trained weight, and a fit of them without a Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from srsoup_lightning.costs.meter import Meter
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.transition import Kernel, Prediction
from srsoup_lightning.finetune import Objective, Training
from srsoup_lightning.finetune.finetuning import Finetuning
from srsoup_lightning.finetune.policy import Policy
from srsoup_lightning.problem import Problem
from tests.mixture import GaussianMixture
from tests.samplers.toys import oracle

SHAPE, APART = (3, 2, 2), 1.0


def brightness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


class Tilted(Policy, GaussianMixture):
    """A dark and a bright Gaussian. The base model draws them alike."""

    def __init__(self, odds: float = 0.0, spread: float = 0.8) -> None:
        GaussianMixture.__init__(self, torch.stack([torch.full(SHAPE, -APART), torch.full(SHAPE, APART)]), spread)
        self.odds, self.scale = nn.Parameter(torch.tensor(odds)), 1.0

    @property
    def weights(self) -> Tensor:
        return (self.scale * torch.stack([-self.odds, self.odds]) / 2).softmax(0)

    @weights.setter
    def weights(self, given: Tensor) -> None:
        pass

    @contextmanager
    def reference(self) -> Iterator[None]:
        self.scale = 0.0
        yield
        self.scale = 1.0


def tuning(
    objective: Objective,
    policy: Tilted,
    reward: Callable[[Tensor], Tensor] = brightness,
    change: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
) -> Finetuning:
    judge = oracle({"bright": reward})

    def problem_of(prompt: str, meter: Meter) -> Problem:
        return Problem(change(policy.bind(objective.num_inference_steps, objective.eta)), judge, 64, prompt, meter)

    return Finetuning(Training(objective=objective), policy, problem_of, torch.tensor([1.0]))


def train(objective: Objective, policy: Tilted, rounds: int, rate: float, prompts: list[str]) -> list[dict[str, float]]:
    """Train the odds, one optimizer step a round; return the mean logs of each round."""
    fit, optimizer, history = tuning(objective, policy), torch.optim.Adam([policy.odds], lr=rate), []
    for _ in range(rounds):
        fit.collect(prompts)
        for batch in fit.order():
            (fit.loss(batch).value / fit.batches).backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append(fit.end_round())
    return history


def with_kernel(denoiser: Denoiser, kernel: Kernel) -> Denoiser:
    """A denoiser with other transitions, whose guidance takes a second evaluation. Rescheduling keeps them."""

    def denoise(x: Tensor, level: int) -> Prediction:
        x0, (signal, noise) = denoiser.denoise(x, level).x0, kernel.shares(level)
        return Prediction(x0, (x - signal * x0) / noise)

    changed = replace(denoiser, kernel=kernel, denoise=denoise, denoise_unguided=denoise, evaluations=2)
    return replace(changed, reschedule=lambda steps, eta: changed)
