"""A mixture to denoise, rewards in one line each, and counters around both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.costs.ledger import Ledger
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.oracle import OraclePolicy, RewardOracle
from srsoup_lightning.samplers import OnStep, Problem, Sampler, Soup
from srsoup_lightning.samplers.stand_in import cosine_schedule, projections, stand_in
from tests.mixture import GaussianMixture

SHAPE = (3, 4, 4)
NAMES = ("a", "b", "c")

Score = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def linear(seed: int) -> Score:
    """A reward that is linear in the picture, and in the latent where nothing is clamped."""
    direction = normal(*SHAPE, seed=100 + seed)
    return lambda images: (images * direction).sum((1, 2, 3))


def linears(count: int) -> dict[str, Score]:
    return {name: linear(seed) for seed, name in enumerate(NAMES[:count])}


def curved(images: Tensor) -> Tensor:
    return (3 * images).sin().mean((1, 2, 3))


def bind(sampler: Sampler, final_alpha: float = 1.0) -> Denoiser:
    mixture = GaussianMixture(0.5 * normal(2, *SHAPE), spread=0.5)
    return mixture.bind(sampler.num_inference_steps, sampler.eta, final_alpha)


class Scorer:
    """A reward as the oracle sees one, from a function of images and prompts."""

    def __init__(self, score: Callable[[Tensor, list[str]], Tensor], on_cpu: bool = False) -> None:
        self.score, self.on_cpu, self.is_differentiable = score, on_cpu, True
        self.before_repeat: Callable[[int], None] = lambda images: None

    def check(self) -> None:
        pass


def oracle(
    rewards: dict[str, Score], on_cpu: Collection[str] = (), policy: OraclePolicy = OraclePolicy()
) -> RewardOracle:
    """An oracle of rewards that see pictures alone."""

    def of_images(score: Score) -> Callable[[Tensor, list[str]], Tensor]:
        return lambda images, prompts: score(images)

    return RewardOracle({name: Scorer(of_images(score), name in on_cpu) for name, score in rewards.items()}, policy)


def run(
    sampler: Sampler,
    preferences: Preferences,
    rewards: dict[str, Score] | None = None,
    *,
    denoiser: Denoiser | None = None,
    on_cpu: Collection[str] = (),
    policy: OraclePolicy = OraclePolicy(),
    prompt: str = "a lobster",
    seed: int = 0,
    on_step: OnStep = lambda _: None,
) -> Soup:
    """One soup; linear rewards and a fresh mixture where none are given."""
    rewards = linears(len(preferences.rewards)) if rewards is None else rewards
    batch = BatchSize.of(sampler.max_batch)
    problem = Problem(denoiser or bind(sampler), oracle(rewards, on_cpu, policy), batch, prompt)
    return sampler.run(problem, preferences, prompt, seed, on_step)


def rehearsed_together(sampler: Sampler, preferences: Preferences) -> Ledger:
    """Costs on the stand-in of a rehearsal, where preferences share what they have in common."""
    shape = (3, *[max(4, sampler.least_side)] * 2)
    denoiser = stand_in(cosine_schedule(sampler.num_inference_steps, sampler.eta), 2, shape)
    problem = Problem(denoiser, RewardOracle(projections(preferences.rewards, 0, shape)), 64)
    return sampler.run(problem, preferences, "plan", 0).ledger


def lattice(rewards: int, divisions: int) -> Preferences:
    return Preferences.lattice(NAMES[:rewards], divisions)


@dataclass
class Tally:
    """Numbers of latents and images that were really worked on, by callable, and the largest batch."""

    counts: Counter[str] = field(default_factory=Counter)
    largest: int = 0

    def _counted(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(x: Tensor, *arguments: object) -> object:
            self.counts[name] += len(x)
            self.largest = max(self.largest, len(x))
            return work(x, *arguments)

        return call

    def denoiser(self, denoiser: Denoiser, evaluations: int = 1) -> Denoiser:
        names = ("denoise", "denoise_unguided", "decode", "decode_preview")
        counted = {name: self._counted(name, getattr(denoiser, name)) for name in names}
        return replace(denoiser, **counted, evaluations=evaluations)

    def rewards(self, rewards: dict[str, Score]) -> dict[str, Score]:
        return {name: self._counted(name, score) for name, score in rewards.items()}
