"""What is measured of a run, front by front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srsoup_lightning.pareto import (
    hypervolume,
    inverted_distance,
    maximum_spread,
    mean_distance,
    nondominated,
    spearman,
    utility,
)
from srsoup_lightning.pareto.diversity import Embedding
from srsoup_lightning.report.units import Scaling
from srsoup_lightning.runs.pictures import load_image
from srsoup_lightning.runs.reading import FinishedRun, Picture

Weights = tuple[float, ...]  # of a preference, in the order of the rewards; () where it isn't known
Values = dict[str, dict[str, list[float]]]  # measure -> prompt -> a value a front
COSTS = ("queries", "hits", "failures", "nfe", "decodes", "seconds")


@dataclass(frozen=True)
class Measured:
    """A run and what is measured of it.

    Attributes:
        run: The run.
        values: Measure -> prompt -> a value a front; a measure that isn't defined for a front has none there.
        places: Preference -> prompt -> mean of the standardised rewards (M,) of its pictures; () has all pictures.
    """

    run: FinishedRun
    values: Values
    places: dict[Weights, dict[str, Tensor]]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name


def weights_of(picture: Picture, rewards: Sequence[str]) -> Weights:
    """The preference a picture was made for, () if it isn't known or weighs rewards that weren't scored."""
    if not picture.preference or set(picture.preference) - set(rewards):
        return ()
    return tuple(round(picture.preference.get(name, 0.0), 6) for name in rewards)


def shared_preferences(runs: Iterable[FinishedRun], rewards: Sequence[str]) -> frozenset[Weights]:
    """The preferences that all runs with preferences have; over others their utility isn't comparable."""
    known = [{weights_of(picture, rewards) for picture in run.pictures} - {()} for run in runs]
    return frozenset(set.intersection(*filter(None, known))) if any(known) else frozenset()


def reference_fronts(runs: Iterable[FinishedRun], scaling: Scaling) -> dict[str, Tensor]:
    """The nondominated points (R, M) of all runs' pictures of each prompt, in the scaling's units."""
    pooled: dict[str, list[Picture]] = defaultdict(list)
    for run in runs:
        for picture in run.pictures:
            pooled[picture.prompt].append(picture)
    return {prompt: nondominated(scaling.standardise(prompt, pictures)) for prompt, pictures in pooled.items()}


def measured(
    run: FinishedRun,
    scaling: Scaling,
    references: Mapping[str, Tensor],
    shared: frozenset[Weights],
    embedding: Embedding,
) -> Measured:
    """Measure a run.

    Args:
        run: The run.
        scaling: The units and the box.
        references: The front of each prompt that IGD+ compares with, in the scaling's units.
        shared: The preferences that utility is the mean over.
        embedding: What diversity compares.
    """
    values: Values = defaultdict(lambda: defaultdict(list))
    for name, prompt, value in (
        *_of_fronts(run, scaling, references, shared),
        *_of_pictures(run, scaling.rewards, embedding),
        *_of_costs(run.costs),
    ):
        values[name][prompt].append(value)
    return Measured(run, {name: dict(by_prompt) for name, by_prompt in values.items()}, places_of(run, scaling))


def _of_fronts(
    run: FinishedRun, scaling: Scaling, references: Mapping[str, Tensor], shared: frozenset[Weights]
) -> Iterable[tuple[str, str, float]]:
    corner = torch.zeros(len(scaling.rewards), dtype=torch.float64)
    for (prompt, _), pictures in run.fronts().items():
        points = scaling.standardise(prompt, pictures)
        inside = scaling.in_box(points)
        yield "hypervolume", prompt, hypervolume(inside, corner)
        yield "igd_plus", prompt, inverted_distance(inside, scaling.in_box(references[prompt]))
        yield "spread", prompt, maximum_spread(inside)
        preferences = [weights_of(picture, scaling.rewards) for picture in pictures]
        asked = [number for number, weights in enumerate(preferences) if weights in shared]
        if asked:
            chosen = torch.tensor([preferences[number] for number in asked], dtype=torch.float64)
            yield "utility", prompt, float(utility(points[asked], chosen).mean())
        yield from _monotonicity(prompt, scaling.rewards, points, preferences)
        for name in scaling.rewards:
            yield f"mean_{name}", prompt, sum(picture.rewards[name] for picture in pictures) / len(pictures)
        yield "pictures", prompt, len(pictures)


def _monotonicity(
    prompt: str, rewards: Sequence[str], points: Tensor, preferences: Sequence[Weights]
) -> Iterable[tuple[str, str, float]]:
    """Each reward's rank correlation with its weight, where both vary."""
    known = [number for number, weights in enumerate(preferences) if weights]
    if not known:
        return
    weights = torch.tensor([preferences[number] for number in known], dtype=torch.float64)
    for name, weight, reward in zip(rewards, weights.unbind(1), points[known].unbind(1), strict=True):
        if weight.unique().numel() > 1 and reward.unique().numel() > 1:
            yield f"monotonicity_{name}", prompt, spearman(weight, reward)


def _of_pictures(run: FinishedRun, rewards: Sequence[str], embedding: Embedding) -> Iterable[tuple[str, str, float]]:
    """Mean distances between the pictures of a front, and between those of a preference and prompt over the seeds."""
    between_seeds: dict[tuple[str, Weights], dict[int, Tensor]] = defaultdict(dict)
    for (prompt, seed), pictures in run.fronts().items():
        vectors = torch.cat([embedding(load_image(picture.path)[None]) for picture in pictures])
        if len(pictures) > 1:
            yield "diversity", prompt, mean_distance(vectors)
        for picture, vector in zip(pictures, vectors, strict=True):
            weights = weights_of(picture, rewards)
            if weights or len(pictures) == 1:  # else nobody knows which picture of the next seed is its like
                between_seeds[prompt, weights][seed] = vector
    for (prompt, _), by_seed in between_seeds.items():
        if len(by_seed) > 1:
            yield "seed_diversity", prompt, mean_distance(torch.stack(list(by_seed.values())))


def _of_costs(costs: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str, float]]:
    for cost in costs:
        for name in COSTS:
            spent = cost.get(name, 0)
            yield name, cost["prompt"], sum(spent.values()) if isinstance(spent, dict) else spent


def places_of(run: FinishedRun, scaling: Scaling) -> dict[Weights, dict[str, Tensor]]:
    """See :attr:`Measured.places`."""
    groups: dict[Weights, dict[str, list[Picture]]] = defaultdict(lambda: defaultdict(list))
    for picture in run.pictures:
        for weights in {weights_of(picture, scaling.rewards), ()}:
            groups[weights][picture.prompt].append(picture)
    return {
        weights: {prompt: scaling.standardise(prompt, pictures).mean(0) for prompt, pictures in by_prompt.items()}
        for weights, by_prompt in groups.items()
    }
