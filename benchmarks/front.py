"""How the benchmarks judge a front: against unsteered samples of the same prompt, fixed before any method runs.

A reward's unit is the standard deviation of unsteered samples of the prompt, its zero their mean. Utility is the mean
over preferences of the weighted rewards in that unit; hypervolume the share of the box from LOW to HIGH that the front
dominates; smoothness the mean absolute difference of neighbouring preferences' pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import lightning as L
import torch
from torch import Tensor

from rewards import CLIPScore, JPEGCompressibility, Reward
from srsoup_lightning import Preferences, PromptDataModule, SRSoupModule
from srsoup_lightning.diffusion.loading.options import Loading
from srsoup_lightning.oracle import RewardOracle
from srsoup_lightning.pareto import Hypervolume, Scale, utility
from srsoup_lightning.pareto.scale import HIGH, LOW
from srsoup_lightning.samplers import BaseModel, Sampler, Soup

COMMON = {"num_inference_steps": 20, "guidance_scale": 5.0, "eta": 1.0}  # of every method, in every benchmark
FIRST_UNSTEERED_SEED = 1_000
Run = Callable[[Sampler, Sequence[str], Sequence[int]], list[Soup]]


def jpeg_and_clip() -> RewardOracle:
    """Return an oracle of the demo's two rewards, for benchmarks that work below the module."""
    return RewardOracle({"jpeg": JPEGCompressibility(), "clip": CLIPScore("tiny-clip")})


def runner(pipeline: str, rewards: Mapping[str, Reward], preferences: Preferences, loading: Loading = Loading()) -> Run:
    """Return a function that makes the soups of prompts and seeds with a sampler. The model is loaded once."""
    trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    module = SRSoupModule(pipeline, dict(rewards), BaseModel(), preferences, loading=loading)

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


def measure(soup: Soup, scale: Scale) -> dict[str, float | list[list[float]]]:
    """Utility, hypervolume and smoothness of a soup's front, what it cost, and the front itself in those units."""
    z = scale.standardise(soup.rewards)
    neighbours = neighbour_pairs(soup.preferences)
    difference = (soup.images[neighbours[:, 0]] - soup.images[neighbours[:, 1]]).abs().mean()
    return {
        "utility": float(utility(z, soup.preferences).mean()),
        "hypervolume": hypervolume(z),
        "smoothness": float(difference),
        "queries": soup.ledger.total_queries,
        "nfe": soup.ledger.nfe,
        "decodes": soup.ledger.decodes,
        "seconds": soup.ledger.seconds,
        "front": [[round(value, 3) for value in point] for point in z.tolist()],
    }


def hypervolume(z: Tensor) -> float:
    """The share of the box that points z (P, M), in standard deviations, dominate."""
    box = Hypervolume([LOW] * z.shape[1], [HIGH] * z.shape[1])
    box.update(z)
    return float(box.compute())


def neighbour_pairs(preferences: Tensor) -> Tensor:
    """The pairs (K, 2) of preferences (P, M) that are as close together as any two are, each once."""
    distance = torch.cdist(preferences, preferences, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(torch.inf)
    return (distance < distance.min() * 1.001).triu().nonzero()
