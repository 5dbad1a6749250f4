"""Choice of the trajectories to go on with: the best of a pool at the start, and of the soup's own on the way."""

from __future__ import annotations

import math
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
    """Let preferences go on from the trajectories that serve them best, after each step of a range.

    The candidates around a trajectory tell how well it serves every preference, so this costs no query. Preferences
    that go on from one trajectory share its next prediction, and use each other's candidates at their full worth. It
    pays where candidates are pooled. Neighbours on the front then look more alike.

    Args:
        start: Share of the steps before the first resampling, in [0, 1). In the first steps, trajectories have hardly
            parted.
        stop: Share of the steps from which on there is none, in (start, 1].
        margin: Number of standard errors, at least 0, by which a preference must be served better to leave its own
            trajectory. With 0, chance brings trajectories together too, and the front becomes narrow.

    Raises:
        ValueError: A number is outside its range.
    """

    start: float = 0.3
    stop: float = 0.8
    margin: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(
                f"Resampling({self.start}, {self.stop}) is no range of steps: give shares with 0 <= start < stop <= 1"
            )
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin is {self.margin}: give a finite number of standard errors, at least 0")

    def after(self, step: int, steps: int) -> bool:
        """Return whether trajectories are resampled after step 0 ... steps - 1."""
        return self.start <= step / steps < self.stop


def ancestors(means: Tensor, counts: Tensor, deviations: Tensor, weights: Tensor, margin: float) -> Tensor:
    """Return the index (P,) of the trajectory that each one goes on from: the one that serves its preference best.

    It is its own where no other serves it better by more than the margin. A trajectory that lacks a reward with weight
    for a preference does not serve this one. If it is the preference's own, the preference stays there.

    Args:
        means: Mean rewards of the candidates around each trajectory, (P, M). NaN where none is known.
        counts: Numbers of these candidates, (P, M).
        deviations: Standard deviation of each reward among the candidates of one trajectory, (M,): its unit, by which
            standard errors follow from the counts. Rewards that don't deviate have no influence.
        weights: Preferences, (P, M).
        margin: Standard errors of the difference between two trajectories.
    """
    weights = weights * (deviations > 0)
    values = weights @ (means.nan_to_num() / torch.where(deviations > 0, deviations, 1.0)).T
    gains = values - values.diagonal().unsqueeze(1)
    variances = (1 / counts.clamp_min(1)).nan_to_num()
    errors = (weights.square() @ variances.T + (weights.square() * variances).sum(1, keepdim=True)).sqrt()
    missing = ((weights > 0).unsqueeze(1) & means.isnan()).any(2)
    better = (gains > margin * errors) & ~missing & ~missing.diagonal().unsqueeze(1)
    own = torch.arange(len(means), device=means.device)
    return torch.where(better.any(1), values.masked_fill(~better, -torch.inf).argmax(1), own)
