"""How far a front stays behind a reference front."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.pareto.base import FrontMean, as_array, require_points


def nondominated(points: Tensor) -> Tensor:
    """The rows of points (P, M) that no other row is at least as good as everywhere and better somewhere; each once.

    Raises:
        ValueError: A point isn't finite, or there is none.
    """
    import moocore

    require_points(points)
    return points[torch.from_numpy(moocore.is_nondominated(as_array(points), maximise=True)).to(points.device)]


def inverted_distance(points: Tensor, reference: Tensor) -> float:
    """IGD+ (Ishibuchi et al. 2015, "Modified distance calculation in generational distance and IGD"), by moocore.

    The mean over the reference points of the distance to the nearest point, where only the rewards in which that point
    is worse count: ``d(z, a) = || max(z - a, 0) ||``. 0 is reached by a front that is nowhere behind. Unlike plain IGD
    it never prefers a front to one that dominates it.

    Args:
        points: (P, M), higher is better, in units that make the rewards alike.
        reference: (R, M), in the same units, for instance :func:`nondominated` of all runs' points together.

    Raises:
        ValueError: A point isn't finite, there is none, or the widths differ.
    """
    import moocore

    require_points(points, reference)
    return float(moocore.igd_plus(as_array(points), ref=as_array(reference), maximise=True))


class InvertedGenerationalDistance(FrontMean):
    """Mean over fronts of :func:`inverted_distance` (IGD+); lower is better."""

    higher_is_better: bool | None = False

    def update(self, points: Tensor, reference: Tensor) -> None:
        """Add one front, points (P, M), and the front (R, M) that it is compared with.

        Raises:
            ValueError: A point isn't finite, there is none, or the widths differ.
        """
        self.add(inverted_distance(points, reference))
