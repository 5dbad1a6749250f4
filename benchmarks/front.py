"""How the benchmarks judge a front: against unsteered samples of the same prompt, fixed before any method runs.

A reward's unit is the standard deviation of unsteered samples of the prompt, its zero their mean. Utility is the mean
over preferences of the weighted rewards in that unit; hypervolume the share of the box from LOW to HIGH that the front
dominates; smoothness the mean absolute difference of neighbouring preferences' pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from torch import Tensor

from rewards import CLIPScore, JPEGCompressibility, Reward
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.diffusion.loading import Loading
from srsoup_lightning.pareto import Hypervolume
from srsoup_lightning.samplers import BaseModel, Judges, Sampler, Soup

COMMON = {"num_inference_steps": 20, "guidance_scale": 5.0, "eta": 1.0}  # of every method, in every benchmark
LOW, HIGH = -2.0, 6.0
FIRST_UNSTEERED_SEED = 1_000
RESAMPLES = 2_000
Run = Callable[[Sampler, Sequence[str], Sequence[int]], list[Soup]]


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each reward over unsteered samples of one prompt, both (M,)."""

    mean: Tensor
    std: Tensor

    def standardise(self, rewards: Tensor) -> Tensor:
        """Rewards (P, M) in standard deviations from the mean."""
        return (rewards - self.mean) / self.std


def jpeg_and_clip() -> Judges:
    """The two rewards of the demo, for benchmarks that work below the module."""
    return Judges({"jpeg": JPEGCompressibility().score, "clip": CLIPScore("tiny-clip").score}, on_cpu=["jpeg"])


def runner(pipeline: str, rewards: Mapping[str, Reward], preferences: Preferences, dtype: str = "float32") -> Run:
    """A function that makes the soups of some prompts and seeds with a sampler; the model is loaded once."""
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    module = SRSoupModule(pipeline, dict(rewards), BaseModel(), preferences, loading=Loading(dtype=dtype))

    def run(sampler: Sampler, prompts: Sequence[str], seeds: Sequence[int]) -> list[Soup]:
        module.sampler = sampler
        return trainer.predict(module, PromptDataModule(list(prompts), list(seeds)))

    return run


def unsteered_scales(run: Run, base: BaseModel, prompts: Sequence[str], samples: int) -> dict[str, Scale]:
    """The scale of each prompt, from `samples` pictures that no reward has steered."""
    seeds = range(FIRST_UNSTEERED_SEED, FIRST_UNSTEERED_SEED + samples)
    scales = {}
    for prompt in prompts:
        scores = torch.stack([soup.rewards[0] for soup in run(base, [prompt], seeds)])
        scales[prompt] = Scale(scores.mean(0), scores.std(0))
    return scales


def measure(soup: Soup, scale: Scale) -> dict[str, float]:
    """Utility, hypervolume and smoothness of a soup's front, and what it cost."""
    z = scale.standardise(soup.rewards)
    box = Hypervolume([LOW] * z.shape[1], [HIGH] * z.shape[1])
    box.update(z)
    neighbours = neighbour_pairs(soup.preferences)
    difference = (soup.images[neighbours[:, 0]] - soup.images[neighbours[:, 1]]).abs().mean()
    return {
        "utility": float((soup.preferences * z).sum(1).mean()),
        "hypervolume": float(box.compute()),
        "smoothness": float(difference),
        "queries": soup.ledger.total_queries,
        "nfe": soup.ledger.nfe,
        "decodes": soup.ledger.decodes,
        "seconds": soup.ledger.seconds,
    }


def neighbour_pairs(preferences: Tensor) -> Tensor:
    """The pairs (K, 2) of preferences (P, M) that are as close together as any two are, each once."""
    distance = torch.cdist(preferences, preferences, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(torch.inf)
    return (distance < distance.min() * 1.001).triu().nonzero()


def interval(by_prompt: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean over prompts of their means, with its 95 % bootstrap interval over prompts."""
    means = np.array([np.mean(values) for values in by_prompt.values()])
    low, high = np.quantile(means[resampled(len(means))].mean(1), [0.025, 0.975])
    return {"mean": float(means.mean()), "low": float(low), "high": float(high)}


def ratio_interval(above: Mapping[str, Sequence[float]], below: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Ratio of two methods' means over the prompts that both have, with its 95 % interval from resampling those."""
    prompts = [prompt for prompt in below if prompt in above]
    numerator = np.array([np.mean(above[prompt]) for prompt in prompts])
    denominator = np.array([np.mean(below[prompt]) for prompt in prompts])
    draws = resampled(len(numerator))
    low, high = np.quantile(numerator[draws].mean(1) / denominator[draws].mean(1), [0.025, 0.975])
    return {"mean": float(numerator.mean() / denominator.mean()), "low": float(low), "high": float(high)}


def resampled(prompts: int) -> np.ndarray:
    """Indices (RESAMPLES, prompts) drawn with replacement, the same at every call."""
    return np.random.default_rng(0).integers(prompts, size=(RESAMPLES, prompts))
