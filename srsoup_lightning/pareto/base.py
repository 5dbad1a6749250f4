"""Base class of the measures, and the check of their points."""

from __future__ import annotations

import abc

import torch
from torch import Tensor
from torchmetrics import Metric


class FrontMean(Metric, abc.ABC):
    """Mean of a measure over fronts. The ``update`` of a subclass measures one front and adds it.

    Args:
        shape: Shape of the measure, () for a number.
        sync_on_compute: Whether the mean is over all processes. Then all of them must call ``compute``.
    """

    full_state_update: bool | None = False
    higher_is_better: bool | None = True
    is_differentiable: bool | None = False
    total: Tensor
    fronts: Tensor

    def __init__(self, shape: tuple[int, ...] = (), sync_on_compute: bool = True) -> None:
        super().__init__(sync_on_compute=sync_on_compute)
        self.add_state("total", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("fronts", torch.tensor(0, dtype=torch.int64), dist_reduce_fx="sum")

    def add(self, measured: float | Tensor) -> None:
        """Add the measure of one front, of the shape of this measure."""
        self.total += measured
        self.fronts += 1

    def compute(self) -> Tensor:
        """Return the mean over fronts, float32, of the shape of this measure.

        Raises:
            ValueError: No front was added.
        """
        if not self.fronts:
            raise ValueError(f"{type(self).__name__} has seen no front: update it first")
        return (self.total / self.fronts).float()


def require_points(points: Tensor, *others: Tensor) -> None:
    """Check that all tables are (P, M), each with its own P of at least 1 and the same M, and have finite numbers.

    Raises:
        ValueError: One of them isn't.
    """
    for table in (points, *others):
        if table.ndim != 2 or not table.numel() or table.shape[1] != points.shape[1]:
            shapes = " and ".join(str(tuple(given.shape)) for given in (points, *others))
            raise ValueError(f"points are {shapes}: give (P, M), at least one point and as many rewards everywhere")
        if not torch.isfinite(table).all():
            raise ValueError("a point isn't finite: NaN would be a silent 0, so leave it out or score again")


def as_array(points: Tensor) -> object:
    """Convert points of any shape to a NumPy array of float64, as moocore needs it."""
    return points.detach().double().cpu().numpy()
