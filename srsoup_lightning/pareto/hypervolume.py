"""Hypervolume of a front."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from srsoup_lightning.pareto.base import FrontMean, as_array, require_points


def hypervolume(points: Tensor, reference: Tensor) -> float:
    """Return the volume between a reference point and P points, by moocore (Fonseca et al. 2006).

    Args:
        points: (P, M), higher is better.
        reference: (M,). Points below it in any reward add no volume.

    Raises:
        ValueError: A point or the reference isn't finite, or their widths differ.
    """
    import moocore

    if points.ndim != 2 or reference.shape != points.shape[1:]:
        raise ValueError(f"points {tuple(points.shape)} and reference {tuple(reference.shape)}: give (P, M) and (M,)")
    require_points(points, reference[None])
    return float(moocore.hypervolume(as_array(points), ref=as_array(reference), maximise=True))


class Hypervolume(FrontMean):
    """Mean hypervolume over fronts, each scaled so that the box from `low` to `high` has volume 1.

    Args:
        low: Reference point, one number for each reward.
        high: Opposite corner, above `low` in each reward. Points may lie beyond it.
        sync_on_compute: Whether the mean is over all processes. Then all of them must call ``compute``.

    Raises:
        ValueError: The corners have different lengths, or `high` isn't above `low` in each reward.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float], sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        if len(low) != len(high) or not all(above > below for below, above in zip(low, high, strict=True)):
            raise ValueError(f"low is {list(low)} and high {list(high)}: give corners with low below high everywhere")
        self.low, self.high = torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)

    def update(self, points: Tensor) -> None:
        """Add one front, points (P, M).

        Raises:
            ValueError: A point isn't finite or has another number of rewards.
        """
        if points.shape[1:] != self.low.shape:
            raise ValueError(f"points are {tuple(points.shape)}: give (P, {len(self.low)}), a number a reward")
        scaled = (points.double().cpu() - self.low) / (self.high - self.low)
        self.add(hypervolume(scaled, torch.zeros_like(self.low)))
