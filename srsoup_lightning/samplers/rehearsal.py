"""Rehearsal of a soup: the sampler itself runs on a stand-in for the model, so that costs are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from statistics import fmean

from srsoup_lightning.adapters import Adapters, BoundAdapters
from srsoup_lightning.costs.ledger import Ledger, added
from srsoup_lightning.costs.limits import budget_of
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.base import Sampler
from srsoup_lightning.samplers.stand_in import SHAPE, cosine_schedule, projections, stand_in


def count(
    sampler: Sampler,
    preferences: Preferences,
    *,
    model: Denoiser | None = None,
    seed: int = 0,
    differentiable: Collection[str] | None = None,
    adapters: Adapters | None = None,
) -> Ledger:
    """Count the costs of a soup without a model; see :func:`rehearse`."""
    known = partial(rehearse, model=model, seed=seed, differentiable=differentiable, adapters=adapters)
    return known(sampler, preferences)[0]


def rehearse(
    sampler: Sampler,
    preferences: Preferences,
    *,
    model: Denoiser | None = None,
    seed: int = 0,
    differentiable: Collection[str] | None = None,
    adapters: Adapters | None = None,
) -> tuple[Ledger, dict[str, float]]:
    """Count the costs of a soup, and the images that it sends to rewards, by the names of budgets.

    Final images are included in the latter. The counts are exact where the sharing policy depends on nothing but steps
    and preferences. Where it depends on latents, those of the stand-in take the place of the model's, and another
    `seed` gives other counts. Where the cost of a method varies, the counts are those of all preferences apart, which
    it can't exceed. Options by which preferences come to share work are left out, see :attr:`Sampler.dearest`.

    Args:
        sampler: Method.
        preferences: Preferences to make pictures for.
        model: Denoising process of a prompt, for its transitions and for the costs of a prediction. None searches every
            step, which is one more than schedules have whose last step is without noise. It takes two evaluations for a
            guided prediction, which is one more than distilled models take.
        seed: Seed of the stand-in's rewards.
        differentiable: Names of the rewards that have gradients. None is all.
        adapters: Adapters by which predictions depend on the preference, where there is no model that has them.
    """
    shape = (SHAPE[0], *(max(side, sampler.least_side) for side in SHAPE[1:]))
    if model is None:
        kernel = cosine_schedule(sampler.num_inference_steps, sampler.eta)
        bound = None if adapters is None else BoundAdapters(adapters, lambda inputs: nullcontext())
        denoiser = stand_in(kernel, 2 if sampler.guidance_scale > 1 else 1, shape, bound)
    else:
        denoiser = stand_in(model.kernel, model.evaluations, shape, model.adapters)
    if sampler.cost_varies and len(preferences) > 1:
        known = partial(rehearse, model=model, seed=seed, differentiable=differentiable, adapters=adapters)
        again = partial(known, sampler)
        ledgers, images = zip(*map(again, preferences.apart()), strict=True)
        return added(ledgers), {name: sum(each[name] for each in images) for name in images[0]}
    limits = {budget_of(name): math.inf for name in preferences.rewards}
    rewards = projections(preferences.rewards, seed, shape)
    for name, reward in rewards.items():
        reward.is_differentiable = differentiable is None or name in differentiable
    oracle = RewardOracle(rewards, limits=limits)
    soup = sampler.dearest.run(Problem(denoiser, oracle, BatchSize.of(sampler.max_batch)), preferences, "plan", seed)
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
