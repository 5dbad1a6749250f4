"""Base classes of all samplers."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice
from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.diffusion.precision import without_autocast
from srsoup_lightning.diffusion.process import Process
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import OnStep, Soup, shifted
from srsoup_lightning.search.candidates import distinct
from srsoup_lightning.search.scalarise import Scalarisation, Value


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.needs_noise and self.eta == 0:
            raise ValueError("eta is 0: a step without noise can't be steered, give eta in (0, 1] or use BaseModel")

    @abc.abstractmethod
    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Return clean latents (P, C, H, W), one for each preference, in their order."""

    def run(
        self, problem: Problem, preferences: Preferences, prompt: str, seed: int, on_step: OnStep = lambda _: None
    ) -> Soup:
        """Make one soup.

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
        """
        if self.needs_gradient:
            problem.oracle.require_gradients(type(self).__name__, list(problem.rewards))
        noise = NoiseSource(prompt, seed, problem.shape, problem.device)
        with without_autocast(problem.device):  # the networks alone run under that of a Trainer
            with problem.meter.timed():
                latents = self.sample(problem, preferences, noise, on_step)
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


class Prefix(NamedTuple):
    """First steps of a method, which all preferences share.

    Attributes:
        step: Number of steps done.
        x: Latents (K, C, H, W) of that level.
        rewards: Rewards (K, M) of their previews at the last of these steps. Empty if the method has not asked.
    """

    step: int
    x: Tensor
    rewards: Tensor = torch.empty(0, dtype=torch.float32)


@dataclass(frozen=True, kw_only=True)
class OnePreference(Sampler, abc.ABC):
    """Base of methods that know one number to maximise. They run once for each preference.

    A subclass writes :meth:`search`, and :meth:`prefix` if preferences share their first steps.

    Args:
        scalarisation: Value of rewards to a preference: "linear", "tchebycheff" or "ranks", see
            :class:`~srsoup_lightning.search.scalarise.Value`.

    Raises:
        ValueError: The scalarisation is unknown, or see :class:`Sampler`.
    """

    scalarisation: Scalarisation = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("scalarisation", self.scalarisation, Scalarisation)

    def prefix(self, problem: Problem, noise: NoiseSource, on_step: OnStep) -> Prefix:
        """Make the steps that all preferences share: none by default, from the start of the first trajectory."""
        return Prefix(0, noise.start().unsqueeze(0))

    @abc.abstractmethod
    def search(self, problem: Problem, value: Value, noise: NoiseSource, prefix: Prefix, on_step: OnStep) -> Tensor:
        """Return the clean latent (1, C, H, W) of one preference.

        Args:
            problem: Denoising process and rewards.
            value: Value of rewards (B, M) to the preference. Its units are not set.
            noise: Source of all random numbers.
            prefix: Steps that are done.
            on_step: Callback after every step from there on.
        """

    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """See :meth:`Sampler.sample`."""
        steps, count = problem.kernel.steps, len(preferences)
        first = self.prefix_steps(steps)
        total = first + count * (steps - first)
        prefix = self.prefix(problem, noise, shifted(on_step, 0, total))
        latents = []
        for number, weights in enumerate(preferences.weights.to(problem.device)):
            report = shifted(on_step, number * (steps - first), total)  # moments of a search count from its prefix on
            latents.append(self.search(problem, Value(weights, self.scalarisation), noise, prefix, report))
        return torch.cat(latents)

    def prefix_steps(self, steps: int) -> int:
        """Return the number of steps of :meth:`prefix`, of so many steps."""
        return 0
