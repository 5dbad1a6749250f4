"""A mixture to denoise, rewards in one line each, and counters around both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from srsoup_lightning import Preferences
from srsoup_lightning.diffusion.denoiser import Denoiser
from srsoup_lightning.diffusion.process import BatchSize
from srsoup_lightning.diffusion.transition import Prediction
from srsoup_lightning.oracle import OraclePolicy, RewardOracle
from srsoup_lightning.samplers import OnStep, Problem, Sampler, Soup
from tests.mixture import GaussianMixture

SHAPE = (3, 4, 4)
NAMES = ("a", "b", "c")

Score = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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


def lattice(rewards: int, divisions: int) -> Preferences:
    return Preferences.lattice(NAMES[:rewards], divisions)


@dataclass
class Tally:
    """What was really called, and in which portions."""

    counts: Counter[str] = field(default_factory=Counter)
    largest: int = 0

    def _seen(self, what: str, latents: Tensor) -> None:
        self.counts[what] += len(latents)
        self.largest = max(self.largest, len(latents))

    def denoiser(self, denoiser: Denoiser, evaluations: int = 1) -> Denoiser:
        def denoise(x: Tensor, level: int) -> Prediction:
            self._seen("predict", x)
            return denoiser.denoise(x, level)

        def denoise_unguided(x: Tensor, level: int) -> Prediction:
            self._seen("predict unguided", x)
            return denoiser.denoise_unguided(x, level)

        def decode(latents: Tensor) -> Tensor:
            self._seen("decode", latents)
            return denoiser.decode(latents)

        def decode_preview(latents: Tensor) -> Tensor:
            self._seen("decode preview", latents)
            return denoiser.decode_preview(latents)

        return replace(
            denoiser,
            denoise=denoise,
            denoise_unguided=denoise_unguided,
            decode=decode,
            decode_preview=decode_preview,
            evaluations=evaluations,
        )

    def rewards(self, rewards: dict[str, Score]) -> dict[str, Score]:
        def counted(name: str) -> Score:
            def score(images: Tensor) -> Tensor:
                self._seen(name, images)
                return rewards[name](images)

            return score

        return {name: counted(name) for name in rewards}
