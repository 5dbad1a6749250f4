"""Pictures of a tuned model beside those of its base model: numbers that tell how far it went, and sheets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
        preference: Name of the preference that it is made for.
        weights: Weights (M,) of that preference.
    """

    number: int
    prompt: str
    seed: int
    base: ScoredPicture
    tuned: ScoredPicture
    divergence: float | None
    preference: str
    weights: Tensor


class Measures(NamedTuple):
    """Means over the pictures of a validation. What needs more pictures than there are is left out.

    Attributes:
        rewards: Rewards of the tuned model, by name.
        base: Rewards of the base model, by name.
        gains: Difference of the two in standard deviations of the base model's pictures, by name; none for a reward
            that is the same for all of them.
        value: Weighted sum of these differences, with the weights of each picture's own preference.
        distance_to_base: Distance of the features of a picture from those of the base model's picture.
        diversity: Distance of the features of two seeds of a prompt and preference, as the mean over these.
        base_diversity: The same of the base model.
        kl: Kullback-Leibler divergence from the base model.
    """

    rewards: dict[str, float]
    base: dict[str, float]
    gains: dict[str, float]
    value: float
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
    differences = (tuned - base) / spread
    weighted = torch.stack([each.weights for each in pictures]).double() * differences
    gains = dict(zip(names, differences.mean(0).tolist(), strict=True))
    distances = [(each.tuned.features - each.base.features).norm() for each in pictures]
    divergences = [each.divergence for each in pictures if each.divergence is not None]
    alike = list(grouped(pictures, lambda each: (each.prompt, each.preference)).values())
    return Measures(
        rewards=dict(zip(names, tuned.mean(0).tolist(), strict=True)),
        base=dict(zip(names, base.mean(0).tolist(), strict=True)),
        gains={name: gains[name] for name in compress(names, spread > 0)},
        value=float(weighted[:, spread > 0].sum(1).mean()),
        distance_to_base=float(torch.stack(distances).mean()),
        diversity=_diversity([[each.tuned for each in group] for group in alike]),
        base_diversity=_diversity([[each.base for each in group] for group in alike]),
        kl=sum(divergences) / len(divergences) if divergences else None,
    )


def _diversity(prompts: Sequence[Sequence[ScoredPicture]]) -> float | None:
    found = [
        mean_distance(torch.stack([scored_picture.features for scored_picture in scored]))
        for scored in prompts
        if len(scored) > 1
    ]
    return sum(found) / len(found) if found else None


def worst_held_out(measures: Measures, weighted: Collection[str]) -> str | None:
    """Return the held-out reward that fell most, if this shows over-optimisation.

    It does if the value rises, while a reward without weight falls by more than one standard deviation of the base
    model's pictures.

    Args:
        measures: Measures of a validation.
        weighted: Names of the rewards that have weight.
    """
    held_out = ((gain, name) for name, gain in measures.gains.items() if name not in weighted)
    fall, name = min(held_out, default=(0.0, ""))
    return name if measures.value > 0 and fall < -1 else None


def sheet_of(prompt: str, pictures: Sequence[Compared], names: Sequence[str]) -> Image.Image:
    """Draw the first seeds of a prompt from left to right: the base model above, the tuned model below.

    Args:
        prompt: Prompt.
        pictures: Its pictures.
        names: Names of the M rewards.
    """
    shown = pictures[:SEEDS]
    several = len({each.preference for each in pictures}) > 1
    labels = [f"seed {each.seed}" + (f", {each.preference}" if several else "") for each in shown]
    above = [_tile(each.base, names, f"base, {label}") for each, label in zip(shown, labels, strict=True)]
    below = [_tile(each.tuned, names, f"tuned, {label}") for each, label in zip(shown, labels, strict=True)]
    return draw_sheet(prompt, [above, below])


def _tile(scored_picture: ScoredPicture, names: Sequence[str], label: str) -> Tile:
    scores = [f"{name} {score:.3f}" for name, score in zip(names, scored_picture.rewards.tolist(), strict=True)]
    return Tile(lambda: nullcontext(scored_picture.picture), [label], scores)
