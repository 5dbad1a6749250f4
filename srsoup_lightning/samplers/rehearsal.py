"""Rehearsal of a soup: the sampler itself runs on a stand-in for the model, so that costs are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from math import cos, pi
from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.costs.limits import budget_of
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.diffusion.transition import DDIM, Kernel, Prediction
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler

SHAPE = (3, 4, 4)  # of the stand-in's latents, which are larger for a method that needs it


def count(
    sampler: Sampler,
    preferences: Preferences,
    *,
    model: Denoiser | None = None,
    seed: int = 0,
    differentiable: Collection[str] | None = None,
) -> Ledger:
    """Count the costs of a soup without a model; see :func:`rehearse`."""
    return rehearse(sampler, preferences, model=model, seed=seed, differentiable=differentiable)[0]


def rehearse(
    sampler: Sampler,
    preferences: Preferences,
    *,
    model: Denoiser | None = None,
    seed: int = 0,
    differentiable: Collection[str] | None = None,
) -> tuple[Ledger, dict[str, float]]:
    """Count the costs of a soup, and the images that it sends to rewards, by the names of budgets.

    Final images are included in the latter. The counts are exact where the sharing policy depends on nothing but steps
    and preferences. Where it depends on latents, those of the stand-in take the place of the model's, and another
    `seed` gives other counts. Where the cost of a method varies, the counts are those of all preferences apart, which
    it can't exceed.

    Args:
        sampler: Method.
        preferences: Preferences to make pictures for.
        model: Denoising process of a prompt, for its transitions and for the costs of a prediction. None searches every
            step, which is one more than schedules have whose last step is without noise. It takes two evaluations for a
            guided prediction, which is one more than distilled models take.
        seed: Seed of the stand-in's rewards.
        differentiable: Names of the rewards that have gradients. None is all.
    """
    shape = (SHAPE[0], *(max(side, sampler.least_side) for side in SHAPE[1:]))
    if model is None:
        kernel = cosine_schedule(sampler.num_inference_steps, sampler.eta)
        denoiser = stand_in(kernel, 2 if sampler.guidance_scale > 1 else 1, shape)
    else:
        denoiser = stand_in(model.kernel, model.evaluations, shape)
    if sampler.cost_varies and len(preferences) > 1:
        parts = [
            Preferences(preferences.rewards, {name: weights.tolist()})
            for name, weights in zip(preferences.names, preferences.weights, strict=True)
        ]
        again = partial(rehearse, sampler, model=model, seed=seed, differentiable=differentiable)
        ledgers, images = zip(*map(again, parts), strict=True)
        return added(ledgers), {name: sum(each[name] for each in images) for name in images[0]}
    limits = {budget_of(name): math.inf for name in preferences.rewards}
    rewards = projections(preferences.rewards, seed, shape)
    for name, reward in rewards.items():
        reward.is_differentiable = differentiable is None or name in differentiable
    oracle = RewardOracle(rewards, limits=limits)
    soup = sampler.run(Problem(denoiser, oracle, BatchSize.of(sampler.max_batch)), preferences, "plan", seed)
    return soup.ledger, oracle.account.spent()


class Forecast:
    """Expected costs of a run's soups: counted by a rehearsal once, and timed by the mean of the finished soups.

    Where the cost of a method varies, the expected one is the highest that it can come to.

    Args:
        sampler: Method.
        preferences: Preferences to make pictures for.
        differentiable: Names of the rewards that have gradients.
    """

    def __init__(self, sampler: Sampler, preferences: Preferences, differentiable: Collection[str]) -> None:
        self.sampler, self.preferences, self.differentiable = sampler, preferences, differentiable
        self._rehearsed: tuple[Ledger, dict[str, float]] | None = None
        self._seconds: list[float] = []

    def expected(self, denoiser: Denoiser) -> tuple[Ledger, dict[str, float]]:
        """Return the expected costs of a soup, and images sent to rewards, as :func:`rehearse` does."""
        if self._rehearsed is None:
            known = partial(rehearse, model=denoiser, differentiable=self.differentiable)
            self._rehearsed = known(self.sampler, self.preferences)
        ledger, images = self._rehearsed
        return replace(ledger, seconds=fmean(self._seconds) if self._seconds else 0.0), images

    def learn(self, ledger: Ledger) -> None:
        """Take the seconds of a finished soup into account."""
        self._seconds.append(ledger.seconds)


def cosine_schedule(steps: int, eta: float) -> DDIM:
    """Return a cosine schedule (Nichol & Dhariwal 2021) whose cleanest level keeps some noise."""
    angles = [0.02 + 0.96 * (steps - level) / steps for level in range(steps + 1)]
    return DDIM(tuple(cos(angle * pi / 2) ** 2 for angle in angles), eta)


def projections(names: Sequence[str], seed: int = 0, shape: tuple[int, ...] = SHAPE) -> dict[str, _Projection]:
    """Return rewards of the stand-in: projections of its images on random directions."""
    directions = torch.randn(len(names), *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return {name: _Projection(direction) for name, direction in zip(names, directions, strict=True)}


class _Projection:
    """Reward of the stand-in: the projection of an image on a direction."""

    is_differentiable: bool | None = True
    on_cpu: ClassVar[bool] = False

    def __init__(self, direction: Tensor) -> None:
        self.direction = direction
        self.before_repeat: Callable[[int], None] = lambda images: None

    def check(self) -> None:
        """Nothing can be missing."""

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Return scores (B,) of images (B, 3, H, W)."""
        return (images * self.direction).sum((1, 2, 3))


def stand_in(kernel: Kernel, evaluations: int, shape: tuple[int, ...] = SHAPE) -> Denoiser:
    """Return a denoiser of the given transitions and shape of latents that computes next to nothing."""

    def denoise(x: Tensor, level: int) -> Prediction:
        return Prediction(x.tanh(), x)

    def decode(latents: Tensor) -> Tensor:
        return latents.tanh() / 2 + 0.5

    def encode(images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(2 * images - 1, (shape[1], shape[2]))  # of any size

    def reschedule(num_inference_steps: int, eta: float) -> Denoiser:
        return stand_in(cosine_schedule(num_inference_steps, eta), evaluations, shape)

    return Denoiser(
        shape=shape,
        kernel=kernel,
        denoise=denoise,
        denoise_unguided=denoise,
        decode=decode,
        decode_preview=decode,
        encode=encode,
        reschedule=reschedule,
        evaluations=evaluations,
        device=torch.device("cpu"),
    )
