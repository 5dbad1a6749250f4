"""Where to start the search: the best of a pool."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """Begin all trajectories from the best of a pool.

    The first steps settle what a picture shows, and one start may be far from good for any preference: unsteered
    trajectories, judged once by their previews, find a better one for fewer queries than a search does. It is one for
    all preferences, the one that serves their mean best, so that they show one scene and can lend each other
    candidates.

    Args:
        pool: How many unsteered trajectories are drawn, at least 2.
        start: After which share of the steps the pool is judged and the search begins, in (0, 1).

    Raises:
        ValueError: A number outside its range.
    """

    pool: int = 96
    start: float = 0.2

    def __post_init__(self) -> None:
        if self.pool < 2:
            raise ValueError(f"pool is {self.pool}: there is nothing to select from, give at least 2")
        if not 0 < self.start < 1:
            raise ValueError(f"start is {self.start}: give a share of the steps in (0, 1), e.g. 0.2")

    def start_at(self, steps: int) -> int:
        """The step before which the pool is judged."""
        return round(self.start * steps)


def unit_of(rewards: Tensor) -> Tensor:
    """The standard deviation (M,) of rewards (K, M), infinite where all are equal: then a reward has no say."""
    varies = rewards.amin(0) < rewards.amax(0)
    return torch.where(varies, rewards.std(0, correction=0), torch.inf)


def choose(rewards: Tensor, weights: Tensor) -> Tensor:
    """The one (P,) of K points that serves each preference best, by the weighted sum of its standardised rewards.

    Args:
        rewards: Of the points, (K, M).
        weights: Of the preferences, (P, M).
    """
    return (weights @ (rewards / unit_of(rewards)).T).argmax(1)
