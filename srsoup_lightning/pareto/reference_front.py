"""Distance of a front to a reference front."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.pareto.base import FrontMean, as_array, require_points


def nondominated(points: Tensor) -> Tensor:
    """Return the nondominated points (R, M) of points (P, M), each once.

    A point is dominated if another one is at least as good in every reward and better in some reward.

    Raises:
        ValueError: A point isn't finite, or there is none.
    """
    import moocore

    require_points(points)
    return points[torch.from_numpy(moocore.is_nondominated(as_array(points), maximise=True)).to(points.device)]


def inverted_distance(points: Tensor, reference: Tensor) -> float:
    """IGD+ (Ishibuchi et al. 2015, "Modified distance calculation in generational distance and IGD"), by moocore.

    It is the mean over the reference points of the distance to the nearest point. Only the rewards in which that point
    is worse count: ``d(z, a) = || max(z - a, 0) ||``. It is 0 for a front that is at least as good as the reference.
    Unlike plain IGD it never prefers a front to one that dominates it.

    Args:
        points: (P, M), higher is better, in units that make the rewards alike.
        reference: (R, M), in the same units, such as :func:`nondominated` of the points of all runs together.

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
