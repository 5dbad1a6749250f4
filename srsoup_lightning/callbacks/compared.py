"""Pictures of a tuned model beside those of its base model: numbers that tell how far it went, and sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import compress
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from srsoup_lightning.pareto.diversity import mean_distance
from srsoup_lightning.report.sheet import SEEDS, Tile, draw_sheet
from srsoup_lightning.runs.rows import grouped


class ScoredPicture(NamedTuple):
    """Picture of one model.

    Attributes:
        rewards: Its rewards (M,).
        features: Its features (D,), on the CPU.
        picture: The picture, reduced where it is large.
    """

    rewards: Tensor
    features: Tensor
    picture: Image.Image


class Compared(NamedTuple):
    """Pictures of one prompt and seed, with the same random numbers.

    Attributes:
        number: Number among the pictures of a validation, over all processes.
        prompt: Prompt.
        seed: Seed.
        base: Picture of the base model.
        tuned: Picture of the tuned model.
        divergence: Kullback-Leibler divergence from the base model. None where it is not defined.
    """

    number: int
    prompt: str
    seed: int
    base: ScoredPicture
    tuned: ScoredPicture
    divergence: float | None


class Measures(NamedTuple):
    """Means over the pictures of a validation. What needs more pictures than there are is left out.

    Attributes:
        rewards: Rewards of the tuned model, by name.
        base: Rewards of the base model, by name.
        gains: Difference of the two in standard deviations of the base model's pictures, by name; none for a reward
            that is the same for all of them.
        distance_to_base: Distance of the features of a picture from those of the base model's picture.
        diversity: Distance of the features of two seeds of a prompt, as the mean over the prompts.
        base_diversity: The same of the base model.
        kl: Kullback-Leibler divergence from the base model.
    """

    rewards: dict[str, float]
    base: dict[str, float]
    gains: dict[str, float]
    distance_to_base: float
    diversity: float | None
    base_diversity: float | None
    kl: float | None


def measures_of(pictures: Sequence[Compared], names: Sequence[str]) -> Measures:
    """Return the measures of at least one picture.

    Args:
        pictures: Pictures of a validation.
        names: Names of the M rewards.
    """
    base = torch.stack([each.base.rewards for each in pictures]).double()
    tuned = torch.stack([each.tuned.rewards for each in pictures]).double()
    spread = base.std(0) if len(base) > 1 else torch.zeros(len(names), dtype=base.dtype)
    gains = dict(zip(names, ((tuned - base).mean(0) / spread).tolist(), strict=True))
    distances = [(each.tuned.features - each.base.features).norm() for each in pictures]
    divergences = [each.divergence for each in pictures if each.divergence is not None]
    by_prompt = list(grouped(pictures, lambda each: each.prompt).values())
    return Measures(
        rewards=dict(zip(names, tuned.mean(0).tolist(), strict=True)),
        base=dict(zip(names, base.mean(0).tolist(), strict=True)),
        gains={name: gains[name] for name in compress(names, spread > 0)},
        distance_to_base=float(torch.stack(distances).mean()),
        diversity=_diversity([[each.tuned for each in group] for group in by_prompt]),
        base_diversity=_diversity([[each.base for each in group] for group in by_prompt]),
        kl=sum(divergences) / len(divergences) if divergences else None,
    )


def _diversity(prompts: Sequence[Sequence[ScoredPicture]]) -> float | None:
    found = [
        mean_distance(torch.stack([scored_picture.features for scored_picture in scored]))
        for scored in prompts
        if len(scored) > 1
    ]
    return sum(found) / len(found) if found else None


def worst_held_out(gains: Mapping[str, float], weights: Mapping[str, float]) -> tuple[float, str] | None:
    """Return the gain of the target and the held-out reward that fell most, if these show over-optimisation.

    They do if the weighted sum of the gains rises, while a reward with weight 0 falls by more than one standard
    deviation of the base model's pictures.

    Args:
        gains: Gain of each reward in such standard deviations.
        weights: Weight of each reward.
    """
    target = sum(weights[name] * gain for name, gain in gains.items())
    fall, name = min(((gain, name) for name, gain in gains.items() if weights[name] == 0), default=(0.0, ""))
    return (target, name) if target > 0 and fall < -1 else None


def sheet_of(prompt: str, pictures: Sequence[Compared], names: Sequence[str]) -> Image.Image:
    """Draw the first seeds of a prompt from left to right: the base model above, the tuned model below.

    Args:
        prompt: Prompt.
        pictures: Its pictures.
        names: Names of the M rewards.
    """
    shown = pictures[:SEEDS]
    above = [_tile(each.base, names, f"base, seed {each.seed}") for each in shown]
    below = [_tile(each.tuned, names, f"tuned, seed {each.seed}") for each in shown]
    return draw_sheet(prompt, [above, below])


def _tile(scored_picture: ScoredPicture, names: Sequence[str], label: str) -> Tile:
    scores = [f"{name} {score:.3f}" for name, score in zip(names, scored_picture.rewards.tolist(), strict=True)]
    return Tile(lambda: nullcontext(scored_picture.picture), [label], scores)
