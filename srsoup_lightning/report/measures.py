"""Measures of the fronts of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rewards.pictures import load_image
from srsoup_lightning.costs.ledger import Ledger
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
from srsoup_lightning.report.units import Box, Units, box_units, extremes, scores_of
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.runs.rows import CostRow, ImageRow, grouped

Weights = tuple[float, ...]  # of a preference, in the order of the rewards; () where it isn't known
Values = dict[str, dict[str, list[float]]]  # measure -> prompt -> one value for each front
COSTS = ("queries", "hits", "failures", "nfe", "gradients", "decodes", "seconds")
TRAINING_COSTS = ("queries", "nfe", "gradients", "seconds")


@dataclass(frozen=True)
class Measured:
    """A run and its measures.

    Attributes:
        run: The run.
        values: Measure -> prompt -> one value for each front, without the fronts that the measure isn't defined for.
        means: Preference -> prompt -> mean standardised rewards (M,) of its images. The key () has all images.
    """

    run: Run
    values: Values
    means: dict[Weights, dict[str, Tensor]]

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name


def weights_of(row: ImageRow, rewards: Sequence[str]) -> Weights:
    """Return the preference of an image, () if it isn't known or weighs rewards that were not scored."""
    weighed = {name for name, weight in row.preference.items() if weight}
    if not weighed or weighed - set(rewards):
        return ()
    return tuple(round(row.preference.get(name, 0.0), 6) for name in rewards)


def by_preference(run: Run, rewards: Sequence[str]) -> dict[Weights, list[ImageRow]]:
    """Group the images of a run by preference; see :func:`weights_of`."""
    return grouped(run.images, lambda row: weights_of(row, rewards))


def mean_rewards(run: Run) -> dict[Weights, dict[str, float]]:
    """Return the mean rewards {name: score} of each preference over its images, also of rewards that are held out."""
    return {
        weights: dict(zip(run.scored, scores_of(images, run.scored).mean(0).tolist(), strict=True))
        for weights, images in by_preference(run, run.rewards).items()
    }


def mean_hypervolume(run: Run, box: Box | None = None) -> float:
    """Return the mean hypervolume of the fronts of a run.

    Args:
        run: The run, with at least one image.
        box: Box that has volume 1; see :func:`~srsoup_lightning.report.units.require_box`. None takes the extremes of
            the run itself; a reward that does not vary then makes the volume 0.
    """
    if box is None:
        box = {name: (low, high if low < high else low + 1) for name, (low, high) in extremes([run]).items()}
    units = box_units(run, box, "")
    volumes = [_volume(units, units.standardise(prompt, images)) for (prompt, _), images in run.fronts().items()]
    return sum(volumes) / len(volumes)


def _volume(units: Units, points: Tensor) -> float:
    return hypervolume(units.in_box(points), torch.zeros(points.shape[1], dtype=torch.float64))


def means_of(run: Run, units: Units) -> dict[Weights, dict[str, Tensor]]:
    """Return the means of :attr:`Measured.means`."""
    groups: dict[Weights, Sequence[ImageRow]] = {**by_preference(run, units.rewards), (): run.images}
    return {
        weights: {
            prompt: units.standardise(prompt, its_images).mean(0)
            for prompt, its_images in grouped(images, lambda row: row.prompt).items()
        }
        for weights, images in groups.items()
    }


def shared_preferences(runs: Iterable[Run], rewards: Sequence[str]) -> frozenset[Weights]:
    """Return the preferences that all runs with preferences have. Over others their utility isn't comparable."""
    known = [by_preference(run, rewards).keys() - {()} for run in runs]
    return frozenset(set.intersection(*filter(None, known))) if any(known) else frozenset()


def reference_fronts(runs: Iterable[Run], units: Units) -> dict[str, Tensor]:
    """Return the nondominated points (R, M) of each prompt, over the images of all runs."""
    pooled = grouped((row for run in runs for row in run.images), lambda row: row.prompt)
    return {prompt: nondominated(units.standardise(prompt, images)) for prompt, images in pooled.items()}


def measured(
    run: Run, units: Units, references: Mapping[str, Tensor], shared: frozenset[Weights], embedding: Embedding
) -> Measured:
    """Measure a run.

    Args:
        run: The run.
        units: Units and box.
        references: Front (R, M) of each prompt that IGD+ compares with, in these units.
        shared: Preferences that utility is the mean over.
        embedding: Images (B, 3, H, W) in [0, 1] to vectors (B, D), whose distances diversity measures.
    """
    values: Values = defaultdict(lambda: defaultdict(list))
    for name, prompt, value in (
        *_of_fronts(run, units, references, shared),
        *_of_pictures(run, units.rewards, embedding),
        *_of_costs(run.costs),
    ):
        values[name][prompt].append(value)
    return Measured(run, {name: dict(by_prompt) for name, by_prompt in values.items()}, means_of(run, units))


def _of_fronts(
    run: Run, units: Units, references: Mapping[str, Tensor], shared: frozenset[Weights]
) -> Iterator[tuple[str, str, float]]:
    for (prompt, _), images in run.fronts().items():
        points = units.standardise(prompt, images)
        inside = units.in_box(points)
        yield "hypervolume", prompt, _volume(units, points)
        yield "igd_plus", prompt, inverted_distance(inside, units.in_box(references[prompt]))
        yield "spread", prompt, maximum_spread(inside)
        preferences = [weights_of(row, units.rewards) for row in images]
        asked = [index for index, weights in enumerate(preferences) if weights in shared]
        if asked:
            chosen = torch.tensor([preferences[index] for index in asked], dtype=torch.float64)
            yield "utility", prompt, float(utility(points[asked], chosen).mean())
        yield from _monotonicity(prompt, units.rewards, points, preferences)
        for name in run.scored:
            yield f"mean_{name}", prompt, sum(row.rewards[name] for row in images) / len(images)
        yield "pictures", prompt, len(images)


def _monotonicity(
    prompt: str, rewards: Sequence[str], points: Tensor, preferences: Sequence[Weights]
) -> Iterator[tuple[str, str, float]]:
    """Yield the rank correlation of each reward with its weight, where both vary."""
    known = [index for index, weights in enumerate(preferences) if weights]
    if not known:
        return
    weights = torch.tensor([preferences[index] for index in known], dtype=torch.float64)
    for name, weight, reward in zip(rewards, weights.unbind(1), points[known].unbind(1), strict=True):
        if weight.unique().numel() > 1 and reward.unique().numel() > 1:
            yield f"monotonicity_{name}", prompt, spearman(weight, reward)


def _of_pictures(run: Run, rewards: Sequence[str], embedding: Embedding) -> Iterator[tuple[str, str, float]]:
    """Yield mean distances between the pictures of a front, and between those of a preference over its seeds."""
    between_seeds: dict[tuple[str, Weights], dict[int, Tensor]] = defaultdict(dict)
    for (prompt, seed), images in run.fronts().items():
        vectors = _vectors([run.picture(row) for row in images], embedding)
        if len(images) > 1:
            yield "diversity", prompt, mean_distance(vectors)
        for row, vector in zip(images, vectors, strict=True):
            weights = weights_of(row, rewards)
            if weights or len(images) == 1:  # else it isn't known which pictures of two seeds belong together
                between_seeds[prompt, weights][seed] = vector
    for (prompt, _), by_seed in between_seeds.items():
        if len(by_seed) > 1:
            yield "seed_diversity", prompt, mean_distance(torch.stack(list(by_seed.values())))


def _vectors(paths: Sequence[Path], embedding: Embedding) -> Tensor:
    """Return the vectors (P, D) of pictures. Equal files, such as those of unsteered preferences, are embedded once."""
    contents = [path.read_bytes() for path in paths]
    files = dict(zip(contents, paths, strict=True))
    known = {content: embedding(load_image(path)[None]) for content, path in files.items()}
    return torch.cat([known[content] for content in contents])


def _of_costs(costs: Iterable[CostRow]) -> Iterator[tuple[str, str, float]]:
    for cost in costs:
        for name in COSTS:
            yield name, cost.prompt, _amount(cost.ledger, name)


def training_costs(run: Run) -> dict[str, float | None]:
    """Return the costs of training the LoRAs of a run, by measure. They are None where they are not known."""
    spent = run.training
    return {f"training_{name}": None if spent is None else _amount(spent, name) for name in TRAINING_COSTS}


def _amount(ledger: Ledger, name: str) -> float:
    """Return a cost, of all rewards together."""
    spent = getattr(ledger, name)
    return sum(spent.values()) if isinstance(spent, dict) else spent
