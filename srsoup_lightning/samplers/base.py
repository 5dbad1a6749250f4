"""What every method shares: its knobs, the run of one soup, and the result."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from torch import Tensor

from srsoup_lightning.diffusion.noise import NoiseSource
from srsoup_lightning.preferences import Preferences
from srsoup_lightning.problem import Problem
from srsoup_lightning.samplers.result import OnStep, Soup
from srsoup_lightning.search.candidates import distinct


@dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """A way to spend network evaluations and reward queries on pictures, one a preference.

    Args:
        num_inference_steps: The number T of denoising steps, at least 1.
        guidance_scale: Classifier-free guidance; 1 turns it off and halves the network evaluations. Models with
            distilled guidance are told the scale instead, and Z-Image counts from 0.
        eta: Share of the noise that is drawn anew in each step, or a flow's noise level, in [0, 1].
        max_batch: How many latents the network sees at once: lower it where memory runs out.

    Raises:
        ValueError: A number outside its range.
    """

    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    eta: float = 1.0
    max_batch: int = 64

    def __post_init__(self) -> None:
        for name in ("num_inference_steps", "max_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}: give a number in [0, 1]")

    @property
    def antithetic_noise(self) -> bool:
        """Whether this method's candidates come in mirrored pairs."""
        return False

    @abc.abstractmethod
    def sample(self, problem: Problem, preferences: Preferences, noise: NoiseSource, on_step: OnStep) -> Tensor:
        """Clean latents (P, C, H, W), one a preference, in the order of `preferences`."""

    def run(
        self, problem: Problem, preferences: Preferences, prompt: str, seed: int, on_step: OnStep = lambda _: None
    ) -> Soup:
        """Make one soup.

        Args:
            problem: The prompt's denoising process and rewards, whose names must be those of `preferences`.
            preferences: The points to make pictures for.
            prompt: The prompt; with `seed`, all that the random numbers depend on.
            seed: The seed.
            on_step: Told after every denoising step.

        Raises:
            RewardError: A reward failed.
            LimitError: The soup is abandoned, for what would come next goes beyond a bound.
        """
        noise = NoiseSource(prompt, seed, problem.shape, problem.device, self.antithetic_noise)
        with problem.ledger.timed():
            latents = self.sample(problem, preferences, noise, on_step)
            points, place = distinct(latents)
            images = problem.decode(latents[points])
        rewards, failed = problem.score(images)
        return Soup(
            prompt=prompt,
            seed=seed,
            reward_names=preferences.rewards,
            preference_names=tuple(preferences.names),
            preferences=preferences.weights,
            images=images[place].cpu(),
            rewards=rewards[place].cpu(),
            failed=failed[place].cpu(),
            ledger=problem.ledger,
        )
