"""Choice of the trajectories to go on with: the best of a pool at the start, and of the soup's own on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """Let trajectories start from the best ones of a pool.

    The first steps decide the content of a picture, and one start may be far from good for any preference. Unsteered
    trajectories whose previews are scored once find a better start for fewer queries than a search does.

    Args:
        pool: Number of unsteered trajectories, at least 2.
        start: Share of the steps after which the pool is scored and the search begins, in (0, 1).
        shared: Let all preferences start from the one that serves their mean best. So they show one scene and can use
            each other's candidates. If False, each preference starts from the one that serves it best. Of many
            preferences, few starts remain then, because the extremes serve most of them best.
        jump: Take each member of the pool to the start of the search by one deterministic step. So a member costs two
            predictions, whatever the number of steps. If False, it takes all steps before the start, with their noise.

    Raises:
        ValueError: A number is outside its range.
    """

    pool: int = 96
    start: float = 0.2
    shared: bool = True
    jump: bool = False

    def __post_init__(self) -> None:
        if self.pool < 2:
            raise ValueError(f"pool is {self.pool}: there is nothing to select from, give at least 2")
        if not 0 < self.start < 1:
            raise ValueError(f"start is {self.start}: give a share of the steps in (0, 1), e.g. 0.2")

    def first_step(self, steps: int) -> int:
        """Return the step before which the pool is scored, of so many steps."""
        return round(self.start * steps)


@dataclass(frozen=True)
class Resampling:
    """Let each preference go on from the trajectory that serves it best, after each step of a range.

    The candidates around a trajectory tell how well it serves every preference, so this costs no query. Preferences
    that go on from one trajectory share its next prediction, and use each other's candidates at their full worth. It
    pays where candidates are pooled. Neighbours on the front then look more alike.

    Args:
        start: Share of the steps before the first resampling, in [0, 1). In the first steps, trajectories are close,
            and their rewards differ by chance.
        stop: Share of the steps from which on there is none, in (start, 1]. The trajectories then part for good.

    Raises:
        ValueError: A number is outside its range.
    """

    start: float = 0.3
    stop: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(
                f"Resampling({self.start}, {self.stop}) has no steps: give shares with 0 <= start < stop <= 1"
            )

    def after(self, step: int, steps: int) -> bool:
        """Return whether trajectories are resampled after step 0 ... steps - 1."""
        return self.start <= step / steps < self.stop


def ancestors(rewards: Tensor, weights: Tensor, unit: Tensor) -> Tensor:
    """Return the index (P,) of the trajectory that each one goes on from: the one that serves its preference best.

    It is its own where no other serves it better. A trajectory that lacks a reward with weight for a preference does
    not serve this one. If it is the preference's own, the preference stays there.

    Args:
        rewards: Rewards of the trajectories, (P, M). NaN where they are not known.
        weights: Their preferences, (P, M).
        unit: Difference of each reward that counts as 1, (M,). 0 leaves a reward without influence.
    """
    influence = weights * torch.where(unit > 0, 1 / unit, 0.0)
    missing = ((weights > 0).unsqueeze(1) & rewards.isnan()).any(2)
    values = (influence @ rewards.nan_to_num().T).masked_fill(missing, -torch.inf)
    own = torch.arange(len(values), device=values.device)
    better = (values.amax(1) > values.diagonal()) & ~missing.diagonal()
    return torch.where(better, values.argmax(1), own)
