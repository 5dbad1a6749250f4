"""The front of each run, with its confidence band."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from srsoup_lightning.pareto.bootstrap import LEVELS, resampled
from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.report.figure_style import Style, legend, panels, style
from srsoup_lightning.report.measures import Measured, Weights, places_of
from srsoup_lightning.report.units import own_units
from srsoup_lightning.runs.reading import FinishedRun
from srsoup_lightning.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch

ONE_PLACE = 1e-3  # of a run's interval: preferences closer than that are one point to the eye
BLOCKS = 50  # of resamples, one after the other: thousands of prompts at once would take gigabytes
DIRECTIONS = 64  # in which hulls are drawn; a corner sharper than 6 degrees may be cut


def draw_fronts(comparison: Comparison) -> Figure:
    """A panel a pair of rewards: each preference's mean over prompts, joined where it weighs these two alone.

    The band joins the boxes of the 95 % bootstrap intervals of both means.
    """
    rewards = comparison.scaling.rewards
    pairs = list(combinations(range(len(rewards)), 2))
    figure, drawn = panels(len(pairs))
    for (i, j), panel in zip(pairs, drawn, strict=True):
        for number, run in enumerate(comparison.runs):
            _front(panel, run, (i, j), style(number))
        panel.set(xlabel=printable(rewards[i]), ylabel=printable(rewards[j]))
    figure.suptitle(printable(f"means over prompts, in {comparison.scaling.unit}"), fontsize="medium")
    legend(figure, [run.name for run in comparison.runs])
    return figure


def draw_front(run: FinishedRun) -> Figure:
    """One run's front, of two rewards or more, in their own units."""
    scaling = own_units(run)
    return draw_fronts(Comparison([Measured(run, {}, places_of(run, scaling))], scaling, {}, frozenset(), ()))


def _front(panel: Axes, run: Measured, pair: tuple[int, int], look: Style) -> None:
    """One run's means in one pair of rewards: a line and its band, or a cross where preferences move nothing."""
    known = [weights for weights, places in run.places.items() if weights and len(places) == len(run.places[()])]
    line = sorted(weights for weights in known if np.isclose(weights[pair[0]] + weights[pair[1]], 1))
    means, low, high = _means_and_ends(run, line or [()], pair)
    if (np.ptp(means, axis=0) <= ONE_PLACE * (high - low).max(0)).all():
        _cross(panel, *_means_and_ends(run, [()], pair), look)
        return
    panel.plot(*means.T, **look, markersize=5)
    panel.add_patch(_band(low, high, look["color"]))
    if inner := [weights for weights in known if weights not in line]:
        panel.plot(*_means_and_ends(run, inner, pair)[0].T, **look | {"linestyle": "none"}, markersize=3, alpha=0.5)


def _means_and_ends(
    run: Measured, preferences: Sequence[Weights], pair: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over prompts of some preferences' places, and the ends of its intervals, (K, 2) each."""
    prompts = list(run.places[()])
    places = np.array(
        [[run.places[weights][prompt].numpy()[list(pair)] for prompt in prompts] for weights in preferences]
    )
    blocks = np.array_split(resampled(len(prompts)), BLOCKS)
    resamples = [np.concatenate([of_one[block].mean(1) for block in blocks]) for of_one in places]
    low, high = np.quantile(resamples, LEVELS, axis=1)
    return places.mean(1), low, high


def _band(low: np.ndarray, high: np.ndarray, color: str) -> PathPatch:
    """The boxes from low to high (K, 2), each joined to the next by the convex hull of both.

    A hull's corner in a direction is that of the box that reaches farther in it. All hulls turn one way, so that
    together they are filled once, however they overlap.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False) + np.pi / DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    corners = np.where(directions > 0, high[:, None], low[:, None])
    reach = (corners * directions).sum(2, keepdims=True)
    hulls = np.where(reach[:-1] >= reach[1:], corners[:-1], corners[1:])
    closed = np.concatenate([hulls, hulls[:, :1]], axis=1)
    path = Path.make_compound_path(*(Path(hull, closed=True) for hull in closed))
    return PathPatch(path, facecolor=color, alpha=0.15, linewidth=0)


def _cross(panel: Axes, means: np.ndarray, low: np.ndarray, high: np.ndarray, look: Style) -> None:
    right, up = np.maximum([means - low, high - means], 0).transpose(2, 0, 1)  # rounding may put a mean beyond an end
    look = look | {"linestyle": "none"}
    panel.errorbar(means[:, 0], means[:, 1], up, right, **look, elinewidth=1, capsize=2)
