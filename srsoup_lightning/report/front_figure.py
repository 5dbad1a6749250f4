"""Figure of the front of each run, with its confidence band."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from srsoup_lightning.pareto.bootstrap import LEVELS, resampled
from srsoup_lightning.report.comparison import Comparison
from srsoup_lightning.report.figure_style import Style, legend, panels, style
from srsoup_lightning.report.measures import Measured, Weights, means_of
from srsoup_lightning.report.units import Box, own_units
from srsoup_lightning.runs.reading import Run
from srsoup_lightning.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch

ONE_POINT = 1e-3  # share of a run's interval: preferences closer than that look like one point
BLOCKS = 50  # of resamples, computed one after the other: thousands of prompts at once would take gigabytes
DIRECTIONS = 64  # in which hulls are drawn


def draw_fronts(comparison: Comparison) -> Figure:
    """Draw the mean of each preference over prompts, with a panel for each pair of rewards.

    A line joins the preferences that weigh only the two rewards of the panel. Its band joins ellipses, whose axes are
    the 95 % bootstrap intervals of both means.
    """
    rewards = comparison.units.rewards
    pairs = list(combinations(range(len(rewards)), 2))
    figure, drawn = panels(len(pairs))
    for (i, j), panel in zip(pairs, drawn, strict=True):
        for number, run in enumerate(comparison.runs):
            _front(panel, run, (i, j), style(number))
        panel.set(xlabel=printable(rewards[i]), ylabel=printable(rewards[j]))
    figure.suptitle(printable(f"means over prompts, in {comparison.units.unit}"), fontsize="medium")
    legend(figure, [run.name for run in comparison.runs])
    return figure


def draw_fronts_in_box(runs: Sequence[Run], box: Box | None) -> Figure:
    """Draw the fronts of runs with at least two rewards on the same prompts, in the rewards' own units, with the box.

    Args:
        runs: At least one run. All have the same rewards.
        box: Box that the axes show all of; None for no box.
    """
    units = own_units(runs[0])
    measured = [Measured(run, {}, means_of(run, units)) for run in runs]
    figure = draw_fronts(Comparison(measured, units, {}, frozenset(), ()))
    if box is not None:
        for (a, b), panel in zip(combinations(units.rewards, 2), figure.axes, strict=False):
            _draw_box(panel, box[a], box[b])
    return figure


def _draw_box(panel: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    from matplotlib.patches import Rectangle

    (left, right), (bottom, top) = across, up
    sides = Rectangle((left, bottom), right - left, top - bottom, fill=False, linestyle=":", edgecolor="0.5")
    panel.add_patch(sides)
    panel.autoscale_view()


def _front(panel: Axes, run: Measured, pair: tuple[int, int], look: Style) -> None:
    """Draw one run in one panel: a line and its band, or a cross where preferences change nothing."""
    known = [weights for weights, means in run.means.items() if weights and len(means) == len(run.means[()])]
    line = sorted(weights for weights in known if np.isclose(weights[pair[0]] + weights[pair[1]], 1))
    means, low, high = _means_and_ends(run, line or [()], pair)
    if (np.ptp(means, axis=0) <= ONE_POINT * (high - low).max(0)).all():
        _cross(panel, *_means_and_ends(run, [()], pair), look)
        return
    panel.plot(*means.T, **look, markersize=5)
    panel.add_patch(_band(low, high, look["color"]))
    if inner := [weights for weights in known if weights not in line]:
        panel.plot(*_means_and_ends(run, inner, pair)[0].T, **look | {"linestyle": "none"}, markersize=3, alpha=0.5)


def _means_and_ends(
    run: Measured, preferences: Sequence[Weights], pair: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean over prompts of K preferences in two rewards, and the ends of its intervals, (K, 2) each."""
    prompts = list(run.means[()])
    points = np.array(
        [[run.means[weights][prompt].numpy()[list(pair)] for prompt in prompts] for weights in preferences]
    )
    blocks = np.array_split(resampled(len(prompts)), BLOCKS)
    resamples = [np.concatenate([of_one[block].mean(1) for block in blocks]) for of_one in points]
    low, high = np.quantile(resamples, LEVELS, axis=1)
    return points.mean(1), low, high


def _band(low: np.ndarray, high: np.ndarray, color: str) -> PathPatch:
    """Return K ellipses, as wide as from low to high (K, 2), each joined to the next by the convex hull of both.

    Boxes of the same extent would have corners, and a band of few prompts, whose intervals are wide, would look torn.
    In each direction, a point of the hull is that of the ellipse that reaches farther. All hulls have one orientation,
    so that their union is filled once, however they overlap.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    unit = high.max(0) - low.min(0)
    unit[unit == 0] = 1.0  # directions are even in these units, however different those of the rewards are
    centres, axes = (low + high) / 2 / unit, (high - low) / 2 / unit
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False) + np.pi / DIRECTIONS
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    stretched = axes[:, None] * directions  # (K, D, 2)
    lengths = np.maximum(np.linalg.norm(stretched, axis=2, keepdims=True), np.finfo(float).tiny)
    farthest = centres[:, None] + axes[:, None] * stretched / lengths
    reach = (farthest * directions).sum(2, keepdims=True)
    hulls = np.where(reach[:-1] >= reach[1:], farthest[:-1], farthest[1:]) * unit
    closed = np.concatenate([hulls, hulls[:, :1]], axis=1)
    path = Path.make_compound_path(*(Path(hull, closed=True) for hull in closed))
    return PathPatch(path, facecolor=color, alpha=0.15, linewidth=0)


def _cross(panel: Axes, means: np.ndarray, low: np.ndarray, high: np.ndarray, look: Style) -> None:
    right, up = np.maximum([means - low, high - means], 0).transpose(2, 0, 1)  # rounding may put a mean beyond an end
    look = look | {"linestyle": "none"}
    panel.errorbar(means[:, 0], means[:, 1], up, right, **look, elinewidth=1, capsize=2)
