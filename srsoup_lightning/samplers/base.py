"""Base class of all samplers."""

from __future__ import annotations

import abc
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.precision import without_autocast
from srsoup_lightning.diffusion.process import Process
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import Moment, OnStep, Soup
from srsoup_lightning.search.candidates import distinct


@dataclass(frozen=True, kw_only=True)
class Sampler(Process, abc.ABC):
    """Method that spends network evaluations and reward queries on pictures, one for each preference.

    Arguments and errors are those of :class:`~srsoup_lightning.diffusion.process.Process`. A method that steers by
    noise refuses an eta of 0.
    """

    needs_noise: ClassVar[bool] = False
    """Whether the method steers by the noise of a step, or needs it to tell copies of a latent apart."""

    needs_gradient: ClassVar[bool] = False
    """Whether the method needs gradients of the rewards."""

    cost_varies: ClassVar[bool] = False
    """Whether preferences share work wherever their latents agree. A soup then costs at most what they cost apart."""

    serves_rows: ClassVar[bool] = False
    """Whether the method tells the model whose preference each latent serves, where adapters make that matter. If not,
    the preferences are served one after another there."""

    @property
    def least_side(self) -> int:
        """Least height and width of the latents that the method works on."""
        return 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.needs_noise and self.eta == 0:
            raise ValueError("eta is 0: a step without noise can't be steered, give eta in (0, 1] or use BaseModel")

    @property
    def takes_gradients(self) -> bool:
        """Whether the method takes gradients of some rewards, with its options."""
        return self.needs_gradient

    @property
    def dearest(self) -> Sampler:
        """The method without options by which preferences come to share work: this one costs at most as much."""
        return self

    @property
    def costs_less(self) -> bool:
        """Whether a soup of several preferences may cost less than its plan, because they share work where they can."""
        return self.cost_varies or self.dearest is not self

    def lacking(self, preferences: Preferences, differentiable: Collection[str]) -> list[str]:
        """Return the rewards whose gradients are missing.

        Args:
            preferences: Preferences to make pictures for.
            differentiable: Names of the rewards that have gradients.
        """
        return [name for name in preferences.weighted if self.needs_gradient and name not in differentiable]

    def check(self, preferences: Preferences) -> None:
        """Check that the options name rewards of these preferences alone, and all those that they need.

        Raises:
            ValueError: An option names another reward, or lacks one.
        """

    @abc.abstractmethod
    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Return clean latents (P, C, H, W), one for each preference, in their order."""

    def run(
        self, problem: Problem, preferences: Preferences, prompt: str, seed: int, on_step: OnStep = lambda _: None
    ) -> Soup:
        """Make one soup. A reward without weight in any preference is held out: it scores the final images alone.

        Args:
            problem: Denoising process of the prompt and rewards, whose names must be those of `preferences`.
            preferences: Preferences to make pictures for.
            prompt: Prompt. All random numbers depend on it and on `seed` alone.
            seed: Seed.
            on_step: Callback after every denoising step.

        Raises:
            RewardError: A reward failed.
            LimitError: The soup is abandoned, because the next operation would exceed a limit.
            NoGradientError: The method needs gradients that a reward does not have.
            ValueError: An option of the method names another reward than `preferences`.
        """
        self.check(preferences)
        missing = self.lacking(preferences, problem.oracle.differentiable)
        problem.oracle.require_gradients(type(self).__name__, missing)
        steering = preferences.without_held_out()
        noise = NoiseSource(prompt, seed, problem.shape, problem.device)
        steered = problem.with_rewards(steering.rewards).drawing(
            lambda level: float(noise.uniform(1, "adapter", level))
        )
        sample = self.sample if self.serves_rows or problem.denoiser.adapters is None else self.sample_apart
        with without_autocast(problem.device):  # the networks alone run under that of a Trainer
            with problem.meter.timed():
                latents = sample(steered, steering, noise, on_step)
                points, index = distinct(latents)
                images = problem.decode(latents[points])
            rewards, failed = problem.score(images)
        return Soup(
            prompt=prompt,
            seed=seed,
            reward_names=preferences.rewards,
            preference_names=tuple(preferences.names),
            preferences=preferences.weights,
            images=images[index].cpu(),
            rewards=rewards[index].cpu(),
            failed=failed[index].cpu(),
            ledger=problem.ledger,
        )

    def sample_apart(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Return what :meth:`sample` does, one preference after another, each with the model that serves it."""
        latents, count = [], len(preferences)
        for number, (weights, alone) in enumerate(zip(preferences.weights, preferences.apart(), strict=True)):

            def report(moment: Moment, number: int = number) -> None:
                on_step(moment._replace(step=number * moment.steps + moment.step, steps=count * moment.steps))

            latents.append(self.sample(problem.serving(weights), alone, noise, report))
        return torch.cat(latents)
