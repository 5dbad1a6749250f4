"""Spread of a front."""

from __future__ import annotations

from torch import Tensor

from srsoup_lightning.pareto.base import FrontMean
from srsoup_lightning.pareto.reference_front import nondominated


def maximum_spread(points: Tensor) -> float:
    """Return the diagonal of the smallest box around the nondominated points, divided by the square root of M.

    This is the maximum spread of Zitzler (1999, "Evolutionary algorithms for multiobjective optimization", thesis, ETH
    Zurich) as Deb normalises it (2001, "Multi-objective optimization using evolutionary algorithms"):
    ``sqrt(mean over rewards of range^2)``. With points in units of a box it is 1 for a front that spans the box, and 0
    for a single point. It is defined for any number of rewards, and does not measure how evenly the front is filled.

    Args:
        points: (P, M), higher is better, in units of the box.

    Raises:
        ValueError: A point isn't finite, or there is none.
    """
    front = nondominated(points).double()
    return float((front.amax(0) - front.amin(0)).square().mean().sqrt())


class MaximumSpread(FrontMean):
    """Mean over fronts of :func:`maximum_spread`."""

    def update(self, points: Tensor) -> None:
        """Add one front, points (P, M).

        Raises:
            ValueError: A point isn't finite, or there is none.
        """
        self.add(maximum_spread(points))
