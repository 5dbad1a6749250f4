"""Where to search: the best of a pool to start from, and neighbours to follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """Begin all from the best of a pool, and let every preference follow whoever does better for it later.

    The first steps settle what a picture shows, and one start may be far from good for any preference: unsteered
    trajectories, judged once by their previews, find a better one for fewer queries than a search does. It is one for
    all preferences, so that they show one scene and lend each other candidates; it serves their mean best. Later every
    trajectory is judged by its own preview, and a preference goes on from the one that serves it best.

    Args:
        pool: How many unsteered trajectories are drawn, at least 2.
        start: After which share of the steps the pool is judged and the search begins, in (0, 1).
        again: After which shares of the steps trajectories are judged again, each in (start, 1).

    Raises:
        ValueError: A number outside its range.
    """

    pool: int = 96
    start: float = 0.2
    again: tuple[float, ...] = (0.55, 0.75)

    def __post_init__(self) -> None:
        if self.pool < 2:
            raise ValueError(f"pool is {self.pool}: there is nothing to select from, give at least 2")
        if not 0 < self.start < 1:
            raise ValueError(f"start is {self.start}: give a share of the steps in (0, 1), e.g. 0.2")
        late = [share for share in self.again if not self.start < share < 1]
        if late:
            raise ValueError(f"again holds {late[0]}: give shares of the steps between start, {self.start}, and 1")

    def start_at(self, steps: int) -> int:
        """The step before which the pool is judged."""
        return round(self.start * steps)

    def steps(self, steps: int) -> set[int]:
        """All steps before which trajectories are judged."""
        return {self.start_at(steps), *(round(share * steps) for share in self.again)}


def unit_of(rewards: Tensor) -> Tensor:
    """The standard deviation (M,) of rewards (K, M), infinite where all are equal: then a reward has no say."""
    varies = rewards.amin(0) < rewards.amax(0)
    return torch.where(varies, rewards.std(0, correction=0), torch.inf)


def choose(rewards: Tensor, weights: Tensor, unit: Tensor, place: Tensor | None = None) -> Tensor:
    """The one (P,) of K points that serves each preference best, by the weighted sum of its rewards.

    Args:
        rewards: Of the points, (K, M).
        weights: Of the preferences, (P, M).
        unit: What each reward is measured in, (M,), above 0.
        place: Where each preference stands now, (P,): it leaves only for a point that is better.
    """
    utility = weights @ (rewards / unit).T
    best = utility.argmax(1)
    if place is None:
        return best
    everyone = torch.arange(len(best), device=best.device)
    return torch.where(utility[everyone, best] > utility[everyone, place], best, place)
