"""Agreement of pictures with their preferences."""

from __future__ import annotations

import torch
from torch import Tensor

from srsoup_lightning.pareto.base import FrontMean, require_points


def utility(points: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the rewards of each picture by its own preference, (P,).

    Args:
        points: (P, M), rewards in comparable units, such as standardised ones.
        weights: (P, M), the preference of each picture.

    Raises:
        ValueError: The shapes differ, or a number isn't finite.
    """
    _require_pairs(points, weights)
    return (points * weights).sum(1)


def spearman(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rank correlation of two columns (P,), from -1 to 1. Ties share the mean of their ranks.

    Raises:
        ValueError: The lengths differ, a number isn't finite, or a column is constant and has no rank correlation.
    """
    _require_pairs(first[:, None], second[:, None])
    ranks = torch.stack([_ranks(first), _ranks(second)])
    centred = ranks - ranks.mean(1, keepdim=True)
    lengths = centred.norm(dim=1)
    if not lengths.all():
        constant = (first, second)[int(lengths.argmin())]
        raise ValueError(f"all {len(first)} values are {float(constant[0]):g}: a constant has no rank correlation")
    return float((centred[0] / lengths[0]) @ (centred[1] / lengths[1]))


def _ranks(values: Tensor) -> Tensor:
    """Return the ranks (P,) of values (P,) from 1 on, ties at their mean; float64."""
    below = (values[:, None] > values).sum(1)
    equal = (values[:, None] == values).sum(1)
    return below + (equal.double() + 1) / 2


def _require_pairs(points: Tensor, weights: Tensor) -> None:
    require_points(points, weights)
    if len(points) != len(weights):
        raise ValueError(f"{len(points)} points and {len(weights)} weights: give one for each point")


class Utility(FrontMean):
    """Mean over fronts of the mean over pictures of :func:`utility`."""

    def update(self, points: Tensor, weights: Tensor) -> None:
        """Add one front, points (P, M) and their preferences (P, M).

        Raises:
            ValueError: The shapes differ, or a number isn't finite.
        """
        self.add(utility(points, weights).double().mean())


class Monotonicity(FrontMean):
    """Mean over fronts of each reward's rank correlation with its own weight, (M,); 1 if more weight never gives less.

    Args:
        rewards: Number M of rewards, at least 1.
    """

    def __init__(self, rewards: int) -> None:
        super().__init__((rewards,))

    def update(self, points: Tensor, weights: Tensor) -> None:
        """Add one front, points (P, M) and their preferences (P, M).

        Raises:
            ValueError: The shapes differ, a number isn't finite, or a reward or its weight is constant.
        """
        if points.shape[1:] != self.total.shape or weights.shape[1:] != self.total.shape:
            raise ValueError(f"points are {tuple(points.shape)}: give (P, {len(self.total)}), a number a reward")
        columns = zip(points.unbind(1), weights.unbind(1), strict=True)
        self.add(torch.tensor([spearman(weight, reward) for reward, weight in columns], dtype=torch.float64))
