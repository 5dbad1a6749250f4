"""Curves of the front of a run, for charts whose horizontal axis has whole numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from math import isclose

from srsoup_lightning.report.measures import Weights, mean_rewards
from srsoup_lightning.report.units import Box
from srsoup_lightning.runs.reading import Run

Curve = dict[int, float]  # value by the whole number on the horizontal axis
ALONG_BOX, ALONG_WEIGHT = 1000, 100  # steps from one end of the box to the other, and from weight 0 to weight 1


def trade_off_curves(run: Run, box: Box | None) -> dict[str, Curve]:
    """Return the mean rewards of the preferences over prompts and seeds, as curves by tag.

    Args:
        run: The run, with at least one image.
        box: Box of the rewards. None leaves out the curves along it.

    Returns:
        ``trade-off/<b> against <a>`` for each pair of rewards, over the preferences that weigh these two only: `b` by
        the place of `a` in the box, from 0 at its low end to 1000 at its high end. ``by weight/<a>``: reward `a` by its
        weight in percent, as the mean over the preferences with this weight.
    """
    means = {weights: scores for weights, scores in mean_rewards(run).items() if weights}
    curves = {by_weight(name): _by_weight(means, index, name) for index, name in enumerate(run.rewards)}
    if box is not None:
        for a, b in combinations(range(len(run.rewards)), 2):
            pair = {weights: scores for weights, scores in means.items() if isclose(weights[a] + weights[b], 1)}
            curves[against(run.rewards[a], run.rewards[b])] = _along(pair, run.rewards[a], run.rewards[b], box)
    return {tag: curve for tag, curve in curves.items() if curve}


def against(first: str, second: str) -> str:
    """Return the tag of the second reward by the first."""
    return f"trade-off/{second} against {first}"


def by_weight(reward: str) -> str:
    """Return the tag of a reward by its weight."""
    return f"by weight/{reward}"


def _along(means: Mapping[Weights, Mapping[str, float]], first: str, second: str, box: Box) -> Curve:
    low, high = box[first]
    places = [(round(ALONG_BOX * (scores[first] - low) / (high - low)), scores[second]) for scores in means.values()]
    return dict(sorted(places))  # of two preferences at one place, the better one stays


def _by_weight(means: Mapping[Weights, Mapping[str, float]], index: int, name: str) -> Curve:
    percents = sorted({round(ALONG_WEIGHT * weights[index]) for weights in means})
    return {percent: _mean(_at(means, index, percent, name)) for percent in percents}


def _at(means: Mapping[Weights, Mapping[str, float]], index: int, percent: int, name: str) -> Iterator[float]:
    return (scores[name] for weights, scores in means.items() if round(ALONG_WEIGHT * weights[index]) == percent)


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
