"""Scalarisation: from rewards and a preference between them to one number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rewards.checks import require_choice

Scalarisation = Literal["linear", "tchebycheff", "ranks"]
IDEAL = 6.0  # ideal point of Tchebycheff, in standard deviations above the mean: the upper end of the hypervolume's box


class Units(NamedTuple):
    """Zero and unit of each reward, both (M,), for instance the mean and the standard deviation of unsteered samples.

    Attributes:
        zero: Reward that counts as 0.
        unit: Difference that counts as 1, above 0. Infinity leaves a reward without influence.
    """

    zero: Tensor
    unit: Tensor

    @classmethod
    def of(cls, rewards: Tensor) -> Units:
        """Return the mean and the standard deviation of rewards (K, M). A constant reward has an infinite unit."""
        return cls(rewards.mean(0), deviation(rewards))

    def standardise(self, rewards: Tensor) -> Tensor:
        """Return rewards (..., M) in these units."""
        return (rewards - self.zero) / self.unit


def deviation(rewards: Tensor) -> Tensor:
    """Return the standard deviation (M,) of rewards (K, M), infinite where all are equal: such a reward has no say."""
    varies = rewards.amin(0) < rewards.amax(0)
    return torch.where(varies, rewards.std(0, correction=0), torch.inf)


def linear(rewards: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sums (..., B) of rewards (..., B, M) with weights (..., M)."""
    return (rewards @ weights.unsqueeze(-1)).squeeze(-1)


def tchebycheff(rewards: Tensor, weights: Tensor, ideal: float = IDEAL) -> Tensor:
    """Return minus the largest weighted shortfall from the ideal point, (..., B).

    ``-max_m w_m (ideal - r_m)`` (Bowman 1976; Miettinen 1999, section 3.4). Unlike weighted sums, its maxima reach the
    concave parts of a front too.

    Args:
        rewards: (..., B, M) in units that make the rewards alike.
        weights: (..., M), at least 0. Rewards without weight do not count.
        ideal: Reward of the ideal point, in the same units.
    """
    weights = weights.unsqueeze(-2)
    return -torch.where(weights > 0, weights * (ideal - rewards), -torch.inf).amax(-1)


def mean_rank(rewards: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of each row's ranks, (..., B), in [0, 1]: the share of rows that are worse.

    Ties count half.

    Args:
        rewards: (..., B, M). Ranks are those among these B rows.
        weights: (..., M).
    """
    others = max(rewards.shape[-2] - 1, 1)
    columns = rewards.mT.contiguous()
    ordered = columns.sort(-1).values
    worse, no_better = (torch.searchsorted(ordered, columns, right=right) for right in (False, True))
    return linear((worse + no_better - 1).mT.to(weights.dtype) / (2 * others), weights)


@dataclass(frozen=True, eq=False)
class Value:
    """Value of rewards to one preference, or to P of them.

    Args:
        weights: Weights of the preference (M,), or of each preference (P, M).
        kind: "linear" sums standardised rewards, "tchebycheff" takes the largest shortfall from the ideal point, and
            "ranks" the mean rank among the rows that are compared.
        units: Units of the rewards. None takes the rewards as they are.

    Raises:
        ValueError: The kind is unknown.
    """

    weights: Tensor
    kind: Scalarisation = "linear"
    units: Units | None = None

    def __post_init__(self) -> None:
        require_choice("scalarisation", self.kind, Scalarisation)

    def in_units_of(self, rewards: Tensor) -> Value:
        """Return the same value in units of rewards (K, M): zero is their mean, and 1 their standard deviation."""
        return replace(self, units=Units.of(rewards))

    def __call__(self, rewards: Tensor) -> Tensor:
        """Return the values (B,) of rewards (B, M) to one preference.

        With P preferences, these are values (P, B) of rewards (P, B, M), each row of its own preference, or of rewards
        (1, B, M) to all of them.
        """
        if self.kind == "ranks":
            return mean_rank(rewards, self.weights)
        standardised = rewards if self.units is None else self.units.standardise(rewards)
        return (linear if self.kind == "linear" else tchebycheff)(standardised, self.weights)

    def slopes(self, rewards: Tensor) -> Tensor:
        """Return the derivatives (P, B, M) of the values of rewards (P, B, M) by these rewards.

        Raises:
            ValueError: The value is a rank, which has none.
        """
        if self.kind == "ranks":
            raise ValueError("ranks have no derivative: give scalarisation: linear or tchebycheff")
        units = self.units or Units(torch.zeros_like(self.weights[0]), torch.ones_like(self.weights[0]))
        weights = self.weights.unsqueeze(-2)
        if self.kind == "linear":
            return (weights / units.unit).expand_as(rewards)
        shortfalls = torch.where(weights > 0, weights * (IDEAL - units.standardise(rewards)), -torch.inf)
        largest = torch.nn.functional.one_hot(shortfalls.argmax(-1), rewards.shape[-1])
        return largest * weights / units.unit


def best_index(rewards: Tensor, weights: Tensor) -> Tensor:
    """Return the index (P,) of the point that serves each preference best, by the sum of its standardised rewards.

    Args:
        rewards: Rewards of the points, (K, M).
        weights: Weights of the preferences, (P, M).
    """
    return (weights @ (rewards / deviation(rewards)).T).argmax(1)
